//! The typed form: FCM's fields, with the channel vocabulary's three differences turned into FCM's.

use serde_json::{Map, Value};

use super::FieldProblem;
use super::check::{self, Place};

/// FCM's message of the typed fields, in their order.
pub(super) fn message(root: &Place<'_>) -> Result<Map<String, Value>, FieldProblem> {
    if root.get("webpush").is_some() && root.get("web").is_some() {
        return Err(root.problem("webpush", "must not stand beside web, which is the same"));
    }
    let web = if root.get("webpush").is_some() {
        "webpush"
    } else {
        "web"
    };
    check::message(root, web)?;
    let mut message = Map::new();
    for (key, value) in root.fields() {
        match key.as_str() {
            _ if value.is_null() => {}
            "web" => {
                message.insert("webpush".into(), value.clone());
            }
            "apns" => {
                message.insert(key.clone(), apns(root)?);
            }
            _ => {
                message.insert(key.clone(), value.clone());
            }
        }
    }
    Ok(message)
}

fn apns(root: &Place<'_>) -> Result<Value, FieldProblem> {
    let Some(apns) = root.object("apns")? else {
        return Ok(Value::Null);
    };
    let mut out = apns.fields().clone();
    if let Some(payload) = apns.object("payload")? {
        out.insert("payload".into(), self::payload(&payload)?.into());
    }
    Ok(out.into())
}

/// APNs' payload: `data` is laid beside `aps`.
fn payload(payload: &Place<'_>) -> Result<Map<String, Value>, FieldProblem> {
    let mut out = Map::new();
    for (key, value) in payload.fields() {
        match key.as_str() {
            "data" => {}
            "aps" if !value.is_null() => {
                out.insert(key.clone(), aps(payload)?);
            }
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    if let Some(data) = payload.dictionary("data")? {
        for (key, value) in data.fields() {
            if key == "aps" || payload.get(key).is_some() && key != "data" {
                return Err(data.problem(key, "the payload has a field of this name already"));
            }
            out.insert(key.clone(), value.clone());
        }
    }
    Ok(out)
}

fn aps(payload: &Place<'_>) -> Result<Value, FieldProblem> {
    let Some(aps) = payload.object("aps")? else {
        return Ok(Value::Null);
    };
    aps.texts(&["thread_id", "thread-id", "category"])?;
    if aps.get("thread_id").is_some() && aps.get("thread-id").is_some() {
        return Err(aps.problem("thread_id", "must not stand beside thread-id, which is the same"));
    }
    match aps.get("alert") {
        None | Some(Value::String(_)) => {}
        Some(_) => {
            let alert = aps
                .object("alert")
                .map_err(|_| aps.problem("alert", "expected a text or an object"))?;
            alert.map_or(Ok(()), |alert| alert.texts(&["title", "subtitle", "body"]))?;
        }
    }
    // APNs takes an object for a critical alert's sound.
    if aps
        .get("sound")
        .is_some_and(|sound| !sound.is_string() && !sound.is_object())
    {
        return Err(aps.problem("sound", "expected a text"));
    }
    let mut out = Map::new();
    for (key, value) in aps.fields() {
        match key.as_str() {
            "thread_id" if value.is_null() => {}
            "thread_id" => {
                out.insert("thread-id".into(), value.clone());
            }
            "badge" if !value.is_null() => {
                out.insert(key.clone(), badge(&aps, value)?);
            }
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    Ok(out.into())
}

/// A whole number; `{"value": n}` is how some clients write a number that may be absent.
fn badge(aps: &Place<'_>, value: &Value) -> Result<Value, FieldProblem> {
    let number = match value {
        Value::Object(boxed) => boxed.get("value").cloned().unwrap_or_else(|| 0.into()),
        plain => plain.clone(),
    };
    match number.as_i64() {
        Some(n) if i32::try_from(n).is_ok() => Ok(number),
        _ => Err(aps.problem("badge", "expected a whole number")),
    }
}
