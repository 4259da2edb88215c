//! Brings references from the ledger to a queue that lacks them.

use std::sync::Arc;
use std::time::Duration;

use bugle_model::{Clock, Lane};
use bugle_queue::Queue;
use bugle_store::{Result, Store};
use tokio_util::sync::CancellationToken;

use crate::metrics as names;

/// The loop that refills the queue.
pub struct Refiller {
    /// The ledger.
    pub store: Arc<dyn Store>,
    /// What lacks references.
    pub queue: Arc<dyn Queue>,
    /// What is due.
    pub clock: Arc<dyn Clock>,
    /// How often everything is looked through, whatever the queue says.
    pub every: Duration,
}

impl Refiller {
    /// Runs until it is stopped: at once (the queue of a new process is empty), when the queue asks, and regularly.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            for lane in [Lane::Urgent, Lane::Bulk] {
                if let Err(error) = self.refill(lane).await {
                    metrics::counter!(names::FAILED_ROUNDS, "loop" => "refill").increment(1);
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot read waiting pages: the store failed"
                    );
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                // The pause keeps a queue that is always hungry from reading the ledger all the time.
                () = async { tokio::time::sleep(Duration::from_millis(10)).await; self.queue.hungry().await } => {}
                () = tokio::time::sleep(self.every) => {}
            }
        }
    }

    /// Tells the queue the lane's pages that are due before the look after the next, those due longest ago first.
    ///
    /// It reads twice what the queue can hold: the queue may know the first half already, and then the second half fills it.
    pub async fn refill(&self, lane: Lane) -> Result<()> {
        if self.queue.room() == 0 {
            return Ok(());
        }
        let limit = u32::try_from(self.queue.room().saturating_mul(2)).unwrap_or(u32::MAX);
        let before = self.clock.now().plus(self.every * 2 + Duration::from_secs(1));
        let pages = self.store.due_pages(lane, before, limit).await?;
        let complete = pages.len() < limit as usize;
        self.queue.refill(lane, pages, complete).await;
        Ok(())
    }
}
