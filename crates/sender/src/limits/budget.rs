//! The permits that a process has.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use bugle_model::Lane;

/// Bulk's part of what is drawn while it is short: one of so many.
const BULK_PARTS: u32 = 5;
/// The reserve is this part of what one draw may get,
const RESERVE_PARTS: u32 = 5;
/// and no more than this: it never lapses.
const MOST_RESERVE: u32 = 100;
/// A thread's handful is at most this,
const MOST_HANDFUL: u32 = 64;
/// and at most this part of a thread's part of one draw.
const HANDFUL_PARTS: u32 = 8;

/// Counters only: who takes changes them without a lock, the keeper alone adds.
pub(super) struct Budget {
    threads: u32,
    /// For whoever comes, as long as bulk leaves the reserve.
    shared: AtomicU32,
    /// For bulk alone.
    bulk: AtomicU32,
    reserve: AtomicU32,
    handful: AtomicU32,
    /// With fewer than this the keeper draws, so that idle processes have their reserve and draw nothing.
    low: AtomicU32,
    /// What threads took before is void when this has moved on.
    generation: AtomicU64,
    refused: AtomicBool,
    urgent_refused: AtomicBool,
    bulk_refused: AtomicBool,
    /// Urgent messages were refused before the last draw: of that one bulk has its part and no more.
    confined: AtomicBool,
}

/// A handful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handful {
    pub(super) permits: u32,
    /// The keeper should draw.
    pub(super) short: bool,
}

impl Budget {
    pub(super) fn new(threads: usize) -> Self {
        Self {
            threads: u32::try_from(threads).unwrap_or(u32::MAX).max(1),
            shared: AtomicU32::new(0),
            bulk: AtomicU32::new(0),
            reserve: AtomicU32::new(0),
            handful: AtomicU32::new(1),
            low: AtomicU32::new(1),
            generation: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            urgent_refused: AtomicBool::new(false),
            bulk_refused: AtomicBool::new(false),
            confined: AtomicBool::new(false),
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Takes a handful out.
    pub(super) fn take(&self, lane: Lane) -> Handful {
        let most = self.handful.load(Ordering::Relaxed);
        let mut permits = 0;
        if lane == Lane::Bulk {
            permits = take(&self.bulk, most, 0);
        }
        if permits == 0 {
            let leave = match lane {
                Lane::Urgent => 0,
                Lane::Bulk if self.confined.load(Ordering::Relaxed) => u32::MAX,
                Lane::Bulk => self.reserve.load(Ordering::Relaxed),
            };
            permits = take(&self.shared, most, leave);
        }
        if permits == 0 {
            self.refused.store(true, Ordering::Relaxed);
            match lane {
                Lane::Urgent => self.urgent_refused.store(true, Ordering::Relaxed),
                Lane::Bulk => self.bulk_refused.store(true, Ordering::Relaxed),
            }
        }
        Handful {
            permits,
            short: self.is_short(),
        }
    }

    /// Should the keeper draw?
    pub(super) fn is_short(&self) -> bool {
        self.refused.load(Ordering::Relaxed) || self.shared.load(Ordering::Relaxed) < self.low.load(Ordering::Relaxed)
    }

    /// Was anybody refused since this was last asked?
    pub(super) fn was_refused(&self) -> bool {
        self.refused.swap(false, Ordering::Relaxed)
    }

    /// Adds what was drawn, of which `most` was to be had. `owed` = what bulk's part is reckoned from so far; returns what remains of that.
    pub(super) fn add(&self, permits: u32, most: u32, owed: u32) -> u32 {
        let mut owed = owed;
        let mut own = 0;
        if self.bulk_refused.swap(false, Ordering::Relaxed) {
            owed += permits;
            own = (owed / BULK_PARTS).min(permits);
            owed -= own * BULK_PARTS;
        }
        let confined = self.urgent_refused.swap(false, Ordering::Relaxed);
        self.confined.store(confined, Ordering::Relaxed);
        // What nobody wanted does not pile up.
        self.shared.fetch_min(most, Ordering::Relaxed);
        let unused = self.bulk.swap(own, Ordering::Relaxed).min(most);
        self.shared.fetch_add(permits - own + unused, Ordering::Relaxed);
        let reserve = (most / RESERVE_PARTS).min(MOST_RESERVE);
        self.reserve.store(reserve, Ordering::Relaxed);
        self.low.store((permits / 2).max(reserve), Ordering::Relaxed);
        let handful = most / self.threads / HANDFUL_PARTS;
        self.handful.store(handful.clamp(1, MOST_HANDFUL), Ordering::Relaxed);
        owed
    }

    /// What was drawn is too old: only the reserve is left.
    pub(super) fn lapse(&self) {
        let reserve = self.reserve.load(Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.bulk.store(0, Ordering::Relaxed);
        self.shared.fetch_min(reserve, Ordering::Relaxed);
        self.low.store(reserve, Ordering::Relaxed);
    }
}

fn take(counter: &AtomicU32, most: u32, leave: u32) -> u32 {
    let part = |left: u32| left.saturating_sub(leave).min(most);
    let taken = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        let part = part(left);
        (part > 0).then(|| left - part)
    });
    taken.map_or(0, part)
}
