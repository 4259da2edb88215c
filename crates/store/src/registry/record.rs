//! How values of the registry are written down, in every database.

use std::collections::BTreeMap;

use bugle_model::{Device, DeviceId, DeviceKey, Platform, Provider, Registration, Route, Timestamp, Token, TokenTexts};

use crate::{Error, Result};

/// Key-value pairs as they are stored: a JSON object in the order of its keys.
pub(crate) fn write_meta(meta: &BTreeMap<String, String>) -> Result<String> {
    if meta.is_empty() {
        return Ok("{}".to_owned());
    }
    serde_json::to_string(meta).map_err(|e| Error::corrupt("devices.meta", e.to_string()))
}

/// Reads what [`write_meta`] wrote.
pub(crate) fn read_meta(json: &str) -> Result<BTreeMap<String, String>> {
    if json == "{}" {
        return Ok(BTreeMap::new());
    }
    // The parser's words may quote a value.
    serde_json::from_str(json)
        .map_err(|e| Error::corrupt("devices.meta", format!("not JSON of texts, at byte {}", e.column())))
}

/// The provider of a number that stands in a row.
pub(crate) fn provider(code: u8) -> Result<Provider> {
    Provider::from_code(code).ok_or_else(|| Error::corrupt("devices.provider", code.to_string()))
}

/// The platform of a number that stands in a row.
pub(crate) fn platform(code: u8) -> Result<Platform> {
    Platform::from_code(code).ok_or_else(|| Error::corrupt("devices.platform", code.to_string()))
}

/// The route of a device's two numbers.
pub(crate) fn route(provider: u8, platform: u8) -> Result<Route> {
    Ok(Route::of(self::provider(provider)?, self::platform(platform)?))
}

/// A token that stands in a row.
pub(crate) fn token(text: &str) -> Result<Token> {
    Token::parse(text).map_err(|invalid| Error::corrupt("devices.token", invalid.problem))
}

/// The same, as one of many.
pub(crate) fn add_token(texts: &mut TokenTexts, text: &str) -> Result<()> {
    (texts.push(text)).map_err(|invalid| Error::corrupt("subscriptions.token", invalid.problem))
}

/// An id that stands in a row.
pub(crate) fn device_id(text: &str) -> Result<DeviceId> {
    DeviceId::parse(text).map_err(|invalid| Error::corrupt("devices.id", invalid.problem))
}

/// A subscription whose device is not there.
pub(crate) fn without_device(key: DeviceKey) -> Error {
    Error::corrupt("subscriptions.key", format!("no device has the key {}", key.0))
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
