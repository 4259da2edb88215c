//! The queue for many processes over one PostgreSQL, without Redis.
//!
//! # Data structures
//!
//! There is no table: the ledger's page rows are the queue, and taking them (`SKIP LOCKED`, lease, epoch) is the store's. What is here are hints.
//!
//! - Each process has an embedded queue ([`Memory`]) of its own, with its turns and its bounds.
//! - **Announcements** spread references to the other processes by `NOTIFY`, on a connection of its own, never within a transaction that changes
//!   data: commits that notify stand in one line. What collects within 5 ms leaves together, in payloads of at most 8 000 bytes (some 350
//!   references). What collects while PostgreSQL is silent is bounded; beyond that the announcement is "look into the ledger".
//! - Each process that sends **listens** on a second connection, puts what it hears into its own queue, and drops what it announced itself. Whenever it
//!   may have missed something (the connection was lost, an announcement could not be read) it asks for the ledger to be read.
//!
//! # What is announced
//!
//! Bulk pages; all pages of a process that does not send; and urgent pages that find 256 others waiting, unless they are leased for this
//! process. So a push to one device stays with the process that accepted it as long as that keeps up: no other process tries to take it, and
//! nothing is notified. If that process dies or stands still, the others find its pages in the ledger when they next look (`fanout.refill`),
//! those that it had leased when their leases are over.
//!
//! # What is wasted
//!
//! A reference that all N processes know is taken once and tried in vain up to N - 1 times; each try is a part of one round trip that takes up to 64
//! urgent or 4 bulk pages. For bulk pages (up to 1 000 targets) that is nothing. Urgent pages pay only while they pile up. So that the tries
//! meet less often, what comes from others or from the ledger is shuffled in groups of 256: each process begins at another place, and what
//! is oldest is still first.

mod announcement;
mod announcer;
mod listener;

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bugle_model::{AppId, Clock, Lane, PageId, PageRef, Route};
use rand::seq::SliceRandom as _;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::announcer::Announcer;
use self::listener::Listener;
use crate::memory::Memory;
use crate::{Config, Error, Queue, Want};

/// What all processes over one database notify and listen on.
const CHANNEL: &str = "bugle_pages";
/// An urgent page that finds so many others waiting is announced.
const KEPT_URGENT: usize = 256;
/// How many references are shuffled together.
const MIXED: usize = 256;
/// PostgreSQL answers within this time, or the connection is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause before the first try to connect again; doubled up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The queue of one process.
struct Postgres {
    own: Arc<Memory>,
    announcer: Arc<Announcer>,
    sends: bool,
    stop: CancellationToken,
    _stop_at_drop: DropGuard,
}

/// Connects to the database of this URL (`postgres://…`) and starts the tasks, on the runtime that it is called in; they end with the queue.
///
/// `sends` = this process takes pages. One that does not needs no [`Queue::refill`], and announces all that it is offered.
pub async fn open(url: &str, config: &Config, clock: Arc<dyn Clock>, sends: bool) -> Result<Arc<dyn Queue>, Error> {
    let options = PgConnectOptions::from_str(url)
        .map_err(Error::Postgres)?
        .application_name("bugle queue")
        // A notification is worth no wait for the disk.
        .options([("synchronous_commit", "off")]);
    let instance: u64 = rand::random();
    let own = Arc::new(Memory::new(config, clock));
    let stop = CancellationToken::new();
    let announcer = Arc::new(Announcer::new(instance));
    let connection = announcer::connect(&options).await?;
    tokio::spawn(Arc::clone(&announcer).run(options.clone(), connection, stop.clone()));
    if sends {
        let listener = Listener {
            options,
            instance,
            own: Arc::clone(&own),
        };
        let first = listener.listen().await?;
        tokio::spawn(listener.run(first, stop.clone()));
    }
    Ok(Arc::new(Postgres {
        own,
        announcer,
        sends,
        _stop_at_drop: stop.clone().drop_guard(),
        stop,
    }))
}

#[async_trait]
impl Queue for Postgres {
    fn offer(&self, pages: Vec<PageRef>) {
        if !self.sends {
            self.announcer.announce(pages);
            return;
        }
        let room = KEPT_URGENT.saturating_sub(self.own.waiting(Lane::Urgent));
        let mut urgent = 0_usize;
        let announced = |page: &&PageRef| {
            urgent += usize::from(page.lane == Lane::Urgent);
            page.lane == Lane::Bulk || urgent > room
        };
        let announced: Vec<PageRef> = pages.iter().filter(announced).cloned().collect();
        self.own.offer(pages);
        if !announced.is_empty() {
            self.announcer.announce(announced);
        }
    }

    fn keep(&self, pages: Vec<PageRef>) {
        self.own.offer(pages);
    }

    async fn take(&self, want: Want) -> Vec<PageRef> {
        self.own.take(want).await
    }

    fn done(&self, pages: &[PageId]) {
        self.own.done(pages);
    }

    fn hold(&self, app: &AppId, route: Route) {
        self.own.hold(app, route);
    }

    fn release(&self, app: &AppId, route: Route) {
        self.own.release(app, route);
    }

    async fn hungry(&self) {
        self.own.hungry().await;
    }

    async fn refill(&self, lane: Lane, mut pages: Vec<PageRef>, complete: bool) {
        if self.sends {
            mix(&mut pages);
            self.own.refill(lane, pages, complete).await;
        }
    }

    fn room(&self) -> usize {
        if self.sends { self.own.room() } else { 0 }
    }

    async fn close(&self) {
        self.announcer.announce(self.own.drain());
        // It is a hint: a PostgreSQL that is gone must not hold up the end.
        let _ = tokio::time::timeout(PATIENCE, self.announcer.flushed()).await;
        self.stop.cancel();
    }
}

/// Shuffles in groups, so that processes which know the same references try different ones first.
fn mix(pages: &mut [PageRef]) {
    let mut rng = rand::rng();
    for group in pages.chunks_mut(MIXED) {
        group.shuffle(&mut rng);
    }
}

/// The pauses between tries to connect.
struct Pauses(Duration);

impl Pauses {
    fn new() -> Self {
        Self(PAUSE)
    }

    async fn next(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}
