//! FCM's answer as an outcome: one pure function, one table (<https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode>).

use std::borrow::Cow;
use std::time::Duration;

use bugle_model::Outcome;
use serde::Deserialize;
use serde_json::Value;

/// How long to wait after a 429 that does not say it.
const QUOTA_WAIT: Duration = Duration::from_mins(1);

const FCM_ERROR: &str = "google.firebase.fcm.v1.FcmError";
const BAD_REQUEST: &str = "google.rpc.BadRequest";
const QUOTA_FAILURE: &str = "google.rpc.QuotaFailure";

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    /// It may be the access token's fault: worth one repetition with a fresh one.
    pub(super) token_refused: bool,
}

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            token_refused: false,
        }
    }
}

#[derive(Deserialize)]
struct Accepted<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// FCM's name of a message that it accepted; empty if the body does not say it.
pub(super) fn message_id(body: &[u8]) -> Cow<'_, str> {
    serde_json::from_slice::<Accepted<'_>>(body).map_or(Cow::Borrowed(""), |accepted| accepted.name)
}

/// Maps an answer to its outcome. `retry_after` is the header, already as a time from now.
pub(super) fn classify(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Verdict {
    if (200..300).contains(&status) {
        // The status alone says that FCM took it; a body that we cannot read must not make us send it twice.
        return Outcome::Accepted.into();
    }
    let error = Error::read(body);
    match status {
        400 => invalid_argument(&error).into(),
        404 if error.code() == Some("UNREGISTERED") => Outcome::Device { reason: "UNREGISTERED" }.into(),
        404 => credential("NOT_FOUND").into(),
        403 if error.code() == Some("SENDER_ID_MISMATCH") => Outcome::Mismatch {
            reason: "SENDER_ID_MISMATCH",
        }
        .into(),
        401 if error.code() == Some("THIRD_PARTY_AUTH_ERROR") => credential("THIRD_PARTY_AUTH_ERROR").into(),
        401 => token_refused("UNAUTHENTICATED"),
        403 => token_refused("PERMISSION_DENIED"),
        413 => Outcome::Payload { reason: "too large" }.into(),
        429 => Outcome::Throttle {
            after: retry_after.unwrap_or(QUOTA_WAIT),
            whole: !error.is_quota_of_one(),
        }
        .into(),
        500 => transient("INTERNAL", retry_after).into(),
        503 => transient("UNAVAILABLE", retry_after).into(),
        408 | 501..=599 => transient("server error", retry_after).into(),
        // A redirect, or a status that FCM does not know: this is not FCM, or not where we think it is. Nothing is lost by holding.
        _ => credential("unexpected status").into(),
    }
}

/// A message may be wrong, or only its token. Only a clear word about the token lets a device go.
fn invalid_argument(error: &Error) -> Outcome {
    let reason = "INVALID_ARGUMENT";
    let speaks_of_token = error.code() == Some("INVALID_ARGUMENT") && error.is_about_the_token();
    if error.status() == "INVALID_ARGUMENT" && speaks_of_token {
        return Outcome::Device { reason };
    }
    Outcome::Payload { reason }
}

fn credential(reason: &'static str) -> Outcome {
    Outcome::Credential {
        reason,
        exchange_refused: false,
    }
}

fn token_refused(reason: &'static str) -> Verdict {
    Verdict {
        outcome: credential(reason),
        token_refused: true,
    }
}

fn transient(reason: &'static str, after: Option<Duration>) -> Outcome {
    Outcome::Transient {
        reason,
        after,
        connection: None,
    }
}

/// FCM's error object, read without trusting its shape.
struct Error(Value);

impl Error {
    fn read(body: &[u8]) -> Self {
        let mut body: Value = serde_json::from_slice(body).unwrap_or_default();
        Self(body.get_mut("error").map(Value::take).unwrap_or_default())
    }

    fn status(&self) -> &str {
        text(&self.0, "status")
    }

    fn details(&self, kind: &'static str) -> impl Iterator<Item = &Value> {
        let all = self
            .0
            .get("details")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        all.iter()
            .filter(move |detail| text(detail, "@type").rsplit('/').next() == Some(kind))
    }

    fn violations(&self, kind: &'static str, list: &'static str) -> impl Iterator<Item = &Value> {
        self.details(kind)
            .filter_map(move |detail| detail.get(list)?.as_array())
            .flatten()
    }

    /// FCM's own error code.
    fn code(&self) -> Option<&str> {
        self.details(FCM_ERROR)
            .find_map(|detail| detail.get("errorCode")?.as_str())
    }

    /// Google words it in two ways: in the message itself, without a violation, or as a violation of the field `message.token` and of no other.
    fn is_about_the_token(&self) -> bool {
        if self.details(BAD_REQUEST).next().is_none() {
            return says_invalid_token(text(&self.0, "message"));
        }
        let mut violations = self.violations(BAD_REQUEST, "fieldViolations").peekable();
        violations.peek().is_some()
            && violations.all(|v| text(v, "field") == "message.token" && says_invalid_token(text(v, "description")))
    }

    /// Was it the quota of one device or one topic, and not the project's?
    fn is_quota_of_one(&self) -> bool {
        let mut violations = self.violations(QUOTA_FAILURE, "violations").peekable();
        violations.peek().is_some() && violations.all(is_of_one)
    }
}

/// Google does not document how FCM names the subject of a quota; its other services write `project:NAME`. So the subject's kind decides
/// if it is one we know, else the words around it, and in doubt it is the project: waiting too much harms less than pressing on.
fn is_of_one(violation: &Value) -> bool {
    let one = |words: &str| words.contains("device") || words.contains("topic");
    let kind = text(violation, "subject").split([':', '/']).next().unwrap_or_default();
    let kind = kind.to_ascii_lowercase();
    if one(&kind) || kind.contains("project") {
        return one(&kind);
    }
    let words = ["description", "quotaMetric", "quotaId"]
        .map(|key| text(violation, key))
        .join(" ");
    let words = words.to_ascii_lowercase();
    one(&words) && !words.contains("project")
}

/// `The registration token is not a valid FCM registration token`, `Invalid registration token`.
fn says_invalid_token(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("registration token")
        && (message.contains("not a valid") || message.contains("not valid") || message.contains("invalid"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;
