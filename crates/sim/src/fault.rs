//! What a request may be done to it, and what became of it.
//!
//! A [`Fault`] is an instruction ("answer this with 503"), an [`Outcome`] a fact ("this was answered with 503").
//! Both are written as one lower-case word, and it is the same word in a token's prefix, in the settings, in the
//! statistics and in the listing of tokens.

use serde::{Deserialize, Serialize};

/// Something that the simulator does to a message instead of accepting it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// 404 with FCM's `UNREGISTERED`: the app was removed from the device.
    Unregistered,
    /// 404 without any detail: a wrong project or path.
    NotFound,
    /// 400 whose `FcmError` says that the registration token is not valid.
    BadToken,
    /// 400 with a `BadRequest` detail: the message can never be accepted in this form.
    Payload,
    /// 403 `SENDER_ID_MISMATCH`: the token belongs to another project.
    Mismatch,
    /// 401 `THIRD_PARTY_AUTH_ERROR`: the APNs or web-push key inside Firebase is bad.
    ThirdParty,
    /// 401 `UNAUTHENTICATED`: the access token is refused.
    Unauthorized,
    /// 403 `PERMISSION_DENIED`: the account may not send.
    Forbidden,
    /// 429 `QUOTA_EXCEEDED` for the whole project, with `Retry-After`.
    Quota,
    /// 429 `QUOTA_EXCEEDED` whose `QuotaFailure` names one device.
    DeviceQuota,
    /// 429 in the form of Google's front end: `RESOURCE_EXHAUSTED` without an `FcmError`, with `Retry-After`.
    RateLimit,
    /// 500 `INTERNAL`.
    Internal,
    /// 503 `UNAVAILABLE`.
    Unavailable,
    /// Accepted, but only after `slow_ms`.
    Slow,
    /// Never answered; the stream stays open until the client resets it.
    Silent,
    /// The TCP connection is cut without an answer. The message was not accepted.
    Cut,
    /// The stream is reset with `REFUSED_STREAM`: surely not processed.
    Refused,
}

impl Fault {
    /// Every fault, those that condemn the token first.
    pub const ALL: [Self; 17] = [
        Self::Unregistered,
        Self::NotFound,
        Self::BadToken,
        Self::Payload,
        Self::Mismatch,
        Self::ThirdParty,
        Self::Unauthorized,
        Self::Forbidden,
        Self::Quota,
        Self::DeviceQuota,
        Self::RateLimit,
        Self::Internal,
        Self::Unavailable,
        Self::Slow,
        Self::Silent,
        Self::Cut,
        Self::Refused,
    ];

    /// Whether another try of the same message may succeed.
    #[must_use]
    pub fn is_transient(self) -> bool {
        self >= Self::Quota
    }

    /// The word for this fault, as in a token's prefix.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            other => other.outcome().name(),
        }
    }

    /// What a request that meets this fault is counted as; a slow one is accepted in the end.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Unregistered => Outcome::Unregistered,
            Self::NotFound => Outcome::NotFound,
            Self::BadToken => Outcome::BadToken,
            Self::Payload => Outcome::Payload,
            Self::Mismatch => Outcome::Mismatch,
            Self::ThirdParty => Outcome::ThirdParty,
            Self::Unauthorized => Outcome::Unauthorized,
            Self::Forbidden => Outcome::Forbidden,
            Self::Quota => Outcome::Quota,
            Self::DeviceQuota => Outcome::DeviceQuota,
            Self::RateLimit => Outcome::RateLimit,
            Self::Internal => Outcome::Internal,
            Self::Unavailable => Outcome::Unavailable,
            Self::Slow => Outcome::Accepted,
            Self::Silent => Outcome::Silent,
            Self::Cut => Outcome::Cut,
            Self::Refused => Outcome::Refused,
        }
    }
}

/// What became of one request to send a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// 200 was handed to the stream.
    Accepted,
    /// 200 to a `validate_only` request: checked, not delivered.
    Validated,
    /// See [`Fault::Unregistered`].
    Unregistered,
    /// See [`Fault::BadToken`].
    BadToken,
    /// See [`Fault::Payload`]; a fault that was asked for.
    Payload,
    /// 400 or 404 because the request really was wrong: a bug of the sender.
    Malformed,
    /// See [`Fault::Mismatch`].
    Mismatch,
    /// See [`Fault::NotFound`].
    NotFound,
    /// See [`Fault::ThirdParty`].
    ThirdParty,
    /// 401, asked for or because the bearer really was missing, unknown, expired or revoked.
    Unauthorized,
    /// 403 `PERMISSION_DENIED`, asked for or because of another project in the path.
    Forbidden,
    /// See [`Fault::Quota`].
    Quota,
    /// See [`Fault::DeviceQuota`].
    DeviceQuota,
    /// See [`Fault::RateLimit`].
    RateLimit,
    /// See [`Fault::Internal`].
    Internal,
    /// See [`Fault::Unavailable`].
    Unavailable,
    /// See [`Fault::Silent`].
    Silent,
    /// See [`Fault::Cut`].
    Cut,
    /// See [`Fault::Refused`].
    Refused,
    /// The stream or its connection went away before the answer was handed over.
    Lost,
}

impl Outcome {
    /// Every outcome, in the order of its index.
    pub const ALL: [Self; 20] = [
        Self::Accepted,
        Self::Validated,
        Self::Unregistered,
        Self::BadToken,
        Self::Payload,
        Self::Malformed,
        Self::Mismatch,
        Self::NotFound,
        Self::ThirdParty,
        Self::Unauthorized,
        Self::Forbidden,
        Self::Quota,
        Self::DeviceQuota,
        Self::RateLimit,
        Self::Internal,
        Self::Unavailable,
        Self::Silent,
        Self::Cut,
        Self::Refused,
        Self::Lost,
    ];

    /// How many outcomes there are.
    pub(crate) const COUNT: usize = Self::ALL.len();

    /// The place in [`Outcome::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Whether a sender has nothing more to try for this token after it.
    #[must_use]
    pub fn is_definitive(self) -> bool {
        matches!(
            self,
            Self::Accepted | Self::Unregistered | Self::BadToken | Self::Payload | Self::Malformed | Self::Mismatch
        )
    }

    /// The word for this outcome, as in the statistics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Validated => "validated",
            Self::Unregistered => "unregistered",
            Self::BadToken => "badtoken",
            Self::Payload => "payload",
            Self::Malformed => "malformed",
            Self::Mismatch => "mismatch",
            Self::NotFound => "notfound",
            Self::ThirdParty => "thirdparty",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Quota => "quota",
            Self::DeviceQuota => "devicequota",
            Self::RateLimit => "ratelimit",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::Silent => "silent",
            Self::Cut => "cut",
            Self::Refused => "refused",
            Self::Lost => "lost",
        }
    }

    /// The outcome with this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_indexes_and_serde_agree() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), index);
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.name());
            assert_eq!(Outcome::by_name(outcome.name()), Some(outcome));
        }
        for fault in Fault::ALL {
            assert_eq!(serde_json::to_value(fault).unwrap(), fault.name());
        }
    }
}
