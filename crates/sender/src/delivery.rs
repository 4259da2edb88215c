//! One target's way to the provider and back.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bugle_model::{Flow, Outcome, Target};
use bugle_provider::{Client, Prepared, Slot};

use crate::page::Page;
use crate::routes::RouteState;
use crate::thread::Thread;
use crate::work::{Mode, STALE};

/// A request that the provider did not process goes again at once so often, then it waits its turn.
const AT_ONCE: u32 = 8;

/// What a target's task needs.
pub(crate) struct Delivery {
    pub(crate) thread: Rc<Thread>,
    pub(crate) page: Rc<Page>,
    pub(crate) route: Arc<RouteState>,
    pub(crate) client: Rc<dyn Client>,
    pub(crate) prepared: Prepared,
    pub(crate) read: Instant,
    pub(crate) mode: Mode,
}

impl Delivery {
    pub(crate) async fn run(self, target: Target, slot: Slot) {
        let started = Instant::now();
        let outcome = self.send(&target, slot).await;
        self.thread
            .answered(&self.page, &self.route, &target, &outcome, started, self.mode);
    }

    /// Sends, and once more at once what the provider surely did not process, as long as the page may go on.
    async fn send(&self, target: &Target, mut slot: Slot) -> Outcome {
        for _ in 0..AT_ONCE {
            let outcome = self.client.send(slot, &self.prepared, &target.kind).await;
            let on = self.page.flow() == Flow::Running
                && !self.page.is_lost()
                && !self.thread.stop.is_cancelled()
                && !self.route.is_held();
            if outcome != Outcome::Unprocessed || !on {
                return outcome;
            }
            slot = match self.client.slot().await {
                Ok(slot) => slot,
                Err(outcome) => return outcome,
            };
            if self.read.elapsed() >= STALE || self.page.lease_too_short(self.thread.longest_request) {
                return Outcome::Unprocessed;
            }
        }
        Outcome::Unprocessed
    }
}
