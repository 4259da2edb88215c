//! The checks that FCM makes on the body of `messages:send`.
//!
//! Names are taken in both spellings that Google's JSON knows (`fcm_options`, `fcmOptions`), `null` is the same as
//! absent, unknown names are errors down to `android.*`, `apns.*` and `webpush.*`; what lies deeper is not looked at.
//!
//! The size is that of the `message` object as it was sent, without its target (name, value and punctuation) and
//! `name`: 4096 bytes for a token, 2048 for a topic or a condition. FCM itself counts a little more kindly, only the
//! keys and values of `notification` and `data`.

use std::borrow::Cow;

use super::fields::{Fields, text};
use super::parts::{self, known, present, same_name};
use super::violation::{Checked, Violation};

/// The longest token that is looked at, in bytes.
const TOKEN_LIMIT: usize = 4096;
const ENVELOPE: &[&str] = &["message", "validate_only"];
const MESSAGE: &[&str] = &[
    "name",
    "token",
    "topic",
    "condition",
    "data",
    "notification",
    "android",
    "apns",
    "webpush",
    "fcm_options",
];
/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target<'a> {
    Token(Cow<'a, str>),
    Topic(Cow<'a, str>),
    Condition(Cow<'a, str>),
}

/// What a body says, as far as it could be read, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Message<'a> {
    /// The target, even of a message that is otherwise wrong.
    pub(super) target: Option<Target<'a>>,
    pub(super) validate_only: bool,
    pub(super) violation: Option<Violation>,
}

/// Reads and checks the body of a request.
pub(super) fn read(body: &[u8]) -> Message<'_> {
    let mut message = Message::default();
    message.violation = envelope(body, &mut message).err();
    message
}

fn envelope<'a>(body: &'a [u8], message: &mut Message<'a>) -> Checked {
    let wrong = |text: &str| Violation::shape(None, format!("Invalid JSON payload received. {text}"));
    let body = std::str::from_utf8(body).map_err(|_| wrong("Not UTF-8."))?;
    let fields: Fields<'a> = serde_json::from_str(body).map_err(|error| wrong(&error.to_string()))?;
    known(&fields, ENVELOPE, "")?;
    let mut inner = None;
    for (name, raw) in present(&fields) {
        if same_name(name, "message") {
            inner = Some(Fields::of(raw).ok_or_else(|| Violation::value("message", "TYPE_MESSAGE", raw))?);
        } else {
            message.validate_only = raw.get() == "true";
        }
    }
    let Some(fields) = inner else {
        return Err(Violation::field("message", "Request contains an invalid argument."));
    };
    let target = target(&fields, message);
    known(&fields, MESSAGE, "message")?;
    target?;
    parts::check(&fields)?;
    let limit = if matches!(message.target, Some(Target::Token(_))) {
        4096
    } else {
        2048
    };
    if size(&fields) > limit {
        Err(Violation::too_big())
    } else {
        Ok(())
    }
}

/// Finds the one target.
fn target<'a>(fields: &Fields<'a>, message: &mut Message<'a>) -> Checked {
    for (name, raw) in &fields.0 {
        if !matches!(name.as_ref(), "token" | "topic" | "condition") || raw.get() == "null" {
            continue;
        }
        let path = format!("message.{name}");
        let value = text(raw).ok_or_else(|| Violation::value(&path, "TYPE_STRING", raw))?;
        if message.target.is_some() {
            let text =
                format!("Invalid value at 'message' (oneof), oneof field 'target' is already set. Cannot set '{name}'");
            return Err(Violation::shape(Some("message"), text));
        }
        message.target = Some(match name.as_ref() {
            "token" => Target::Token(value),
            "topic" => Target::Topic(value),
            _ => Target::Condition(value),
        });
    }
    match &message.target {
        None => Err(Violation::field("message", "Recipient of the message is not set.")),
        Some(Target::Token(token)) if !is_token(token) => Err(Violation::bad_token()),
        Some(Target::Topic(topic)) if !is_topic(topic) => {
            Err(Violation::field("message.topic", "Malformed topic name"))
        }
        Some(Target::Condition(condition)) if condition.is_empty() => Err(Violation::field(
            "message.condition",
            "Invalid condition expression provided.",
        )),
        Some(_) => Ok(()),
    }
}

fn is_token(token: &str) -> bool {
    !token.is_empty() && token.len() <= TOKEN_LIMIT && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether this is a topic's name, which an analytics label must look like too.
pub(super) fn is_topic(topic: &str) -> bool {
    let name = topic.strip_prefix("/topics/").unwrap_or(topic);
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~%".contains(&byte))
}

/// The bytes of the message without its target.
fn size(fields: &Fields<'_>) -> usize {
    let counted = fields
        .0
        .iter()
        .filter(|(name, _)| !matches!(name.as_ref(), "token" | "topic" | "condition" | "name"));
    // Two quotes and a colon, and a comma or one of the braces.
    counted
        .map(|(name, raw)| name.len() + raw.get().len() + 4)
        .sum::<usize>()
        + 1
}

#[cfg(test)]
mod tests;
