//! The section `[sender]`.

use bugle_model::Period;
use serde::{Deserialize, Serialize};

/// The section `[sender]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Threads that send; 0 = one per core.
    pub threads: usize,
    /// Answers that may be known and not yet written down. A crash repeats at most these and the open requests.
    pub max_unsettled: usize,
    /// A target fails after so many tries.
    pub max_attempts: u8,
    /// A target fails when so long has passed since its first try, holds not counted.
    pub give_up: Period,
    /// The first pause after a transient failure; it doubles from try to try.
    pub backoff: Period,
    /// The longest pause.
    pub backoff_max: Period,
    /// How often the progress of pages in work is written down.
    pub progress: Period,
    /// How long a page is taken for; prolonged while it is in work.
    pub lease: Period,
    /// How long a stop waits for open requests. Longer than every provider's request time-out.
    pub grace: Period,
    /// How often a route on hold is tried with one target.
    pub probe: Period,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            threads: 0,
            max_unsettled: 4_000,
            max_attempts: 10,
            give_up: Period::secs(3_600),
            backoff: Period::secs(10),
            backoff_max: Period::secs(900),
            progress: Period::millis(30),
            lease: Period::secs(60),
            grace: Period::secs(15),
            probe: Period::secs(30),
        }
    }
}

impl Config {
    /// Checks the values; the error names the key.
    pub fn validate(&self) -> Result<(), String> {
        let within = |key: &str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(format!("sender.{key}: expected {low} to {high}, got {value}"))
        };
        within("threads", self.threads as u64, 0, 256)?;
        within("max_unsettled", self.max_unsettled as u64, 1, 1_000_000)?;
        within("max_attempts", u64::from(self.max_attempts), 1, 100)?;
        self.give_up
            .within("sender.give_up", Period::secs(1), Period::secs(86_400))?;
        self.backoff
            .within("sender.backoff", Period::millis(1), Period::secs(3_600))?;
        self.backoff_max
            .within("sender.backoff_max", self.backoff, Period::secs(86_400))?;
        self.progress
            .within("sender.progress", Period::millis(1), Period::secs(1))?;
        self.lease
            .within("sender.lease", Period::secs(10), Period::secs(3_600))?;
        self.grace
            .within("sender.grace", Period::millis(100), Period::secs(600))?;
        self.probe.within("sender.probe", Period::millis(10), Period::secs(600))
    }

    /// How many threads there are.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        if self.threads > 0 {
            self.threads
        } else {
            std::thread::available_parallelism().map_or(1, usize::from)
        }
    }
}
