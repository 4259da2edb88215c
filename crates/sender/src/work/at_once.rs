//! Starts what can start without waiting: most targets of a page.

use std::time::Instant;

use bugle_model::{Target, TargetKind};
use bugle_provider::Slot;

use super::{Mode, STALE, Work};
use crate::delivery::Batch;

/// The tokens of so many targets are fetched together.
const FETCH: usize = 32;

impl Work {
    /// A slot for a target that goes the way of the one before it, if nothing stands in its way: what [`Work::step`] finds out, without waiting.
    pub(super) fn at_once(&mut self, target: &Target) -> Option<(Slot, Instant)> {
        let batch = self.batch.as_ref().filter(|batch| batch.route.route == target.route)?;
        if self.mode == Mode::Probe
            || matches!(target.kind, TargetKind::Skip(_))
            || batch.route.is_held()
            || batch.route.throttled().is_some()
            || !self.thread.gate.is_open()
        {
            return None;
        }
        if self.targets.len().is_multiple_of(FETCH) {
            self.fetch_next();
        }
        let mut pass = std::mem::take(&mut self.pass);
        let now = pass.time(|now| {
            self.must_stop().is_none()
                && now.saturating_duration_since(self.read) < STALE
                && !self.page.lease_too_short(now, self.thread.longest_request)
        });
        let slot = now.and_then(|now| Some((self.free_slot(batch, now)?, now)));
        self.pass = pass;
        slot
    }

    /// Another thread has read the next targets: fetches their tokens into this processor's cache, all at once instead of one after the other.
    fn fetch_next(&self) {
        for target in self.targets.iter().take(FETCH) {
            if let TargetKind::Token(token) = &target.kind {
                std::hint::black_box(token.as_str().as_bytes().first());
            }
        }
    }

    /// A slot that is free, with a permit, if it is this lane's turn.
    fn free_slot(&self, batch: &Batch, now: Instant) -> Option<Slot> {
        let (lane, permits) = (self.page.lane, batch.way.permits.as_ref());
        if !batch.way.concurrency.admits() || permits.is_some_and(|permits| permits.admit(lane).is_err()) {
            return None;
        }
        let slot = batch
            .way
            .turnstile
            .may_pass(lane)
            .then(|| batch.client.try_slot(now))
            .flatten();
        if slot.is_none()
            && let Some(permits) = permits
        {
            permits.refund(lane);
        }
        slot
    }

    pub(super) fn start(&self, slot: Slot, target: Target, now: Instant) {
        if let Some(batch) = &self.batch {
            self.page.start(target.position);
            self.thread.deliveries.send(slot, batch, target, (self.read, now));
        }
    }
}

/// Asks whether targets may leave, and what time it is, once for some that leave one right after the other.
#[derive(Default)]
pub(super) struct Pass {
    last: Option<Instant>,
    left: u8,
}

impl Pass {
    /// So many targets leave within microseconds.
    const TARGETS: u8 = 32;

    /// The time, if `may` was true then.
    fn time(&mut self, may: impl FnOnce(Instant) -> bool) -> Option<Instant> {
        if let (Some(left), Some(last)) = (self.left.checked_sub(1), self.last) {
            self.left = left;
            return Some(last);
        }
        let now = Instant::now();
        self.last = may(now).then_some(now);
        self.left = Self::TARGETS - 1;
        self.last
    }
}
