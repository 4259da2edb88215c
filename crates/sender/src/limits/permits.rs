//! A thread's handful of permits.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use bugle_model::Lane;

use super::Quota;

/// Who is refused asks again after so long: the keeper draws several times a second.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// For messages of one app to one provider.
pub(crate) struct Permits {
    quota: Arc<Quota>,
    generation: Cell<u64>,
    urgent: Cell<u32>,
    bulk: Cell<u32>,
}

impl Permits {
    pub(super) fn new(quota: Arc<Quota>) -> Self {
        Self {
            generation: Cell::new(quota.budget.generation()),
            quota,
            urgent: Cell::new(0),
            bulk: Cell::new(0),
        }
    }

    /// Lets one message leave. `Err` = not now; ask again after this time.
    pub(crate) fn admit(&self, lane: Lane) -> Result<(), Duration> {
        let generation = self.quota.budget.generation();
        if generation != self.generation.replace(generation) {
            self.urgent.set(0);
            self.bulk.set(0);
        }
        let hand = self.hand(lane);
        if let Some(left) = hand.get().checked_sub(1) {
            hand.set(left);
            return Ok(());
        }
        let handful = self.quota.budget.take(lane);
        if handful.short {
            self.quota.wanted.notify_one();
        }
        hand.set(handful.permits.saturating_sub(1));
        if handful.permits > 0 { Ok(()) } else { Err(ASK_AGAIN) }
    }

    /// The message did not leave after all.
    pub(crate) fn refund(&self, lane: Lane) {
        let hand = self.hand(lane);
        hand.set(hand.get() + 1);
    }

    fn hand(&self, lane: Lane) -> &Cell<u32> {
        match lane {
            Lane::Urgent => &self.urgent,
            Lane::Bulk => &self.bulk,
        }
    }
}
