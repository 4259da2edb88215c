//! One lane of this process: what its callers and its tasks share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bugle_model::{AppId, Lane, PageRef, Timestamp};
use tokio::sync::Notify;

use super::endpoint::Endpoint;
use super::hands::Entry;
use super::keys::Keys;
use super::link::Link;
use super::outbox::Outbox;
use crate::metrics as names;

/// Urgent references that are read ahead while somebody takes urgent pages.
const AHEAD: usize = 256;
/// Somebody who asked no longer ago takes pages: the next call comes when the last pages are in work.
const RECENT: Duration = Duration::from_secs(1);
/// The same for bulk pages: while urgent ones are there a call returns at once, and who asks again and again must find bulk pages too.
const RECENT_BULK: Duration = Duration::from_millis(100);
/// References of one lane that are read for callers at most.
const MOST: usize = 1_024;
/// The second look after Redis may have lost everything: by then what was on its way can be told from what is lost.
const SECOND_LOOK: Duration = Duration::from_secs(3);

/// One lane.
pub(super) struct Side {
    pub(super) lane: Lane,
    pub(super) keys: Keys,
    /// The keeper's; a refill borrows it.
    pub(super) link: tokio::sync::Mutex<Link>,
    outbox: Mutex<Outbox>,
    /// The outbox has something to send.
    pub(super) outgoing: Notify,
    emptied: Notify,
    demand: Mutex<Demand>,
    /// Somebody asks.
    pub(super) wanted: Notify,
    /// The lane may be full: look.
    pub(super) crowded: Notify,
    /// Until then it is this process that refills.
    turn: Mutex<Option<Instant>>,
    /// When the ledger is to be read once more.
    second_look: Mutex<Option<Instant>>,
    /// The last refill found lost pages and no room for them.
    pub(super) starved: AtomicBool,
    /// This process reads the ledger for this lane: it was told what is there at least once.
    pub(super) refills: AtomicBool,
    /// The ledger should be read, by whoever does.
    pub(super) asks: AtomicBool,
    reading_ended: AtomicBool,
}

/// What callers ask for.
#[derive(Default)]
struct Demand {
    /// Pages that callers wait for.
    waiting: usize,
    asked: Option<Instant>,
    /// How many pages were asked for then.
    pages: usize,
}

impl Side {
    pub(super) fn new(lane: Lane, prefix: &str, apps: &[AppId], endpoint: &Arc<Endpoint>, references: usize) -> Self {
        Self {
            lane,
            keys: Keys::new(prefix, lane, apps),
            link: tokio::sync::Mutex::new(Link::new(Arc::clone(endpoint), "keeper", Duration::ZERO)),
            outbox: Mutex::new(Outbox::new(references)),
            outgoing: Notify::new(),
            emptied: Notify::new(),
            demand: Mutex::default(),
            wanted: Notify::new(),
            crowded: Notify::new(),
            turn: Mutex::default(),
            second_look: Mutex::default(),
            starved: AtomicBool::new(false),
            refills: AtomicBool::new(false),
            asks: AtomicBool::new(false),
            reading_ended: AtomicBool::new(false),
        }
    }

    pub(super) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        // What a panic could leave behind are hints.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn demand(&self) -> MutexGuard<'_, Demand> {
        self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn offer(&self, pages: Vec<PageRef>, now: Timestamp) {
        let mut dropped = 0;
        {
            let mut outbox = self.outbox();
            for page in pages {
                dropped += u64::from(!outbox.offer(&self.keys, page, now));
            }
        }
        if dropped > 0 {
            metrics::counter!(names::DROPPED, "lane" => self.lane.as_str()).increment(dropped);
        }
        self.outgoing.notify_one();
    }

    pub(super) fn give_back(&self, pages: Vec<PageRef>) {
        self.outbox().give_back(&self.keys, pages);
        self.outgoing.notify_one();
    }

    pub(super) fn acknowledge(&self, entries: Vec<Entry>) {
        self.outbox().acknowledge(entries);
        self.outgoing.notify_one();
    }

    /// The writer has sent something.
    pub(super) fn after_batch(&self) {
        self.emptied.notify_waiters();
    }

    /// Waits until all has been sent.
    pub(super) async fn flushed(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.outbox().is_flushed() {
                return;
            }
            emptied.await;
        }
    }

    /// Is it this process that refills?
    pub(super) fn has_turn(&self) -> bool {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        turn.is_some_and(|until| until > Instant::now())
    }

    pub(super) fn set_turn(&self, until: Option<Instant>) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Redis may have lost everything: the ledger is to be read now (by the caller), and once more.
    pub(super) fn doubt(&self) {
        *self.second_look.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + SECOND_LOOK);
    }

    /// Is the ledger to be read once more? Says so once.
    pub(super) fn second_look_is_due(&self) -> bool {
        let mut at = self.second_look.lock().unwrap_or_else(PoisonError::into_inner);
        at.take_if(|at| *at <= Instant::now()).is_some()
    }

    /// Somebody waits for so many pages, as long as the answer lives.
    pub(super) fn ask(&self, pages: usize) -> Asking<'_> {
        if pages > 0 {
            let mut demand = self.demand();
            demand.waiting += pages;
            demand.asked = Some(Instant::now());
            demand.pages = pages;
            drop(demand);
            self.wanted.notify_one();
        }
        Asking { side: self, pages }
    }

    /// How many references should be here, read and not taken.
    pub(super) fn target(&self) -> usize {
        if self.reading_ended() {
            return 0;
        }
        let demand = self.demand();
        let asked_within = |time| demand.asked.is_some_and(|asked| asked.elapsed() < time);
        // A bulk page is work for long: only for those who wait, and the next ones. Urgent ones are short, and the way here is longer than they are.
        match self.lane {
            Lane::Bulk if asked_within(RECENT_BULK) => (demand.waiting.max(demand.pages) * 2).min(MOST),
            Lane::Bulk => (demand.waiting * 2).min(MOST),
            Lane::Urgent if demand.waiting > 0 || asked_within(RECENT) => demand.waiting.clamp(AHEAD, MOST),
            Lane::Urgent => 0,
        }
    }

    /// Nothing more is read.
    pub(super) fn end_reading(&self) {
        self.reading_ended.store(true, Ordering::SeqCst);
        self.wanted.notify_one();
    }

    pub(super) fn reading_ended(&self) -> bool {
        self.reading_ended.load(Ordering::SeqCst)
    }
}

/// Somebody who waits for pages.
pub(super) struct Asking<'a> {
    side: &'a Side,
    pages: usize,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.side.demand().waiting -= self.pages;
    }
}
