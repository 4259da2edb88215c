//! The queue for many processes over one Redis (7 or later, Valkey): page references on Streams.
//!
//! # Data structures
//!
//! - **One stream per lane, provider and app**: `bugle:{bulk}:fcm:default`; the pages that are a push's own row, whose targets may be of several
//!   providers, are in `any`. The braces put a lane's keys into one slot of a Cluster, so that one `XREADGROUP` reads them all. It takes up to
//!   so many from each, which gives apps and providers equal turns; the legs of one app share a stream, first in, first out, and are fair because
//!   the ledger's window hands out equally much of each. No command but that one names several keys, and there is no script.
//! - **An entry is a reference**, some 20 bytes. It is added when the page is due, and is gone when it is done (`XACK`, `XDEL`);
//!   nothing is trimmed, nothing is kept per push, and the streams of quiet apps are empty keys.
//! - **One consumer group**, `senders`; a process is a consumer. What a process has read goes through an embedded queue of its own ([`Memory`]), which
//!   takes turns, knows the pages in work, and holds routes; `Hands` remembers which entries are behind each page, to be
//!   acknowledged together. A process reads no more than its callers have just asked for, so that a slow one does not hoard; a caller who
//!   comes again and again counts as one who waits, or a flood of one lane would keep the other's entries from being read.
//! - **What only this process can take** ([`Queue::keep`]), having leased it when it accepted it, is in the embedded queue alone: most urgent pages.
//! - **Entries of the dead** are claimed (`XAUTOCLAIM`) after twice the lease, in bounded steps. If the page is in work after all, the ledger refuses it and the
//!   entry goes.
//! - **An outbox** per lane and process: references to be added, those that are due within 90 s by their time, and acknowledgements. It is bounded;
//!   callers only put something into it.
//! - **Marks**, a hash per lane: what the processes must agree on to refill, described in `refill.rs`.
//!
//! # What is bounded
//!
//! `queue.references` undelivered entries per lane. Who finds it full drops its reference and marks the **gap**: from that page on, in the order of
//! (due, page), the ledger knows more than the streams. While there is a gap everybody drops, so the streams keep that order, and when they are
//! half empty one process reads on from the ledger.
//!
//! # What may go wrong
//!
//! Everything: each connection is made again by itself, after a loss the ledger is looked into at once, missing groups are made, and what an emptied
//! or restarted Redis has forgotten comes back from the ledger. While Redis does not answer, callers wait for nothing; each command has a time-out.
//!
//! # Tasks
//!
//! Per lane a **writer** (outbox → Redis), a **reader** (Redis → this process; only where it sends) and a **keeper** (looks how full it is, claims,
//! tidies up), each with a connection of its own.

mod endpoint;
mod hands;
mod inspect;
mod keeper;
mod keys;
mod link;
mod look;
mod outbox;
mod reader;
mod refill;
mod side;
mod writer;

pub use self::inspect::{Inspection, inspect};

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bugle_model::{AppId, Clock, Lane, PageId, PageRef, Route};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::endpoint::Endpoint;
use self::hands::Hands;
use self::link::Link;
use self::side::Side;
use crate::memory::Memory;
use crate::{Config, Error, Queue, Want};

/// The one consumer group.
const GROUP: &str = "senders";
/// Redis answers within this time, beyond what it was told to wait.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a read waits for entries. Also how long a stop waits for it.
const BLOCK: Duration = Duration::from_secs(1);
/// References due later than this ahead stay in the ledger.
const HORIZON: Duration = Duration::from_secs(90);

/// The queue of one process.
struct Streams {
    shared: Arc<Shared>,
    stop: CancellationToken,
    readers: TaskTracker,
    others: TaskTracker,
    _stop_at_drop: DropGuard,
}

/// What the tasks and the callers share.
struct Shared {
    clock: Arc<dyn Clock>,
    /// The name of this process as a consumer.
    consumer: String,
    sends: bool,
    /// Entries that were pending for so long are claimed.
    idle: Duration,
    references: usize,
    /// What was read here and is not done.
    local: Memory,
    hands: Hands,
    urgent: Side,
    bulk: Side,
}

impl Shared {
    fn side(&self, lane: Lane) -> &Side {
        match lane {
            Lane::Urgent => &self.urgent,
            Lane::Bulk => &self.bulk,
        }
    }

    /// Nobody here needs the entries behind these pages any more.
    fn let_go(&self, pages: &[PageId]) {
        for lane in [Lane::Urgent, Lane::Bulk] {
            let entries = self.hands.remove(lane, pages);
            if !entries.is_empty() {
                self.side(lane).acknowledge(entries);
            }
        }
    }

    /// Does this process have it already?
    fn has(&self, lane: Lane, page: PageId) -> bool {
        self.local.knows(page) || self.side(lane).outbox().has(page)
    }
}

/// Connects to the Redis of `queue.url` and starts the tasks, on the runtime that it is called in; they end with the queue.
///
/// `apps` = all of the configuration; references of others are dropped. `sends` = this process takes pages. `idle` = after so long nobody has a page
/// any more that did not report it: twice the lease. A process-wide rustls crypto provider must be installed where the URL asks for TLS.
pub async fn open(
    config: &Config,
    apps: &[AppId],
    clock: Arc<dyn Clock>,
    sends: bool,
    idle: Duration,
) -> Result<Arc<dyn Queue>, Error> {
    let endpoint = Arc::new(Endpoint::parse(config)?);
    // What was read is bounded by what was asked for; none of it may be dropped for lack of room.
    let unbounded = Config {
        references: 1_000_000,
        ..Config::default()
    };
    let shared = Arc::new(Shared {
        local: Memory::without_metrics(&unbounded, Arc::clone(&clock)),
        clock,
        consumer: format!("{:032x}", rand::random::<u128>()),
        sends,
        idle,
        references: config.references,
        hands: Hands::default(),
        urgent: Side::new(Lane::Urgent, &config.prefix, apps, &endpoint, config.references),
        bulk: Side::new(Lane::Bulk, &config.prefix, apps, &endpoint, config.references),
    });
    for lane in [Lane::Urgent, Lane::Bulk] {
        keeper::prepare(shared.side(lane)).await?;
    }
    let queue = Streams::new(Arc::clone(&shared));
    for lane in [Lane::Urgent, Lane::Bulk] {
        let link = |name, wait| Link::new(Arc::clone(&endpoint), name, wait);
        queue.spawn(
            &queue.others,
            writer::run(Arc::clone(&shared), lane, link("writer", Duration::ZERO)),
        );
        queue.spawn(&queue.others, keeper::run(Arc::clone(&shared), lane));
        if sends {
            let reader = reader::run(Arc::clone(&shared), lane, link("reader", BLOCK), queue.stop.clone());
            queue.readers.spawn(reader);
        }
    }
    Ok(Arc::new(queue))
}

impl Streams {
    fn new(shared: Arc<Shared>) -> Self {
        let stop = CancellationToken::new();
        Self {
            shared,
            readers: TaskTracker::new(),
            others: TaskTracker::new(),
            _stop_at_drop: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Ends when the queue does, or has been closed.
    fn spawn(&self, tasks: &TaskTracker, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }
}

#[async_trait]
impl Queue for Streams {
    fn offer(&self, pages: Vec<PageRef>) {
        let now = self.shared.clock.now();
        let (urgent, bulk): (Vec<_>, Vec<_>) = pages.into_iter().partition(|page| page.lane == Lane::Urgent);
        for (lane, pages) in [(Lane::Urgent, urgent), (Lane::Bulk, bulk)] {
            if !pages.is_empty() {
                self.shared.side(lane).offer(pages, now);
            }
        }
    }

    fn keep(&self, pages: Vec<PageRef>) {
        self.shared.local.offer(pages);
    }

    async fn take(&self, want: Want) -> Vec<PageRef> {
        let _urgent = self.shared.urgent.ask(want.urgent);
        let _bulk = self.shared.bulk.ask(want.bulk);
        self.shared.local.take(want).await
    }

    fn done(&self, pages: &[PageId]) {
        self.shared.local.done(pages);
        self.shared.let_go(pages);
    }

    fn hold(&self, app: &AppId, route: Route) {
        let dropped = self.shared.local.hold_dropping(app, route);
        self.shared.let_go(&dropped);
    }

    fn release(&self, app: &AppId, route: Route) {
        self.shared.local.release(app, route);
        for lane in [Lane::Urgent, Lane::Bulk] {
            self.shared.side(lane).asks.store(true, Ordering::SeqCst);
            self.shared.side(lane).crowded.notify_one();
        }
    }

    async fn hungry(&self) {
        self.shared.local.hungry().await;
    }

    async fn refill(&self, lane: Lane, pages: Vec<PageRef>, complete: bool) {
        refill::run(&self.shared, lane, pages, complete).await;
    }

    fn room(&self) -> usize {
        self.shared.references
    }

    async fn close(&self) {
        // A read that is under way may bring entries; what it brings goes back with the rest.
        self.shared.urgent.end_reading();
        self.shared.bulk.end_reading();
        self.readers.close();
        let _ = tokio::time::timeout(BLOCK + PATIENCE, self.readers.wait()).await;
        let left = self.shared.local.drain();
        let ids: Vec<PageId> = left.iter().map(|page| page.id).collect();
        for lane in [Lane::Urgent, Lane::Bulk] {
            let pages = left.iter().filter(|page| page.lane == lane).cloned().collect();
            self.shared.side(lane).give_back(pages);
        }
        self.shared.let_go(&ids);
        // References are hints: a Redis that is gone must not hold up the end.
        let flushed = async { tokio::join!(self.shared.urgent.flushed(), self.shared.bulk.flushed()) };
        let _ = tokio::time::timeout(PATIENCE, flushed).await;
        self.stop.cancel();
    }
}
