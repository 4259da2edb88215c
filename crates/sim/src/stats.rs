//! The simulator's counters.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::fault::Outcome;
use crate::tally::Sums;

/// What the simulator has seen since it was started or reset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Requests to send a message whose body had arrived.
    pub requests: u64,
    /// How many of them had each outcome; those that are still open have none yet.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Distinct targets.
    pub tokens: u64,
    /// How many of the targets have each class (see [`crate::TokenCounts::class`]).
    pub classes: BTreeMap<Outcome, u64>,
    /// Messages accepted beyond the first of each target.
    pub repeats: u64,
    /// Definitive answers beyond the first of each target, acceptance included.
    pub requests_repeated: u64,
    /// Streams open now, on all HTTP/2 connections. Not reset.
    pub open_streams: usize,
    /// The most streams that were open on one HTTP/2 connection.
    pub peak_streams: usize,
    /// Connections open now. Not reset.
    pub connections_open: usize,
    /// Connections accepted.
    pub connections_opened: u64,
    /// GOAWAY frames sent because of `goaway_every`.
    pub goaways: u64,
    /// Streams above such a GOAWAY's last id: not processed.
    pub unprocessed: u64,
    /// Access tokens issued.
    pub exchanges: u64,
    /// Token exchanges refused.
    pub exchanges_refused: u64,
}

impl Stats {
    /// How many requests had this outcome.
    #[must_use]
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }

    /// How many targets have this class.
    #[must_use]
    pub fn class(&self, class: Outcome) -> u64 {
        self.classes.get(&class).copied().unwrap_or(0)
    }
}

#[derive(Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    outcomes: [AtomicU64; Outcome::COUNT],
    pub(crate) open_streams: AtomicUsize,
    pub(crate) peak_streams: AtomicUsize,
    pub(crate) connections_open: AtomicUsize,
    pub(crate) connections_opened: AtomicU64,
    pub(crate) goaways: AtomicU64,
    pub(crate) unprocessed: AtomicU64,
    pub(crate) exchanges: AtomicU64,
    pub(crate) exchanges_refused: AtomicU64,
    milestone: Milestone,
}

/// Wakes those who wait for a number of requests, at the price of one comparison per request.
struct Milestone {
    next: AtomicU64,
    reached: Notify,
}

impl Default for Milestone {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(u64::MAX),
            reached: Notify::new(),
        }
    }
}

impl Counters {
    /// Counts a request whose body has arrived.
    pub(crate) fn request(&self) {
        self.requests_more(1);
    }

    /// Counts so many at once.
    pub(crate) fn requests_more(&self, more: u64) {
        let count = self.requests.fetch_add(more, Ordering::SeqCst) + more;
        if count >= self.milestone.next.load(Ordering::SeqCst) {
            self.milestone.next.store(u64::MAX, Ordering::SeqCst);
            self.milestone.reached.notify_waiters();
        }
    }

    pub(crate) fn outcome(&self, outcome: Outcome) {
        self.outcomes_more(outcome, 1);
    }

    /// Counts so many at once.
    pub(crate) fn outcomes_more(&self, outcome: Outcome, more: u64) {
        self.outcomes[outcome.index()].fetch_add(more, Ordering::Relaxed);
    }

    /// How many requests were counted.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Waits until so many requests were counted.
    pub(crate) async fn reached(&self, requests: u64) {
        loop {
            let reached = self.milestone.reached.notified();
            tokio::pin!(reached);
            // The interest is registered before the count is read, so that a request between the two is not missed.
            reached.as_mut().enable();
            self.milestone.next.fetch_min(requests, Ordering::SeqCst);
            if self.requests.load(Ordering::SeqCst) >= requests {
                return;
            }
            reached.await;
        }
    }

    pub(crate) fn stats(&self, sums: &Sums) -> Stats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            requests: load(&self.requests),
            outcomes: named(&std::array::from_fn(|index| load(&self.outcomes[index]))),
            tokens: sums.tokens,
            classes: named(&sums.classes),
            repeats: sums.repeats,
            requests_repeated: sums.requests_repeated,
            open_streams: self.open_streams.load(Ordering::Relaxed),
            peak_streams: self.peak_streams.load(Ordering::Relaxed),
            connections_open: self.connections_open.load(Ordering::Relaxed),
            connections_opened: load(&self.connections_opened),
            goaways: load(&self.goaways),
            unprocessed: load(&self.unprocessed),
            exchanges: load(&self.exchanges),
            exchanges_refused: load(&self.exchanges_refused),
        }
    }

    /// Everything to zero but what is open now.
    pub(crate) fn reset(&self) {
        let counters = [
            &self.requests,
            &self.connections_opened,
            &self.goaways,
            &self.unprocessed,
            &self.exchanges,
            &self.exchanges_refused,
        ];
        for counter in counters.into_iter().chain(&self.outcomes) {
            counter.store(0, Ordering::Relaxed);
        }
        self.peak_streams.store(0, Ordering::Relaxed);
    }
}

fn named(counts: &[u64; Outcome::COUNT]) -> BTreeMap<Outcome, u64> {
    Outcome::ALL
        .into_iter()
        .zip(*counts)
        .filter(|(_, count)| *count > 0)
        .collect()
}
