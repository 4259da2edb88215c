//! What a transaction changes in the accounts of legs.
//!
//! What settling adds, for a page of leg L with `expected` targets: L loses `expected` from targeted and outstanding. Every route
//! in the counts gains its total in targeted, and the counts. Every left-over's route gains one in targeted and outstanding. So
//! `targeted` becomes what was really found, whatever was expected, and a device that has changed its platform is counted where it went.

use std::collections::{BTreeMap, BTreeSet};

use bugle_model::{Counts, DeviceKey, LeftOver, Progress, PushKey, Route, Timestamp};

use super::left_over::LeftOvers;
use crate::codec::progress;
use crate::codec::targets::{Stored, What};

/// So many final answers, all of them about the payload, reject a leg.
const EVIDENCE: u64 = 100;

/// Names a leg: the push, and the route's code.
pub(crate) type LegKey = (PushKey, u8);

/// Do these answers reject a leg?
pub(crate) fn is_refused(answered: u64, payload: u64) -> bool {
    answered >= EVIDENCE && payload >= answered
}

/// May further answers still reject it?
pub(crate) fn weighs_evidence(answered: u64, payload: u64) -> bool {
    answered < EVIDENCE && payload == answered
}

/// What changes in a leg.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Change {
    pub(crate) targeted: i64,
    pub(crate) outstanding: i64,
    pub(crate) counts: Counts,
    pub(crate) answered: u64,
    pub(crate) payload: u64,
}

/// What a transaction changes in all of them, added up until it is written.
pub(crate) struct Accounts {
    /// A leg without a change may have ended.
    pub(crate) changes: BTreeMap<LegKey, Change>,
    pub(crate) left_overs: LeftOvers,
    /// Pushes that may have ended.
    pub(crate) touched: BTreeSet<PushKey>,
}

impl Accounts {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            changes: BTreeMap::new(),
            left_overs: LeftOvers::new(now),
            touched: BTreeSet::new(),
        }
    }

    /// This leg may have ended.
    pub(crate) fn touch_leg(&mut self, push: PushKey, leg: Route) {
        self.change(push, leg);
    }

    /// This push may have ended.
    pub(crate) fn touch_push(&mut self, push: PushKey) {
        self.touched.insert(push);
    }

    /// Providers' final answers on a leg, and how many of them were about the payload.
    pub(crate) fn evidence(&mut self, push: PushKey, leg: Route, answered: u32, payload: u32) {
        let change = self.change(push, leg);
        change.answered += u64::from(answered);
        change.payload += u64::from(payload);
    }

    /// Enters what a page in a row of its own ended as, but for its left-overs.
    pub(crate) fn settle(&mut self, push: PushKey, leg: Route, expected: u64, counts: &[(Route, Counts)]) {
        let expected = i64::try_from(expected).unwrap_or(i64::MAX);
        let change = self.change(push, leg);
        change.targeted -= expected;
        change.outstanding -= expected;
        for (route, counts) in counts {
            let change = self.change(push, *route);
            change.targeted += i64::try_from(counts.total()).unwrap_or(i64::MAX);
            change.counts += *counts;
        }
    }

    /// Enters a page's left-overs. `stored` = its explicit targets; `None` = its positions are devices' keys.
    pub(crate) fn leave_over(&mut self, push: PushKey, left_over: &[LeftOver], stored: Option<&[Stored]>) {
        for left in left_over {
            let what = match stored {
                None => Some(What::Device(DeviceKey(left.position))),
                Some(stored) => usize::try_from(left.position)
                    .ok()
                    .and_then(|p| stored.get(p.checked_sub(1)?))
                    .map(|entry| entry.what.clone()),
            };
            let change = self.change(push, left.route);
            change.targeted += 1;
            if let Some(what) = what {
                change.outstanding += 1;
                self.left_overs.add(push, left, what);
            } else {
                // Nobody can send it, and nobody may wait for it.
                tracing::error!(
                    push = push.0,
                    position = left.position,
                    "a left-over that its page does not have"
                );
                change.counts.failed += 1;
            }
        }
    }

    fn change(&mut self, push: PushKey, leg: Route) -> &mut Change {
        self.changes.entry((push, leg.code())).or_default()
    }
}

/// What stays in the row of a push whose own page is settled: its counts, as progress.
pub(crate) fn of_own_page(counts: Vec<(Route, Counts)>) -> Vec<u8> {
    progress::encode(&Progress {
        counts,
        ..Progress::default()
    })
}
