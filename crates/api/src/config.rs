//! The section `[api]`.

use secrecy::{ExposeSecret, SecretString};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// The section `[api]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Keys that may use the API; each names the app `default`. Without any, one is made at start. In one text they are separated by commas.
    #[serde(deserialize_with = "keys", skip_serializing)]
    pub keys: Vec<SecretString>,
    /// Nobody needs a key. For development, and behind something else that checks.
    pub insecure: bool,
    /// `GET /metrics` needs a key too.
    pub metrics_need_key: bool,
    /// The longest body of a request, in bytes. 10 000 raw tokens need about 2 MB.
    pub max_body_bytes: usize,
    /// The most commands in one request.
    pub max_commands: usize,
    /// How an operation's error is told: `object` = HTTP 200 and an error object, `transport` = an HTTP status too.
    pub error_mode: ErrorMode,
}

/// How an operation's error is told. A request may ask for `transport` by the header `X-Centrifugo-Error-Mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorMode {
    /// HTTP 200 and an error object.
    Object,
    /// The HTTP status of the error's code, and the error object.
    Transport,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            insecure: false,
            metrics_need_key: false,
            max_body_bytes: 8 * 1024 * 1024,
            max_commands: 1_000,
            error_mode: ErrorMode::Object,
        }
    }
}

impl Config {
    /// Complains about the first wrong value, naming its key.
    pub fn validate(&self) -> Result<(), String> {
        for (at, key) in self.keys.iter().enumerate() {
            let key = key.expose_secret();
            if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(format!(
                    "api.keys[{at}]: expected printable ASCII characters without spaces"
                ));
            }
        }
        if !(1_024..=1024 * 1024 * 1024).contains(&self.max_body_bytes) {
            return Err(format!(
                "api.max_body_bytes: expected 1024 to 1073741824, got {}",
                self.max_body_bytes
            ));
        }
        if !(1..=100_000).contains(&self.max_commands) {
            return Err(format!(
                "api.max_commands: expected 1 to 100000, got {}",
                self.max_commands
            ));
        }
        Ok(())
    }
}

/// A list, or one text as an environment variable holds it.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SecretString>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a list of texts, or one text with commas")]
    enum Keys {
        List(Vec<SecretString>),
        Text(SecretString),
    }
    Ok(match Keys::deserialize(deserializer)? {
        Keys::List(keys) => keys,
        // Or the brackets would be part of a key that nobody sends.
        Keys::Text(text) if text.expose_secret().trim_start().starts_with(['[', '"', '\'']) => {
            return Err(D::Error::custom(
                "expected keys separated by commas, got what begins with a bracket or a quotation mark \
                 (an environment variable holds the keys alone)",
            ));
        }
        Keys::Text(text) => {
            let parts = text.expose_secret().split(',').map(str::trim);
            parts.filter(|key| !key.is_empty()).map(SecretString::from).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn a_wrong_value_is_reported_with_its_key_and_without_the_secret() {
        let config = Config {
            keys: vec!["good".into(), "bad one".into()],
            ..Config::default()
        };
        let problem = config.validate().unwrap_err();
        assert!(problem.starts_with("api.keys[1]: "), "{problem}");
        assert!(!problem.contains("bad one"));
        assert!(!format!("{config:?}").contains("good"));
    }

    #[test]
    fn keys_are_a_list_or_one_text() {
        let keys_of = |json: &str| {
            let config: Config = serde_json::from_str(json).unwrap();
            let keys = config.keys.iter().map(|key| key.expose_secret().to_owned());
            keys.collect::<Vec<_>>()
        };
        assert_eq!(keys_of(r#"{"keys": ["a", "b"]}"#), ["a", "b"]);
        assert_eq!(keys_of(r#"{"keys": "a, b,"}"#), ["a", "b"]);
        assert_eq!(keys_of(r#"{"keys": ""}"#), [""; 0]);
        for text in [
            r#"{"keys": "[\"a\"]"}"#,
            r#"{"keys": " \"a\",\"b\""}"#,
            r#"{"keys": "'a'"}"#,
        ] {
            let problem = serde_json::from_str::<Config>(text).unwrap_err();
            assert!(
                problem.to_string().starts_with("expected keys separated by commas"),
                "{problem}"
            );
        }
        let problem = serde_json::from_str::<Config>(r#"{"keys": 5}"#).unwrap_err();
        assert!(problem.to_string().contains("expected a list of texts"));
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let problem = serde_json::from_str::<Config>(r#"{"insecur": true}"#).unwrap_err();
        assert!(problem.to_string().contains("insecur"));
    }
}
