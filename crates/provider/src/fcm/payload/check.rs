//! What FCM's documentation says of a message's fields.

use serde_json::{Map, Value};

use super::{FieldProblem, TARGETS};

/// Four weeks: the longest that FCM stores a message.
const MAX_TTL_SECS: u64 = 2_419_200;

/// An object and its path in the request. Absent and null are the same everywhere.
pub(super) struct Place<'a> {
    fields: &'a Map<String, Value>,
    path: String,
}

impl<'a> Place<'a> {
    pub(super) fn new(fields: &'a Map<String, Value>, path: impl Into<String>) -> Self {
        Self {
            fields,
            path: path.into(),
        }
    }

    pub(super) fn fields(&self) -> &'a Map<String, Value> {
        self.fields
    }

    pub(super) fn path_of_itself(&self) -> &str {
        &self.path
    }

    /// The path of a field of it.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    pub(super) fn problem(&self, name: &str, problem: &str) -> FieldProblem {
        FieldProblem::new(self.path(name), problem)
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Place<'a>>, FieldProblem> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Place::new(fields, self.path(name)))),
            Some(_) => Err(self.problem(name, "expected an object")),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, FieldProblem> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.problem(name, "expected a text")),
        }
    }

    pub(super) fn texts(&self, names: &[&str]) -> Result<(), FieldProblem> {
        names.iter().try_for_each(|name| self.text(name).map(|_| ()))
    }

    fn flag(&self, name: &str) -> Result<(), FieldProblem> {
        match self.get(name) {
            None | Some(Value::Bool(_)) => Ok(()),
            Some(_) => Err(self.problem(name, "expected true or false")),
        }
    }

    /// A map of texts to texts.
    pub(super) fn dictionary(&self, name: &str) -> Result<Option<Place<'a>>, FieldProblem> {
        let Some(map) = self.object(name)? else { return Ok(None) };
        match map.fields.iter().find(|(_, value)| !value.is_string()) {
            Some((key, _)) => Err(map.problem(key, "expected a text")),
            None => Ok(Some(map)),
        }
    }

    /// A map of texts to texts that reaches the app, where FCM keeps some names for itself.
    fn data(&self) -> Result<(), FieldProblem> {
        let Some(data) = self.dictionary("data")? else {
            return Ok(());
        };
        match data.fields.keys().find(|key| is_reserved(key)) {
            Some(key) => Err(data.problem(key, "this name is reserved by FCM (from, message_type, google…, gcm…)")),
            None => Ok(()),
        }
    }
}

fn is_reserved(key: &str) -> bool {
    matches!(key, "from" | "message_type") || key.starts_with("google") || key.starts_with("gcm")
}

/// Checks a message. `web` is the name that its web part has here.
pub(super) fn message(message: &Place<'_>, web: &str) -> Result<(), FieldProblem> {
    if let Some(target) = TARGETS.into_iter().find(|target| message.get(target).is_some()) {
        return Err(message.problem(target, "must not be given, the recipient is the target"));
    }
    message.data()?;
    if let Some(notification) = message.object("notification")? {
        notification.texts(&["title", "body", "image"])?;
    }
    options(message, &[])?;
    android(message)?;
    if let Some(apns) = message.object("apns")? {
        apns.dictionary("headers")?;
        apns.object("payload")?;
        options(&apns, &["image"])?;
    }
    if let Some(webpush) = message.object(web)? {
        webpush.dictionary("headers")?;
        webpush.data()?;
        webpush.object("notification")?;
        options(&webpush, &["link"])?;
    }
    Ok(())
}

fn android(message: &Place<'_>) -> Result<(), FieldProblem> {
    let Some(android) = message.object("android")? else {
        return Ok(());
    };
    android.texts(&["collapse_key", "priority", "restricted_package_name"])?;
    if let Some(text) = android.text("ttl").map_err(|_| android.problem("ttl", TTL_EXPECTED))? {
        ttl(text).map_err(|problem| android.problem("ttl", problem))?;
    }
    android.data()?;
    options(&android, &[])?;
    if let Some(notification) = android.object("notification")? {
        notification.texts(&[
            "title",
            "body",
            "icon",
            "color",
            "sound",
            "tag",
            "click_action",
            "image",
            "channel_id",
        ])?;
        notification.flag("sticky")?;
    }
    Ok(())
}

/// `fcm_options`, which every part may have.
fn options(part: &Place<'_>, texts: &[&str]) -> Result<(), FieldProblem> {
    let Some(options) = part.object("fcm_options")? else {
        return Ok(());
    };
    options.texts(texts)?;
    let Some(label) = options.text("analytics_label")? else {
        return Ok(());
    };
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b'%');
    if label.len() > 50 || !label.bytes().all(fits) {
        return Err(options.problem("analytics_label", "expected at most 50 of A-Z, a-z, 0-9, - _ . ~ and %"));
    }
    Ok(())
}

const TTL_EXPECTED: &str = "expected seconds as a text like \"3.5s\"";

/// A duration in the JSON form of protocol buffers, within what FCM stores.
fn ttl(text: &str) -> Result<(), &'static str> {
    const RANGE: &str = "expected 0s to 2419200s (four weeks)";
    let number = text.strip_suffix('s').ok_or(TTL_EXPECTED)?;
    let (number, negative) = number
        .strip_prefix('-')
        .map_or((number, false), |number| (number, true));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return Err(TTL_EXPECTED);
    }
    let more = fraction.bytes().any(|b| b != b'0');
    let seconds: u64 = whole.parse().unwrap_or(u64::MAX);
    let too_long = seconds > MAX_TTL_SECS || (seconds == MAX_TTL_SECS && more);
    let below_zero = negative && (seconds > 0 || more);
    if too_long || below_zero { Err(RANGE) } else { Ok(()) }
}
