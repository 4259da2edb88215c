//! Who works on which page.
//!
//! A queue spreads page references over the threads and processes that send. It is disposable: the ledger knows every page that is not settled, so a
//! queue may lose, repeat and delay references, and nothing is lost. What it must do well is **fairness**: urgent pages do not wait behind bulk ones, and bulk
//! pages are taken in turn from the apps, then from the legs in progress.
//!
//! [`Queue`] is what senders and the fan-out see. [`memory`] is the embedded queue; [`postgres`] is for many processes over one
//! PostgreSQL, [`redis`] for many over one PostgreSQL and one Redis.
//!
//! What a queue has lost comes back by [`Queue::refill`], a loop over the ledger: with the queues in memory and PostgreSQL in each process that sends, with
//! Redis in at least one process of all.

mod config;
mod error;
pub mod memory;
mod metrics;
pub mod postgres;
pub mod redis;
mod wire;

pub use config::{Backend, Config, QueueUrl};
pub use error::Error;

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
    /// Adds references to pages that have just become durable here. Never blocks; those that it has no room for or knows already are dropped, for
    /// [`Queue::hungry`] to fetch later.
    fn offer(&self, pages: Vec<PageRef>);

    /// Adds references to pages that only this process can take.
    fn keep(&self, pages: Vec<PageRef>) {
        self.offer(pages);
    }

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

    /// The ledger was read for this lane: these pages are due or will be soon, those due longest ago first. `complete` = it has no others.
    ///
    /// The queue adds those that it may have lost or dropped.
    async fn refill(&self, lane: Lane, pages: Vec<PageRef>, complete: bool);

    /// The most references a lane holds. 0 = this process needs none, and [`Queue::refill`] would change nothing.
    fn room(&self) -> usize;

    /// The process ends: references that it holds and nobody works on go to the other processes, where there are any. Nothing is taken, offered or
    /// refilled afterwards.
    async fn close(&self) {}
}
