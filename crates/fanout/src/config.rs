//! The sections `[fanout]`, `[history]` and `[devices]`.

use bugle_model::Period;
use serde::{Deserialize, Serialize};

/// The section `[fanout]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Targets handed out and not ended, per app, provider and platform. Bounds queue, ledger and memory whatever the audience.
    pub window: u64,
    /// The same per push, so that one broadcast does not take the whole window.
    pub push_window: u64,
    /// How often the ledger is searched for pages that the queue does not know.
    pub refill: Period,
    /// How often expired pushes are ended.
    pub sweep: Period,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window: 256_000,
            push_window: 64_000,
            refill: Period::secs(30),
            sweep: Period::secs(1),
        }
    }
}

impl Config {
    /// Checks the values; the error names the key.
    pub fn validate(&self) -> Result<(), String> {
        if self.window < 1_000 {
            return Err(format!(
                "fanout.window: expected at least 1000 (one page), got {}",
                self.window
            ));
        }
        if self.push_window < 1_000 {
            return Err(format!(
                "fanout.push_window: expected at least 1000 (one page), got {}",
                self.push_window
            ));
        }
        let (low, high) = (Period::millis(10), Period::secs(60));
        self.refill.within("fanout.refill", low, high)?;
        self.sweep.within("fanout.sweep", low, high)
    }
}

/// The section `[history]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryConfig {
    /// How long accounts of ended pushes are kept; so long a uid stays idempotent.
    pub keep: Period,
    /// How long devices that were removed as dead can be put back.
    pub gone: Period,
}

const DAY: u64 = 86_400;

impl Default for HistoryConfig {
    fn default() -> Self {
        Self {
            keep: Period::secs(30 * DAY),
            gone: Period::secs(14 * DAY),
        }
    }
}

impl HistoryConfig {
    /// Checks the values; the error names the key.
    pub fn validate(&self) -> Result<(), String> {
        self.keep
            .within("history.keep", Period::secs(60), Period::secs(3_650 * DAY))?;
        self.gone
            .within("history.gone", Period::secs(0), Period::secs(3_650 * DAY))
    }
}

/// The section `[devices]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DevicesConfig {
    /// Devices that have not registered for so long are removed; they can be put back for `history.gone`. 0s = never.
    pub max_inactive: Period,
}

impl Default for DevicesConfig {
    fn default() -> Self {
        Self {
            max_inactive: Period::secs(0),
        }
    }
}

impl DevicesConfig {
    /// Checks the values; the error names the key.
    pub fn validate(&self) -> Result<(), String> {
        if self.max_inactive == Period::secs(0) {
            return Ok(());
        }
        self.max_inactive
            .within("devices.max_inactive", Period::secs(1), Period::secs(3_650 * DAY))
    }
}
