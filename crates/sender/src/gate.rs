//! Bounds what a crash can repeat.
//!
//! Answers that are known and not yet written down are counted; while there are as many as allowed, no request starts. Since only a start can make
//! (open + unwritten) grow, that sum never exceeds the open requests that the peers allow plus the limit.

use std::cell::Cell;

use tokio::sync::Notify;

/// One thread's share of `sender.max_unsettled`.
pub(crate) struct Gate {
    unwritten: Cell<usize>,
    limit: usize,
    written: Notify,
}

impl Gate {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            unwritten: Cell::new(0),
            limit: limit.max(1),
            written: Notify::new(),
        }
    }

    /// An answer came.
    pub(crate) fn answered(&self) {
        self.unwritten.set(self.unwritten.get() + 1);
    }

    /// So many answers have been written down, or are no longer this process's to write.
    pub(crate) fn wrote(&self, answers: usize) {
        if answers > 0 {
            self.unwritten.set(self.unwritten.get().saturating_sub(answers));
            self.written.notify_waiters();
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.unwritten.get() < self.limit
    }

    /// Is it half full? Then progress should be written without waiting for its time.
    pub(crate) fn pressed(&self) -> bool {
        self.unwritten.get() * 2 >= self.limit
    }

    /// Waits until a request may start.
    pub(crate) async fn pass(&self) {
        while !self.is_open() {
            self.written.notified().await;
        }
    }
}
