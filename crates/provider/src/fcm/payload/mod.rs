//! A notification in the channel vocabulary as FCM's own message object, checked before anything is accepted.
//!
//! Two forms come in: typed fields, which are FCM's with three differences (`web`, `thread_id`, `apns.payload.data`), and `message`, which is
//! FCM's own object and passes through untouched. Fields that are unknown here pass through in both. What is known is checked for what
//! FCM's documentation says and nothing else, so that a message which FCM would take is never refused here for its form.

mod check;
mod typed;

use serde_json::{Map, Value};

use super::request::TARGETS;
use check::Place;

/// FCM's limit for a message to one device, in bytes.
pub const MAX_BYTES: usize = 4_096;

/// FCM's limit for a message to a topic or a condition, in bytes.
pub const MAX_TOPIC_BYTES: usize = 2_048;

/// Where this object sits in a request: the start of every [`FieldProblem::field`].
const ROOT: &str = "notification.fcm";

/// What kind of target the message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressee {
    /// Devices, by token.
    Token,
    /// A topic of FCM's own.
    Topic,
    /// A condition over such topics.
    Condition,
}

impl Addressee {
    fn max_bytes(self) -> usize {
        match self {
            Self::Token => MAX_BYTES,
            Self::Topic | Self::Condition => MAX_TOPIC_BYTES,
        }
    }
}

/// A field that FCM would not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldProblem {
    /// Its path in the request, like `notification.fcm.android.ttl`.
    pub field: String,
    /// What is wrong and what was expected. Never quotes a value.
    pub problem: String,
}

impl FieldProblem {
    fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }
}

/// FCM's message object, without a target, as JSON text. `fcm` is the value of `notification.fcm`.
pub fn build(fcm: &Map<String, Value>, to: Addressee) -> Result<Vec<u8>, FieldProblem> {
    let root = Place::new(fcm, ROOT);
    let (message, place) = match root.object("message")? {
        Some(raw) => {
            if let Some((beside, _)) = fcm.iter().find(|(key, value)| *key != "message" && !value.is_null()) {
                return Err(FieldProblem::new(
                    root.path(beside),
                    "must not stand beside message, which is the whole message",
                ));
            }
            check::message(&raw, "webpush")?;
            let mut message = raw.fields().clone();
            // Null is no target, but its name would stand beside the real one's.
            message.retain(|key, _| !TARGETS.contains(&key.as_str()));
            (message, raw.path_of_itself().to_owned())
        }
        None => (typed::message(&root)?, ROOT.to_owned()),
    };
    if message.values().all(Value::is_null) {
        return Err(FieldProblem::new(place, "must not be empty"));
    }
    // A map of JSON values always serialises.
    let text = serde_json::to_vec(&message).map_err(|e| FieldProblem::new(&place, e.to_string()))?;
    if text.len() > to.max_bytes() {
        let problem = format!("at most {} bytes as FCM's message, got {}", to.max_bytes(), text.len());
        return Err(FieldProblem::new(place, problem));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
