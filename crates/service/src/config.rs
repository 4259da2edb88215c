//! The sections `[push]` and `[limits]`.

use std::ops::RangeInclusive;

use bugle_model::Period;
use serde::{Deserialize, Serialize};

/// In seconds.
const DAY: u64 = 86_400;

/// The section `[push]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PushConfig {
    /// A push without `expire_at` expires so long after it is due; at most 28 days.
    pub lifetime: Period,
    /// `send_at` may lie so far ahead; at most a year.
    pub max_delay: Period,
}

impl Default for PushConfig {
    fn default() -> Self {
        Self {
            lifetime: Period::secs(DAY),
            max_delay: Self::LONGEST,
        }
    }
}

impl PushConfig {
    /// No push lives longer, the longest time that any provider keeps a message. A later `expire_at` counts as this.
    pub(crate) const LONGEST: Period = Period::secs(28 * DAY);

    /// Complains about the first wrong value, naming its key.
    pub fn validate(&self) -> Result<(), String> {
        self.lifetime.within("push.lifetime", Period::secs(1), Self::LONGEST)?;
        self.max_delay
            .within("push.max_delay", Period::secs(0), Period::secs(365 * DAY))
    }
}

/// The section `[limits]`: how much one request may carry. What is over a limit is refused, never cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Device ids or raw tokens in one push, duplicates included.
    pub recipients: usize,
    /// Channels in one push.
    pub push_channels: usize,
    /// Channels in one registration or one change of subscriptions.
    pub channels: usize,
    /// Values in one field of a filter or a removal.
    pub filter_values: usize,
    /// Bytes of a user's name.
    pub user_bytes: usize,
    /// Pairs in a device's meta.
    pub meta_pairs: usize,
    /// Bytes of all keys and values of a device's meta together.
    pub meta_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            recipients: 10_000,
            push_channels: 100,
            channels: 256,
            filter_values: 1_000,
            user_bytes: 256,
            meta_pairs: 64,
            meta_bytes: 8_192,
        }
    }
}

impl Limits {
    /// Complains about the first wrong value, naming its key.
    pub fn validate(&self) -> Result<(), String> {
        within("limits.recipients", self.recipients, 1..=100_000)?;
        within("limits.push_channels", self.push_channels, 1..=1_000)?;
        // A registration writes both lists in one transaction, which is bounded too.
        within("limits.channels", self.channels, 1..=400)?;
        within("limits.filter_values", self.filter_values, 1..=10_000)?;
        within("limits.user_bytes", self.user_bytes, 1..=1_024)?;
        within("limits.meta_pairs", self.meta_pairs, 0..=1_000)?;
        within("limits.meta_bytes", self.meta_bytes, 0..=65_536)
    }
}

fn within<T: PartialOrd + Copy + std::fmt::Display>(
    key: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!(
        "{key}: expected {} to {}, got {value}",
        range.start(),
        range.end()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        PushConfig::default().validate().unwrap();
        Limits::default().validate().unwrap();
    }

    #[test]
    fn a_wrong_value_is_reported_with_its_key() {
        let push = PushConfig {
            lifetime: Period::secs(28 * DAY + 1),
            ..PushConfig::default()
        };
        assert_eq!(
            push.validate().unwrap_err(),
            "push.lifetime: expected 1s to 28d, got 2419201s"
        );
        let limits = Limits {
            recipients: 0,
            ..Limits::default()
        };
        assert!(limits.validate().unwrap_err().starts_with("limits.recipients: "));
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let problem = serde_json::from_str::<Limits>(r#"{"recipents": 5}"#).unwrap_err();
        assert!(problem.to_string().contains("recipents"));
    }
}
