//! What a provider said to one target.

use std::time::Duration;

/// How far an answer reaches. Only [`Scope::Device`] may touch the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The provider took it.
    Accepted,
    /// This token is dead.
    Device,
    /// This push can never be accepted in this form.
    Payload,
    /// The key, the account or the project is wrong.
    Credential,
    /// The token belongs to another app, topic or key.
    Mismatch,
    /// Too fast.
    Throttle,
    /// Network, time-out, or the provider's own trouble.
    Transient,
}

/// What came of sending to one target, as a value: nobody but the sender acts on it.
///
/// `reason` is a provider's own word (`UNREGISTERED`, `QUOTA_EXCEEDED`, `timeout`), one of a small set, fit for a metric's label and a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The provider took it.
    Accepted,
    /// This token is dead.
    Device {
        /// The provider's word.
        reason: &'static str,
    },
    /// This push can never be accepted in this form.
    Payload {
        /// The provider's word.
        reason: &'static str,
    },
    /// The key, the account or the project is wrong.
    Credential {
        /// The provider's word. Twenty different targets with the same word hold the route.
        reason: &'static str,
        /// The token exchange itself was refused: evidence enough to hold at once.
        exchange_refused: bool,
    },
    /// The token belongs to another app, topic or key.
    Mismatch {
        /// The provider's word.
        reason: &'static str,
    },
    /// Too fast.
    Throttle {
        /// Wait so long.
        after: Duration,
        /// Everybody of this app and provider has to wait, not only this target.
        whole: bool,
    },
    /// Network, time-out, or the provider's own trouble.
    Transient {
        /// The provider's word, or `timeout`, `connect`, `connection lost`.
        reason: &'static str,
        /// Wait so long, where the provider said it.
        after: Option<Duration>,
        /// Requests that were lost with one connection share its number: together they are one piece of evidence for an outage.
        connection: Option<u64>,
    },
    /// The provider surely did not process the request (refused stream, above the last id of a GOAWAY): it goes again at once, uncounted.
    Unprocessed,
}

impl Outcome {
    /// How far the answer reaches.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self {
            Self::Accepted => Scope::Accepted,
            Self::Device { .. } => Scope::Device,
            Self::Payload { .. } => Scope::Payload,
            Self::Credential { .. } => Scope::Credential,
            Self::Mismatch { .. } => Scope::Mismatch,
            Self::Throttle { .. } => Scope::Throttle,
            Self::Transient { .. } | Self::Unprocessed => Scope::Transient,
        }
    }

    /// The provider's word for it, fit for a metric's label.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Throttle { .. } => "throttle",
            Self::Unprocessed => "unprocessed",
            Self::Device { reason }
            | Self::Payload { reason }
            | Self::Credential { reason, .. }
            | Self::Mismatch { reason }
            | Self::Transient { reason, .. } => reason,
        }
    }
}
