//! The section `[queue]`.

use serde::{Deserialize, Serialize};

/// The section `[queue]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Page references held in memory per lane; more stay in the ledger until there is room.
    pub references: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { references: 10_000 }
    }
}

impl Config {
    /// Checks the values; the error names the key.
    pub fn validate(&self) -> Result<(), String> {
        if (100..=1_000_000).contains(&self.references) {
            return Ok(());
        }
        Err(format!(
            "queue.references: expected 100 to 1000000, got {}",
            self.references
        ))
    }
}
