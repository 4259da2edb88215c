//! The providers' part of the configuration.

use serde::{Deserialize, Serialize};

use crate::fcm;

/// The sections `[fcm]` and `[tls]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[fcm]`
    pub fcm: fcm::Config,
    /// `[tls]`
    pub tls: TlsConfig,
}

impl Config {
    /// Checks every value that can be checked without opening a file.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.fcm.validate()
    }
}

/// Whom TLS connections trust.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// A PEM file of further authorities, beside those of the system. Empty = none.
    pub extra_ca_file: String,
}

/// A configuration that cannot be used. It names the key and never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct ConfigError {
    /// The key, like `fcm.endpoint`.
    pub key: &'static str,
    /// What is wrong and what was expected.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(key: &'static str, problem: impl Into<String>) -> Self {
        Self {
            key,
            problem: problem.into(),
        }
    }
}
