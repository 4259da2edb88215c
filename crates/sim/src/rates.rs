//! How many messages a second: now, and in the minutes before.
//!
//! A task looks at the counter ten times a second; the messages themselves pay nothing for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use crate::shared::Shared;

/// How often the counter is looked at.
const TICK: Duration = Duration::from_millis(100);
/// What "now" means.
const WINDOW: Duration = Duration::from_secs(1);
/// How many seconds are remembered.
const KEPT: usize = 180;

/// The rates of one simulator.
pub(crate) struct Rates {
    pub(crate) started: Instant,
    seen: Mutex<Seen>,
}

struct Seen {
    /// When the counter stood where; the first is the newest that is at least [`WINDOW`] old, once there is one.
    samples: VecDeque<(Instant, u64)>,
    /// Messages in each of the last seconds, newest last.
    seconds: VecDeque<u64>,
    /// Where the present second began.
    second: (Instant, u64),
}

impl Rates {
    pub(crate) fn new() -> Self {
        let started = Instant::now();
        Self {
            started,
            seen: Mutex::new(Seen {
                samples: VecDeque::from([(started, 0)]),
                seconds: VecDeque::new(),
                second: (started, 0),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Messages in a second, over the last one; `requests` is the counter now.
    pub(crate) fn now(&self, now: Instant, requests: u64) -> f64 {
        match self.lock().samples.front() {
            Some((then, before)) => per_second(requests.saturating_sub(*before), now - *then),
            None => 0.0,
        }
    }

    /// Messages in each of the last seconds, newest last.
    pub(crate) fn seconds(&self) -> Vec<u64> {
        self.lock().seconds.iter().copied().collect()
    }

    fn sample(&self, now: Instant, requests: u64) {
        let mut seen = self.lock();
        seen.samples.push_back((now, requests));
        while seen.samples.get(1).is_some_and(|(then, _)| now - *then >= WINDOW) {
            seen.samples.pop_front();
        }
        let (began, before) = seen.second;
        if now - began >= WINDOW {
            // After a reset the counter is below what it was.
            seen.seconds.push_back(requests.saturating_sub(before));
            if seen.seconds.len() > KEPT {
                seen.seconds.pop_front();
            }
            seen.second = (now, requests);
        }
    }

    /// Forgets everything but the start.
    pub(crate) fn reset(&self, now: Instant) {
        let mut seen = self.lock();
        seen.samples = VecDeque::from([(now, 0)]);
        seen.seconds.clear();
        seen.second = (now, 0);
    }
}

/// Rounded to tenths.
fn per_second(messages: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64().max(TICK.as_secs_f64());
    let messages = u32::try_from(messages).unwrap_or(u32::MAX);
    (f64::from(messages) / seconds * 10.0).round() / 10.0
}

/// Looks at the counter until it is dropped.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        shared.rates.sample(Instant::now(), shared.counters.requests());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_second_and_the_past_is_kept_by_seconds() {
        let rates = Rates::new();
        let at = |ms| rates.started + Duration::from_millis(ms);
        for tick in 1..=50 {
            // 1000 a second, and from the third second on 100.
            let requests = if tick <= 20 {
                tick * 100
            } else {
                2_000 + (tick - 20) * 10
            };
            rates.sample(at(tick * 100), requests);
        }
        assert!((rates.now(at(5_000), 2_300) - 100.0).abs() < 0.2);
        assert_eq!(rates.seconds(), [1_000, 1_000, 100, 100, 100]);
    }

    #[test]
    fn a_reset_leaves_no_rate_behind() {
        let rates = Rates::new();
        let at = |ms| rates.started + Duration::from_millis(ms);
        rates.sample(at(1_000), 5_000);
        rates.reset(at(1_100));
        rates.sample(at(2_200), 10);
        assert_eq!(rates.seconds(), [10]);
        assert!(rates.now(at(2_200), 10) < 10.0);
    }

    #[test]
    fn a_moment_after_the_start_the_rate_is_not_absurd() {
        let rates = Rates::new();
        let rate = rates.now(rates.started + Duration::from_micros(1), 5);
        assert!((rate - 50.0).abs() < 0.1, "{rate}");
    }
}
