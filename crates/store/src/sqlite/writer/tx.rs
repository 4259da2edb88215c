//! What a job sees of its transaction.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bugle_model::PageRef;
use rusqlite::Connection;

use crate::Handover;

/// The transaction that a job runs in: its connection, and what is to be published once it is durable.
pub(crate) struct Tx<'a> {
    conn: &'a Connection,
    outbox: RefCell<Outbox>,
}

#[derive(Default)]
struct Outbox {
    pages: Vec<PageRef>,
    legs: bool,
    after_commit: Vec<Box<dyn FnOnce() + Send>>,
}

/// How far the outbox was filled when a job began; by default, not at all.
#[derive(Clone, Copy, Default)]
pub(super) struct Mark {
    pages: usize,
    legs: bool,
    after_commit: usize,
}

impl<'a> Tx<'a> {
    pub(super) fn new(conn: &'a Connection) -> Self {
        Self {
            conn,
            outbox: RefCell::default(),
        }
    }

    /// The writer's connection; use `prepare_cached` on it.
    pub(crate) fn conn(&self) -> &'a Connection {
        self.conn
    }

    /// Hands a page over once it is durable.
    pub(crate) fn hand_over(&self, page: PageRef) {
        self.outbox.borrow_mut().pages.push(page);
    }

    /// Says, once this is durable, that there may be legs to expand.
    pub(crate) fn wake_legs(&self) {
        self.outbox.borrow_mut().legs = true;
    }

    /// Runs `then` on the writer's thread once this is durable, before the caller is answered. It must not block.
    pub(crate) fn after_commit(&self, then: impl FnOnce() + Send + 'static) {
        self.outbox.borrow_mut().after_commit.push(Box::new(then));
    }

    pub(super) fn mark(&self) -> Mark {
        let outbox = self.outbox.borrow();
        Mark {
            pages: outbox.pages.len(),
            legs: outbox.legs,
            after_commit: outbox.after_commit.len(),
        }
    }

    /// Forgets what was said since the mark.
    pub(super) fn forget_since(&self, mark: Mark) {
        let mut outbox = self.outbox.borrow_mut();
        outbox.pages.truncate(mark.pages);
        outbox.legs = mark.legs;
        outbox.after_commit.truncate(mark.after_commit);
    }

    /// Says everything, after the commit.
    pub(super) fn publish(self, handover: &dyn Handover) {
        let outbox = self.outbox.into_inner();
        for then in outbox.after_commit {
            guarded(then);
        }
        if !outbox.pages.is_empty() {
            guarded(|| handover.pages(outbox.pages));
        }
        if outbox.legs {
            guarded(|| handover.legs());
        }
    }
}

/// A listener's panic must not take the writer down: what it was told of is in the ledger, and sweeps find it.
fn guarded(say: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(say)).is_err() {
        tracing::error!("a listener panicked after a commit");
    }
}
