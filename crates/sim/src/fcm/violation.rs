//! Why FCM refuses a message.

use serde_json::value::RawValue;

/// Why a message is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) text: String,
    pub(super) field: Option<String>,
    /// The answer has an `FcmError` detail.
    pub(super) fcm: bool,
    /// The answer has a `BadRequest` detail.
    pub(super) bad_request: bool,
    /// It is the token itself.
    pub(super) token: bool,
}

/// What a check finds.
pub(super) type Checked = Result<(), Violation>;

impl Violation {
    pub(super) fn field(field: &str, text: impl Into<String>) -> Self {
        let field = Some(field.to_owned());
        Self {
            text: text.into(),
            field,
            fcm: true,
            bad_request: true,
            token: false,
        }
    }

    /// What the JSON layer before FCM says: no `FcmError`.
    pub(super) fn shape(field: Option<&str>, text: impl Into<String>) -> Self {
        let field = field.map(str::to_owned);
        Self {
            text: text.into(),
            field,
            fcm: false,
            bad_request: true,
            token: false,
        }
    }

    pub(super) fn value(path: &str, kind: &str, raw: &RawValue) -> Self {
        let shown: String = raw.get().chars().take(60).collect();
        Self::shape(Some(path), format!("Invalid value at '{path}' ({kind}), {shown}"))
    }

    /// FCM says this with an `FcmError` alone, as it does for a bad token; it is the message that is wrong.
    pub(super) fn too_big() -> Self {
        let text = "Android message is too big".to_owned();
        Self {
            text,
            field: None,
            fcm: true,
            bad_request: false,
            token: false,
        }
    }

    pub(super) fn bad_token() -> Self {
        Self {
            text: String::new(),
            field: None,
            fcm: true,
            bad_request: false,
            token: true,
        }
    }
}
