//! How values of the registry are written down, in every database.

use std::collections::BTreeMap;

use bugle_model::{Device, DeviceId, Platform, Provider, Registration, Timestamp};

use crate::{Error, Result};

/// Key-value pairs as they are stored: a JSON object in the order of its keys.
pub(crate) fn write_meta(meta: &BTreeMap<String, String>) -> Result<String> {
    if meta.is_empty() {
        return Ok("{}".to_owned());
    }
    serde_json::to_string(meta).map_err(|e| corrupt("devices.meta", e.to_string()))
}

/// Reads what [`write_meta`] wrote.
pub(crate) fn read_meta(json: &str) -> Result<BTreeMap<String, String>> {
    if json == "{}" {
        return Ok(BTreeMap::new());
    }
    // The parser's words may quote a value.
    serde_json::from_str(json)
        .map_err(|e| corrupt("devices.meta", format!("not JSON of texts, at byte {}", e.column())))
}

/// The provider of a number that stands in a row.
pub(crate) fn provider(code: u8) -> Result<Provider> {
    Provider::from_code(code).ok_or_else(|| corrupt("devices.provider", code.to_string()))
}

/// The platform of a number that stands in a row.
pub(crate) fn platform(code: u8) -> Result<Platform> {
    Platform::from_code(code).ok_or_else(|| corrupt("devices.platform", code.to_string()))
}

/// Something in a row does not have the form that this version writes.
pub(crate) fn corrupt(place: &'static str, detail: String) -> Error {
    Error::Corrupt { place, detail }
}

/// The time zone that the registration declares, or the empty text.
pub(crate) fn timezone(r: &Registration) -> &str {
    r.timezone.as_ref().map_or("", |zone| zone.as_str())
}

/// The locale that the registration declares, or the empty text.
pub(crate) fn locale(r: &Registration) -> &str {
    r.locale.as_ref().map_or("", |tag| tag.as_str())
}

/// The device that the registration declares, under that id.
pub(crate) fn declared(r: &Registration, id: DeviceId, created_at: Timestamp, updated_at: Timestamp) -> Device {
    Device {
        id,
        provider: r.provider,
        platform: r.platform_word.to_owned(),
        token: r.token.clone(),
        user: r.user.clone(),
        meta: r.meta.clone(),
        timezone: timezone(r).to_owned(),
        locale: locale(r).to_owned(),
        created_at,
        updated_at,
    }
}
