//! How many requests a thread keeps open to one provider. Pure; the caller tells the time.
//!
//! Additive increase, multiplicative decrease, over windows of a tenth of a second or a round trip, whichever is longer:
//!
//! - 429 for the whole app, 503 and time-outs beyond one in a hundred answers are **overload**: the limit falls by three tenths, once a window;
//! - answers that take four times as long as they did at best **and** over a second are the same in its beginning: it falls by a tenth;
//! - a good window in which the limit was in use raises it by a twentieth.
//!
//! It begins where the peers' stream limits put the end, and a provider that answers well never sees it: latency alone, as of a queue in front of a fast sink, is
//! no overload below a second. The best latency is forgotten slowly, so that a provider that has become slower for good is not punished for ever.

use std::cell::Cell;
use std::time::{Duration, Instant};

use bugle_model::Outcome;
use tokio::sync::Notify;

const WINDOW: Duration = Duration::from_millis(100);
/// Shorter latencies are no sign of overload, whatever they were before.
const SLOW: Duration = Duration::from_secs(1);
/// So many times the best latency is slow.
const SLOW_TIMES: u32 = 4;
/// One overloaded answer in so many is tolerated.
const TOLERATED: u64 = 100;
/// Windows with fewer answers say nothing good or bad about latency.
const ENOUGH: u64 = 8;
/// The limit never falls below this.
const LEAST: f64 = 2.0;
const OVERLOADED: f64 = 0.7;
const SLOWER: f64 = 0.9;
const BETTER: f64 = 1.05;

/// What an answer says of the provider's load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// It had time for it: accepted, or refused for the target's or the payload's sake.
    Fine,
    /// 429 for all, 503, time-out.
    Over,
}

impl Load {
    /// What an outcome says.
    pub(crate) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Throttle { whole: true, .. }
            | Outcome::Transient {
                reason: "UNAVAILABLE" | "timeout",
                ..
            } => Self::Over,
            _ => Self::Fine,
        }
    }
}

/// One thread's limit for one app's provider.
#[derive(Debug)]
pub(crate) struct Concurrency {
    /// Requests that are open.
    open: Cell<usize>,
    /// There is room for one more.
    room: Notify,
    most: f64,
    limit: Cell<f64>,
    whole: Cell<usize>,
    answers: Cell<u64>,
    over: Cell<u64>,
    latency: Cell<Duration>,
    measured: Cell<u32>,
    best: Cell<Option<Duration>>,
    /// The most that were open in this window.
    peak: Cell<usize>,
    began: Cell<Instant>,
    length: Cell<Duration>,
}

impl Concurrency {
    /// Begins with as many as there may ever be.
    pub(crate) fn new(most: usize, now: Instant) -> Self {
        let most = u32::try_from(most.max(1)).unwrap_or(u32::MAX);
        Self {
            open: Cell::new(0),
            room: Notify::new(),
            most: f64::from(most),
            limit: Cell::new(f64::from(most)),
            whole: Cell::new(most as usize),
            answers: Cell::new(0),
            over: Cell::new(0),
            latency: Cell::new(Duration::ZERO),
            measured: Cell::new(0),
            best: Cell::new(None),
            peak: Cell::new(0),
            began: Cell::new(now),
            length: Cell::new(WINDOW),
        }
    }

    /// Requests that may be open at once.
    #[cfg(test)]
    fn limit(&self) -> usize {
        self.whole.get()
    }

    /// May another request be opened?
    pub(crate) fn admits(&self) -> bool {
        self.open.get() < self.whole.get()
    }

    /// Waits until another request may be opened. For one waiter at a time.
    pub(crate) async fn room(&self) {
        while !self.admits() {
            self.room.notified().await;
        }
    }

    /// A request was opened.
    pub(crate) fn start(&self) {
        self.open.set(self.open.get() + 1);
        self.peak.set(self.peak.get().max(self.open.get()));
    }

    /// A request has ended.
    pub(crate) fn end(&self) {
        self.open.set(self.open.get().saturating_sub(1));
        self.call();
    }

    fn call(&self) {
        if self.admits() && self.open.get() + 1 >= self.whole.get() {
            self.room.notify_one();
        }
    }

    /// An answer came. `latency` may be left out for most of them: one in sixteen tells enough.
    pub(crate) fn on_answer(&self, latency: Option<Duration>, load: Load) {
        self.answers.set(self.answers.get() + 1);
        if load == Load::Over {
            self.over.set(self.over.get() + 1);
        }
        if let Some(latency) = latency.filter(|_| load == Load::Fine) {
            self.latency.set(self.latency.get() + latency);
            self.measured.set(self.measured.get() + 1);
        }
    }

    /// To be called every few dozen milliseconds. Weighs the window, if it has ended.
    pub(crate) fn tick(&self, now: Instant) {
        if now.saturating_duration_since(self.began.get()) < self.length.get() {
            return;
        }
        let answers = self.answers.replace(0);
        let over = self.over.replace(0);
        let peak = self.peak.replace(0);
        let measured = self.measured.replace(0);
        let sum = self.latency.replace(Duration::ZERO);
        let mean = (measured > 0).then(|| sum / measured);
        self.began.set(now);
        if answers == 0 {
            return;
        }
        let limit = self.limit.get();
        let factor = if over * TOLERATED > answers {
            OVERLOADED
        } else if answers >= ENOUGH && mean.is_some_and(|mean| self.is_slow(mean)) {
            SLOWER
        } else if peak >= self.whole.get() {
            BETTER
        } else {
            1.0
        };
        if let Some(mean) = mean {
            self.remember(mean);
        }
        // At least one more or less, that a small limit moves too.
        let next = match factor {
            up if up > 1.0 => (limit * up).max(limit + 1.0),
            same_or_down => limit * same_or_down,
        };
        self.set(next.clamp(LEAST.min(self.most), self.most));
    }

    fn is_slow(&self, mean: Duration) -> bool {
        mean > SLOW && self.best.get().is_some_and(|best| mean > best * SLOW_TIMES)
    }

    fn remember(&self, mean: Duration) {
        // A hundredth a window: what was fast for a moment is forgotten in half a minute.
        let best = self.best.get().map_or(mean, |best| mean.min(best + best / 100));
        self.best.set(Some(best));
        self.length.set(WINDOW.max(mean));
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and a number of u32"
    )]
    fn set(&self, limit: f64) {
        self.limit.set(limit);
        self.whole.set(limit as usize);
        if self.admits() {
            self.room.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A provider: what it answers to so many open requests, for a window.
    impl Concurrency {
        /// Ends what is open and opens all that is allowed.
        fn fill(&self) {
            while self.open.get() > 0 {
                self.end();
            }
            while self.admits() {
                self.start();
            }
        }
    }

    struct Sim {
        limits: Concurrency,
        now: Instant,
    }

    impl Sim {
        fn new(most: usize) -> Self {
            let now = Instant::now();
            Self {
                limits: Concurrency::new(most, now),
                now,
            }
        }

        /// All that is allowed is open, answered after `latency`, `over` of a hundred as overload.
        fn run(&mut self, windows: usize, latency: impl Fn(usize) -> Duration, over: impl Fn(usize) -> u32) {
            for _ in 0..windows {
                let open = self.limits.limit();
                self.limits.fill();
                for answer in 0..200 {
                    let load = if answer % 100 < over(open) {
                        Load::Over
                    } else {
                        Load::Fine
                    };
                    self.limits.on_answer(Some(latency(open)), load);
                }
                self.now += self.limits.length.get();
                self.limits.tick(self.now);
            }
        }
    }

    const FAST: fn(usize) -> Duration = |_| Duration::from_millis(50);
    const NEVER: fn(usize) -> u32 = |_| 0;

    #[test]
    fn a_healthy_provider_is_never_throttled_however_its_latency_moves() {
        let mut sim = Sim::new(4_000);
        for latency in [1, 50, 90, 20, 400, 1, 900, 50] {
            sim.run(50, |_| Duration::from_millis(latency), NEVER);
            assert_eq!(sim.limits.limit(), 4_000, "at {latency} ms");
        }
    }

    #[test]
    fn one_answer_in_a_hundred_may_be_an_overload() {
        let mut sim = Sim::new(1_000);
        sim.run(50, FAST, |_| 1);
        assert_eq!(sim.limits.limit(), 1_000);
        sim.run(1, FAST, |_| 2);
        assert_eq!(sim.limits.limit(), 700);
    }

    #[test]
    fn it_finds_what_an_overloaded_provider_bears_and_returns_when_it_has_recovered() {
        let mut sim = Sim::new(4_000);
        let weak = |open: usize| if open > 300 { 50 } else { 0 };
        sim.run(100, FAST, weak);
        let mut seen = Vec::new();
        for _ in 0..50 {
            sim.run(1, FAST, weak);
            seen.push(sim.limits.limit());
        }
        assert!(seen.iter().all(|limit| (200..=330).contains(limit)), "{seen:?}");
        sim.run(80, FAST, NEVER);
        assert_eq!(sim.limits.limit(), 4_000);
    }

    #[test]
    fn a_provider_that_gets_slow_under_load_is_relieved() {
        let mut sim = Sim::new(4_000);
        // A queue: beyond 500 open requests each costs four milliseconds more.
        let queue = |open: usize| Duration::from_millis(50 + 4 * open.saturating_sub(500) as u64);
        sim.run(5, FAST, NEVER);
        sim.run(30, queue, NEVER);
        assert!((500..=900).contains(&sim.limits.limit()), "{}", sim.limits.limit());
    }

    #[test]
    fn one_that_is_slow_for_good_is_not_punished_for_ever() {
        let mut sim = Sim::new(1_000);
        sim.run(5, |_| Duration::from_millis(300), NEVER);
        sim.run(400, |_| Duration::from_millis(1_500), NEVER);
        assert_eq!(sim.limits.limit(), 1_000);
    }

    #[test]
    fn a_window_without_answers_changes_nothing() {
        let mut sim = Sim::new(100);
        sim.run(3, FAST, |_| 50);
        let limit = sim.limits.limit();
        sim.now += Duration::from_secs(3_600);
        sim.limits.tick(sim.now);
        assert_eq!(sim.limits.limit(), limit);
    }

    proptest! {
        #[test]
        fn the_limit_stays_in_its_bounds(
            most in 1usize..10_000,
            windows in prop::collection::vec((0u64..20_000, 0u32..100), 1..200),
        ) {
            let mut sim = Sim::new(most);
            for (latency, over) in windows {
                sim.run(1, |_| Duration::from_millis(latency), |_| over);
                prop_assert!((1..=most).contains(&sim.limits.limit()));
            }
            sim.run(400, FAST, NEVER);
            prop_assert_eq!(sim.limits.limit(), most);
        }
    }
}
