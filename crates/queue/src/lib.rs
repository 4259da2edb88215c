//! Who works on which page.
//!
//! A queue spreads page references over the threads and processes that send. It is disposable: the ledger knows every page that is not settled, so a
//! queue may lose, repeat and delay references, and nothing is lost. What it must do well is **fairness**: urgent pages do not wait behind bulk ones, and bulk
//! pages are taken in turn from the apps, then from the legs in progress.
//!
//! [`Queue`] is what senders and the fan-out see. [`memory`] is the embedded queue; queues for many processes get folders of their own beside it.

mod config;
pub mod memory;
mod metrics;

pub use config::Config;

use async_trait::async_trait;
use bugle_model::{AppId, Lane, PageId, PageRef, Route};

/// How many pages a worker has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Urgent pages.
    pub urgent: usize,
    /// Bulk pages.
    pub bulk: usize,
}

/// References to pages on their way from the fan-out to the senders.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Adds references. Never blocks; those that it has no room for or knows already are dropped, for [`Queue::hungry`] to fetch later.
    fn offer(&self, pages: Vec<PageRef>);

    /// Waits until a page that is wanted is due, and takes as many as there are and are wanted. Cancel-safe: a call that is dropped has taken nothing.
    async fn take(&self, want: Want) -> Vec<PageRef>;

    /// The worker no longer has these pages: they were settled, given back or lost. References that were offered meanwhile become visible.
    fn done(&self, pages: &[PageId]);

    /// Drops the references of a route, and every further one, until [`Queue::release`].
    fn hold(&self, app: &AppId, route: Route);

    /// Takes references of the route again. The caller reads those that were dropped from the ledger.
    fn release(&self, app: &AppId, route: Route);

    /// Waits until references that were dropped for lack of room should be read from the ledger.
    async fn hungry(&self);

    /// The ledger was read for this lane: `complete` = all that it had were offered.
    fn refilled(&self, lane: Lane, complete: bool);

    /// The most references a lane holds.
    fn room(&self) -> usize;
}
