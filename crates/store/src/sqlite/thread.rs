//! Threads that end with their owner.

use std::thread::{self, JoinHandle};

use crate::{Error, Result};

/// A thread that is waited for when its handle is dropped. Whoever owns it tells the thread to end first.
pub(super) struct Thread(Option<JoinHandle<()>>);

impl Thread {
    /// Starts a thread of that name.
    pub(super) fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<Self> {
        let handle = thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(|e| Error::Unavailable(e.into()))?;
        Ok(Self(Some(handle)))
    }

    /// Waits for its end.
    pub(super) fn join(&mut self) {
        if let Some(handle) = self.0.take() {
            // The last owner of a store may be a job that runs on the thread itself: it cannot wait for its own end.
            if handle.thread().id() != thread::current().id() && handle.join().is_err() {
                tracing::error!("a thread of the store ended by a panic");
            }
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.join();
    }
}
