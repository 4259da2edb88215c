//! The embedded queue: all in memory, refilled from the ledger.
//!
//! # Data structures
//!
//! - `known`: every page that this queue has heard of and that has not been reported done: waiting here, or taken by a worker. It makes offering idempotent. A page
//!   that is offered again while a worker has it (the ledger hands a given-back page over before the worker says so) is remembered and offered
//!   again when the worker is done with it.
//! - per lane a `Turns`: a ring of apps, each with a ring of legs, each with its references in the order they came. Taking goes
//!   round both rings, so a leg of ten thousand pages and a leg of ten progress at the same rate.
//! - per lane a heap of references that are not due yet, by due time.
//!
//! One mutex guards it all; it is held for microseconds and never across an await.

mod state;
mod turns;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bugle_model::{AppId, Clock, Lane, PageId, PageRef, Route};
use tokio::sync::Notify;

use self::state::State;
use crate::{Config, Queue, Want};

/// The embedded queue.
pub struct Memory {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Something may have become takeable.
    offered: Notify,
    /// A lane that dropped references has room again.
    hungry: Notify,
}

impl Memory {
    /// An empty queue.
    #[must_use]
    pub fn new(config: &Config, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            state: Mutex::new(State::new(config.references)),
            offered: Notify::new(),
            hungry: Notify::new(),
        }
    }

    /// The same, as a part of another queue that counts for itself.
    pub(crate) fn without_metrics(config: &Config, clock: Arc<dyn Clock>) -> Self {
        let memory = Self::new(config, clock);
        memory.state().silence();
        memory
    }

    /// Does it wait here, or is it in a worker's hands?
    pub(crate) fn knows(&self, page: PageId) -> bool {
        self.state().knows(page)
    }

    /// [`Queue::hold`], and the pages that were dropped.
    pub(crate) fn hold_dropping(&self, app: &AppId, route: Route) -> Vec<PageId> {
        self.state().hold(app, route)
    }

    /// Asks for the ledger to be read: references may have been lost elsewhere.
    pub(crate) fn look(&self) {
        self.hungry.notify_one();
    }

    /// How many references of a lane wait.
    pub(crate) fn waiting(&self, lane: Lane) -> usize {
        self.state().waiting(lane)
    }

    /// Takes out all that wait.
    pub(crate) fn drain(&self) -> Vec<PageRef> {
        self.state().drain()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held can only come from a bug; what the state then lacks, the sweep of the ledger brings back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Queue for Memory {
    fn offer(&self, pages: Vec<PageRef>) {
        let added = self.state().offer(pages, self.clock.now());
        if added {
            self.offered.notify_waiters();
        }
    }

    async fn take(&self, want: Want) -> Vec<PageRef> {
        loop {
            // Interest is registered before looking, so that an offer in between is not missed.
            let offered = self.offered.notified();
            tokio::pin!(offered);
            offered.as_mut().enable();
            let now = self.clock.now();
            let (taken, next_due, hungry) = {
                let mut state = self.state();
                let taken = state.take(want, now);
                (taken, state.next_due(want), state.hungry())
            };
            if hungry {
                self.hungry.notify_one();
            }
            if !taken.is_empty() {
                return taken;
            }
            let wait = next_due.map_or(Duration::from_secs(60), |due| {
                due.since(now).max(Duration::from_millis(1))
            });
            let _ = tokio::time::timeout(wait, offered).await;
        }
    }

    fn done(&self, pages: &[PageId]) {
        let added = self.state().done(pages, self.clock.now());
        if added {
            self.offered.notify_waiters();
        }
    }

    fn hold(&self, app: &AppId, route: Route) {
        self.hold_dropping(app, route);
    }

    fn release(&self, app: &AppId, route: Route) {
        self.state().release(app, route);
        self.hungry.notify_one();
    }

    async fn hungry(&self) {
        self.hungry.notified().await;
    }

    async fn refill(&self, lane: Lane, pages: Vec<PageRef>, complete: bool) {
        let added = {
            let mut state = self.state();
            // Told before the offer: what is then dropped for lack of room counts as dropped again.
            state.refilled(lane, complete);
            state.offer(pages, self.clock.now())
        };
        if added {
            self.offered.notify_waiters();
        }
    }

    fn room(&self) -> usize {
        self.state().room()
    }
}

#[cfg(test)]
mod tests;
