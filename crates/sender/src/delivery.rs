//! Targets on their way to a provider and back.
//!
//! A target that leaves gets a ticket, its place in a slab; the provider's client gives it back with the outcome. No task waits for an answer: what a target costs is
//! its entry. What the provider surely did not process goes again at once, from a task of its own, as long as its page may go on.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use bugle_model::{Flow, Lane, Outcome, Target};
use bugle_provider::{Client, Outcomes, Prepared, Slot, Ticket};
use slab::Slab;

use crate::concurrency::Load;
use crate::page::Page;
use crate::routes::RouteState;
use crate::thread::{Thread, Way};
use crate::work::{Mode, STALE};

/// A request that the provider did not process goes again at once so often, then it waits its turn.
const AT_ONCE: u8 = 8;

/// What the targets of a page that go over one route have in common.
pub(crate) struct Batch {
    pub(crate) page: Rc<Page>,
    pub(crate) route: Arc<RouteState>,
    pub(crate) client: Rc<dyn Client>,
    pub(crate) prepared: Prepared,
    pub(crate) way: Way,
    pub(crate) mode: Mode,
}

/// A target on its way. Found cold when its outcome comes: so it begins where a cache line does.
#[repr(align(64))]
struct Delivery {
    batch: Rc<Batch>,
    target: Target,
    /// When it was read.
    read: Instant,
    /// When it left for the first time.
    started: Instant,
    /// How often it has left.
    tries: u8,
}

/// A thread's targets on their way.
pub(crate) struct Deliveries {
    thread: Weak<Thread>,
    open: RefCell<Slab<Delivery>>,
}

impl Deliveries {
    pub(crate) fn new(thread: Weak<Thread>) -> Rc<Self> {
        Rc::new(Self {
            thread,
            open: RefCell::default(),
        })
    }

    /// Sends a target that was read and may leave now.
    pub(crate) fn send(&self, slot: Slot, batch: &Rc<Batch>, target: Target, (read, now): (Instant, Instant)) {
        self.start(
            slot,
            Delivery {
                batch: Rc::clone(batch),
                target,
                read,
                started: now,
                tries: 1,
            },
        );
    }

    fn start(&self, slot: Slot, delivery: Delivery) {
        let mut open = self.open.borrow_mut();
        let entry = open.vacant_entry();
        let ticket = Ticket(entry.key());
        let Delivery { batch, target, .. } = entry.insert(delivery);
        batch.way.concurrency.start();
        // Its outcome comes later: never while it is being sent.
        batch.client.send(slot, &batch.prepared, &target.kind, ticket);
    }
}

impl Outcomes for Deliveries {
    fn ahead(&self, ticket: Ticket) {
        if let Some(delivery) = self.open.borrow().get(ticket.0) {
            // Two cache lines.
            std::hint::black_box((delivery.tries, delivery.target.position));
        }
    }

    fn outcome(&self, ticket: Ticket, outcome: Outcome, _message_id: &str) {
        let Some(delivery) = self.open.borrow_mut().try_remove(ticket.0) else {
            debug_assert!(false, "an outcome came twice");
            return;
        };
        delivery.weigh(ticket, &outcome);
        let Some(thread) = self.thread.upgrade() else { return };
        if outcome == Outcome::Unprocessed && delivery.may_go_again(&thread) {
            tokio::task::spawn_local(delivery.again(thread));
        } else {
            delivery.end(&thread, outcome);
        }
    }
}

impl Batch {
    /// Waits for the lane's turn, for room by what the provider stands, and for a stream.
    pub(crate) async fn slot(&self, lane: Lane) -> Result<Slot, Outcome> {
        let _turn = self.way.turnstile.enter(lane).await;
        self.way.concurrency.room().await;
        self.client.slot().await
    }
}

impl Delivery {
    /// What the outcome says of the provider's load. The time is asked for once in a while only.
    fn weigh(&self, Ticket(number): Ticket, outcome: &Outcome) {
        let measured = number % 16 == 0 && self.tries == 1;
        let latency = measured.then(|| self.started.elapsed());
        let concurrency = &self.batch.way.concurrency;
        concurrency.end();
        concurrency.on_answer(latency, Load::of(outcome));
    }

    fn may_go_again(&self, thread: &Thread) -> bool {
        let page = &self.batch.page;
        self.tries < AT_ONCE
            && page.flow() == Flow::Running
            && !page.is_lost()
            && !thread.stop.is_cancelled()
            && !self.batch.route.is_held()
    }

    async fn again(mut self, thread: Rc<Thread>) {
        let slot = match self.batch.client.slot().await {
            Ok(slot) => slot,
            Err(outcome) => return self.end(&thread, outcome),
        };
        if self.read.elapsed() >= STALE || self.batch.page.lease_too_short(Instant::now(), thread.longest_request) {
            return self.end(&thread, Outcome::Unprocessed);
        }
        self.tries += 1;
        thread.deliveries.start(slot, self);
    }

    fn end(self, thread: &Rc<Thread>, outcome: Outcome) {
        let Batch { page, route, mode, .. } = &*self.batch;
        thread.answered(page, route, &self.target, &outcome, self.started, *mode);
    }
}
