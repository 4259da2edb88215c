//! The parts of a message: `data`, `notification`, `android`, `apns`, `webpush`, `fcm_options`.

use serde_json::value::RawValue;

use super::fields::{Fields, text};
use super::message::is_topic;
use super::violation::{Checked, Violation};

/// The longest time to live, in seconds: 28 days.
const TTL_LIMIT: u64 = 2_419_200;

const NOTIFICATION: &[&str] = &["title", "body", "image"];
const ANDROID: &[&str] = &[
    "collapse_key",
    "priority",
    "ttl",
    "restricted_package_name",
    "data",
    "notification",
    "fcm_options",
    "direct_boot_ok",
    "bandwidth_constrained_ok",
    "restricted_satellite_ok",
];
const APNS: &[&str] = &["headers", "payload", "fcm_options", "live_activity_token"];
const WEBPUSH: &[&str] = &["headers", "data", "notification", "fcm_options"];
const OPTIONS: &[&str] = &["analytics_label"];

/// Checks everything but the target.
pub(super) fn check(fields: &Fields<'_>) -> Checked {
    for (name, raw) in present(fields) {
        let path = format!("message.{name}");
        match name {
            "data" => data(raw, &path)?,
            "notification" => strings(&object(raw, &path, NOTIFICATION)?, &path)?,
            "android" => android(raw, &path)?,
            "apns" => apns(raw, &path)?,
            "webpush" => webpush(raw, &path)?,
            "fcm_options" | "fcmOptions" => options(raw, &path)?,
            _ => {}
        }
    }
    Ok(())
}

fn android(raw: &RawValue, path: &str) -> Checked {
    for (name, raw) in present(&object(raw, path, ANDROID)?) {
        let path = format!("{path}.{name}");
        match name {
            "ttl" => ttl(raw, &path)?,
            "data" => data(raw, &path)?,
            "priority" if !matches!(raw.get(), "\"high\"" | "\"normal\"" | "\"HIGH\"" | "\"NORMAL\"") => {
                let kind = "type.googleapis.com/google.firebase.fcm.v1.AndroidConfig.AndroidMessagePriority";
                return Err(Violation::value(&path, kind, raw));
            }
            "notification" if Fields::of(raw).is_none() => {
                return Err(Violation::value(&path, "TYPE_MESSAGE", raw));
            }
            _ => {}
        }
    }
    Ok(())
}

fn apns(raw: &RawValue, path: &str) -> Checked {
    for (name, raw) in present(&object(raw, path, APNS)?) {
        let path = format!("{path}.{name}");
        let fields = Fields::of(raw);
        match (name, fields) {
            ("headers", Some(fields)) => strings(&fields, &path)?,
            ("headers" | "payload", None) => return Err(Violation::value(&path, "TYPE_MESSAGE", raw)),
            _ => {}
        }
    }
    Ok(())
}

fn webpush(raw: &RawValue, path: &str) -> Checked {
    for (name, raw) in present(&object(raw, path, WEBPUSH)?) {
        let path = format!("{path}.{name}");
        let fields = Fields::of(raw);
        match (name, fields) {
            ("headers" | "data", Some(fields)) => strings(&fields, &path)?,
            ("headers" | "data" | "notification", None) => return Err(Violation::value(&path, "TYPE_MESSAGE", raw)),
            _ => {}
        }
    }
    Ok(())
}

fn options(raw: &RawValue, path: &str) -> Checked {
    let fields = object(raw, path, OPTIONS)?;
    strings(&fields, path)?;
    let label = fields.0.iter().find_map(|(_, raw)| text(raw));
    match label {
        Some(label) if label.is_empty() || label.len() > 50 || !is_topic(&label) => Err(Violation::field(
            &format!("{path}.analytics_label"),
            "Invalid analytics label",
        )),
        _ => Ok(()),
    }
}

/// Strings under names that FCM does not keep for itself.
fn data(raw: &RawValue, path: &str) -> Checked {
    let fields = Fields::of(raw).ok_or_else(|| Violation::value(path, "TYPE_MESSAGE", raw))?;
    strings(&fields, path)?;
    for (name, _) in &fields.0 {
        let reserved = matches!(name.as_ref(), "from" | "message_type");
        if reserved || name.starts_with("google") || name.starts_with("gcm") {
            return Err(Violation::field(path, format!("Invalid data payload key: {name}")));
        }
    }
    Ok(())
}

/// A protobuf duration: seconds with up to nine decimals and an `s`.
fn ttl(raw: &RawValue, path: &str) -> Checked {
    let kind = "type.googleapis.com/google.protobuf.Duration";
    match text(raw).and_then(|text| duration_seconds(&text)) {
        None => Err(Violation::value(path, kind, raw)),
        Some(seconds) if seconds > TTL_LIMIT => Err(Violation::field(
            path,
            "Invalid TTL: must be between 0 and 2419200 seconds",
        )),
        Some(_) => Ok(()),
    }
}

/// The seconds of a duration, rounded up; `u64::MAX` for one below zero or beyond all bounds.
fn duration_seconds(text: &str) -> Option<u64> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.strip_suffix('s')?;
    let (negative, number) = number
        .strip_prefix('-')
        .map_or((false, number), |number| (true, number));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let more = u64::from(fraction.bytes().any(|byte| byte != b'0'));
    let seconds = whole.parse().unwrap_or(u64::MAX).saturating_add(more);
    Some(if negative && seconds > 0 { u64::MAX } else { seconds })
}

/// The members of an object, all of which must be known.
fn object<'a>(raw: &'a RawValue, path: &str, names: &[&str]) -> Result<Fields<'a>, Violation> {
    let fields = Fields::of(raw).ok_or_else(|| Violation::value(path, "TYPE_MESSAGE", raw))?;
    known(&fields, names, path)?;
    Ok(fields)
}

/// Fails for a name that is none of these.
pub(super) fn known(fields: &Fields<'_>, names: &[&str], path: &str) -> Checked {
    for (field, _) in &fields.0 {
        if !names.iter().any(|name| same_name(field, name)) {
            let at = if path.is_empty() {
                String::new()
            } else {
                format!(" at '{path}'")
            };
            let text = format!("Invalid JSON payload received. Unknown name \"{field}\"{at}: Cannot find field.");
            return Err(Violation::shape((!path.is_empty()).then_some(path), text));
        }
    }
    Ok(())
}

fn strings(fields: &Fields<'_>, path: &str) -> Checked {
    match fields.0.iter().find(|(_, raw)| !raw.get().starts_with('"')) {
        Some((name, raw)) => Err(Violation::value(&format!("{path}.{name}"), "TYPE_STRING", raw)),
        None => Ok(()),
    }
}

/// The members that are not `null`.
pub(super) fn present<'f, 'a>(fields: &'f Fields<'a>) -> impl Iterator<Item = (&'f str, &'a RawValue)> {
    fields
        .0
        .iter()
        .filter(|(_, raw)| raw.get() != "null")
        .map(|(name, raw)| (name.as_ref(), *raw))
}

/// Whether `field` is `snake`, or its lower camel case.
pub(super) fn same_name(field: &str, snake: &str) -> bool {
    let mut rest = field.chars();
    let mut upper = false;
    field == snake
        || (snake.chars().all(|letter| {
            if letter == '_' {
                upper = true;
                return true;
            }
            let wanted = if upper { letter.to_ascii_uppercase() } else { letter };
            upper = false;
            rest.next() == Some(wanted)
        }) && rest.next().is_none())
}
