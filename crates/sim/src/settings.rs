//! What can be changed while the simulator runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::latency::Latency;

/// How the simulator behaves, beside what a token's prefix asks for.
///
/// The crate's documentation has a table of them. Changes hold for requests that arrive afterwards;
/// `stream_limit` for connections that are opened afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Everything meets this fault, whatever the token and the bearer: an outage.
    pub all: Option<Fault>,
    /// The share of each fault in thousandths.
    ///
    /// Definitive and transient faults are drawn apart, and each kind may sum up to 1000. Definitive ones depend on
    /// the token alone, transient ones also on how often the token was seen.
    pub shares: BTreeMap<Fault, u16>,
    /// Chooses which tokens the shares meet.
    pub seed: u64,
    /// After so many requests a token meets no transient fault any more, except one whose prefix has its own number.
    pub faults_per_token: Option<u32>,
    /// How long every answer to a message waits, drawn for each; `null`: `latency_ms` says it.
    pub latency: Option<Latency>,
    /// Every answer to a message waits so long, in milliseconds, where `latency` says nothing.
    pub latency_ms: u64,
    /// How long `slow` waits, in milliseconds, instead of the latency.
    pub slow_ms: u64,
    /// `Retry-After` of `quota`, `devicequota` and `ratelimit`, in seconds; `null`: no such header.
    pub retry_after_s: Option<u32>,
    /// `Retry-After` of `unavailable`, in seconds; `null`: no such header.
    pub unavailable_retry_after_s: Option<u32>,
    /// After so many messages on an HTTP/2 connection a GOAWAY names the last of them, later streams are not
    /// processed, and the connection is closed when those before have their answers.
    pub goaway_every: Option<u32>,
    /// Every so-manieth message of an HTTP/2 connection cuts that connection, unanswered.
    pub cut_every: Option<u32>,
    /// `SETTINGS_MAX_CONCURRENT_STREAMS` of new connections.
    pub stream_limit: u32,
    /// How long a new access token is good for, in seconds.
    pub token_lifetime_s: u64,
    /// Token exchanges are refused with 400 `invalid_grant`.
    pub reject_exchange: bool,
    /// Token exchanges are answered with 503.
    pub exchange_unavailable: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            all: None,
            shares: BTreeMap::new(),
            seed: 0,
            faults_per_token: None,
            latency: None,
            latency_ms: 0,
            slow_ms: 5_000,
            retry_after_s: Some(1),
            unavailable_retry_after_s: None,
            goaway_every: None,
            cut_every: None,
            stream_limit: 100,
            token_lifetime_s: 3_600,
            reject_exchange: false,
            exchange_unavailable: false,
        }
    }
}

impl Settings {
    /// These settings with a JSON merge patch (RFC 7396) put over them: `null` takes a setting back to its default,
    /// and `latency` is replaced as a whole.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`] for an unknown name or a wrong value.
    pub fn merged(&self, patch: &Value) -> Result<Self> {
        if !patch.is_object() {
            return Err(Error::Settings("must be a JSON object".to_owned()));
        }
        let mut merged = serde_json::to_value(self).map_err(|error| Error::Settings(error.to_string()))?;
        // A distribution makes sense as a whole only: the old one's numbers must not stay beside the new one's.
        if patch.get("latency").is_some() {
            merged["latency"] = Value::Null;
        }
        merge(&mut merged, patch);
        let settings: Self = serde_json::from_value(merged).map_err(|error| Error::Settings(error.to_string()))?;
        settings.check()?;
        Ok(settings)
    }

    /// Whether the values make sense together.
    pub(crate) fn check(&self) -> Result<()> {
        for transient in [false, true] {
            let of_kind = self
                .shares
                .iter()
                .filter(|(fault, _)| fault.is_transient() == transient);
            if of_kind.map(|(_, share)| u32::from(*share)).sum::<u32>() > 1000 {
                return Err(Error::Settings(
                    "shares: more than 1000 thousandths of one kind".to_owned(),
                ));
            }
        }
        if self.goaway_every == Some(0) || self.cut_every == Some(0) {
            return Err(Error::Settings(
                "goaway_every and cut_every: at least 1, or null".to_owned(),
            ));
        }
        self.latency.map_or(Ok(()), Latency::check)?;
        if self.stream_limit == 0 {
            return Err(Error::Settings("stream_limit: at least 1".to_owned()));
        }
        Ok(())
    }
}

/// RFC 7396, section 2.
fn merge(target: &mut Value, patch: &Value) {
    let (Value::Object(target), Value::Object(patch)) = (&mut *target, patch) else {
        *target = patch.clone();
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(key);
        } else {
            merge(target.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_changes_what_it_names_and_null_restores_the_default() {
        let settings = Settings {
            slow_ms: 7,
            seed: 3,
            ..Settings::default()
        };
        let merged = settings
            .merged(&json!({"all": "unavailable", "shares": {"cut": 5}, "slow_ms": null}))
            .unwrap();
        assert_eq!(merged.all, Some(Fault::Unavailable));
        assert_eq!((merged.slow_ms, merged.seed), (5_000, 3));
        let merged = merged.merged(&json!({"shares": {"payload": 10}, "all": null})).unwrap();
        assert_eq!(merged.shares, BTreeMap::from([(Fault::Cut, 5), (Fault::Payload, 10)]));
        assert_eq!(merged.all, None);
        assert_eq!(
            merged.merged(&json!({"shares": {"cut": null}})).unwrap().shares.len(),
            1
        );
    }

    #[test]
    fn a_latency_is_replaced_as_a_whole() {
        let mut settings = Settings::default();
        for (patch, expected) in [
            (json!({"fixed": 7}), Some(Latency::Fixed(7))),
            (
                json!({"uniform": {"min": 1, "max": 9}}),
                Some(Latency::Uniform { min: 1, max: 9 }),
            ),
            (
                json!({"normal": {"median": 5, "p99": 9}}),
                Some(Latency::Normal { median: 5, p99: 9 }),
            ),
            (
                json!({"lognormal": {"median": 5, "p99": 9}}),
                Some(Latency::LogNormal { median: 5, p99: 9 }),
            ),
            (json!(null), None),
        ] {
            settings = settings.merged(&json!({ "latency": patch })).unwrap();
            assert_eq!(settings.latency, expected);
            assert_eq!(settings.merged(&json!({"seed": 1})).unwrap().latency, expected);
        }
    }

    #[test]
    fn unknown_names_and_wrong_values_are_refused() {
        let settings = Settings::default();
        for patch in [
            json!({"slow": 1}),
            json!({"all": "broken"}),
            json!({"shares": {"nothing": 1}}),
            json!({"shares": {"cut": 600, "silent": 600}}),
            json!({"stream_limit": 0}),
            json!({"goaway_every": 0}),
            json!({"slow_ms": "5"}),
            json!({"latency": 5}),
            json!({"latency": {"uniform": {"min": 5}}}),
            json!({"latency": {"uniform": {"min": 5, "max": 4}}}),
            json!({"latency": {"lognormal": {"median": 5, "p99": 9, "p999": 10}}}),
            json!([1]),
        ] {
            assert!(matches!(settings.merged(&patch), Err(Error::Settings(_))), "{patch}");
        }
        settings
            .merged(&json!({"shares": {"cut": 1000, "payload": 1000}}))
            .unwrap();
    }
}
