//! The queues under test, and what every test of them needs.

use std::sync::Arc;
use std::time::Duration;

use bugle_model::{AppId, Clock, Lane, PageId, PageRef, Platform, Provider, PushKey, Route};
use bugle_queue::memory::Memory;
use bugle_queue::{Config, Queue, QueueUrl, Want};
use bugle_testkit::{TestClock, postgres, redis};

/// As many as there are.
pub(crate) const ALL: Want = Want { urgent: 100, bulk: 100 };
/// After so long the entries of the dead are claimed.
pub(crate) const IDLE: Duration = Duration::from_secs(2);
/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Which queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Postgres,
    Redis,
}

/// One queue's server, for any number of processes.
pub(crate) struct Backend {
    place: Place,
    pub(crate) clock: Arc<TestClock>,
}

enum Place {
    Memory,
    Postgres(postgres::Database),
    /// A Redis, and a prefix on it.
    Redis {
        url: String,
        prefix: String,
    },
}

impl Backend {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            place: match kind {
                Kind::Memory => Place::Memory,
                Kind::Postgres => Place::Postgres(postgres::database()),
                Kind::Redis => Place::Redis {
                    url: redis::url(),
                    prefix: format!("{}:", redis::prefix()),
                },
            },
            clock: Arc::new(TestClock::new()),
        }
    }

    /// Over a Redis of one's own.
    pub(crate) fn on(url: &str) -> Self {
        Self {
            place: Place::Redis {
                url: url.to_owned(),
                prefix: "bugle:".to_owned(),
            },
            clock: Arc::new(TestClock::new()),
        }
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::<TestClock>::clone(&self.clock)
    }

    /// Another process's queue.
    pub(crate) async fn open(&self, references: usize, sends: bool) -> Arc<dyn Queue> {
        let config = Config {
            references,
            ..Config::default()
        };
        let clock = self.clock();
        match &self.place {
            Place::Memory => Arc::new(Memory::new(&config, clock)),
            Place::Postgres(database) => bugle_queue::postgres::open(&database.url(), &config, clock, sends)
                .await
                .unwrap(),
            Place::Redis { url, prefix } => {
                let config = Config {
                    url: QueueUrl::new(url.clone()),
                    prefix: prefix.clone(),
                    ..config
                };
                let apps = ["a", "b", "default"].map(app);
                bugle_queue::redis::open(&config, &apps, clock, sends, IDLE)
                    .await
                    .unwrap()
            }
        }
    }

    /// A page that is due now, of a leg to Android devices.
    pub(crate) fn page(&self, app_name: &str, push: i64, seq: i64, lane: Lane) -> PageRef {
        PageRef {
            id: PageId {
                push: PushKey(push),
                leg: Some(android()),
                seq,
            },
            app: app(app_name),
            lane,
            due: self.clock.now(),
        }
    }

    pub(crate) fn bulk(&self, app_name: &str, push: i64, seqs: std::ops::RangeInclusive<i64>) -> Vec<PageRef> {
        seqs.map(|seq| self.page(app_name, push, seq, Lane::Bulk)).collect()
    }
}

/// A queue of its own, for one process.
pub(crate) async fn single(kind: Kind, references: usize) -> (Backend, Arc<dyn Queue>) {
    let backend = Backend::new(kind);
    let queue = backend.open(references, true).await;
    (backend, queue)
}

pub(crate) fn app(name: &str) -> AppId {
    AppId::parse(name).unwrap()
}

pub(crate) fn android() -> Route {
    Route::of(Provider::Fcm, Platform::Android)
}

/// Takes until there are so many, or it takes too long.
pub(crate) async fn take(queue: &Arc<dyn Queue>, count: usize, want: Want) -> Vec<PageRef> {
    let mut taken = Vec::new();
    let all = async {
        while taken.len() < count {
            taken.extend(queue.take(want).await);
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, all).await;
    assert!(in_time.is_ok(), "{} of {count} came: {taken:?}", taken.len());
    taken
}

pub(crate) async fn nothing_comes(queue: &Arc<dyn Queue>) {
    let taken = tokio::time::timeout(Duration::from_millis(300), queue.take(ALL)).await;
    assert!(taken.is_err(), "took {taken:?}");
}

pub(crate) async fn is_hungry(queue: &Arc<dyn Queue>) {
    tokio::time::timeout(PATIENCE, queue.hungry()).await.expect("hungry");
}

pub(crate) fn ids(pages: &[PageRef]) -> Vec<PageId> {
    pages.iter().map(|page| page.id).collect()
}
