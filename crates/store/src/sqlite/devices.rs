//! Single devices: found, inserted, changed, deleted. Every statement walks one index entry.

use bugle_model::{DeviceId, DeviceKey, Provider, Registration, Timestamp, Token};
use rusqlite::{Connection, Params, params};

use super::rows::Stored;
use super::subscriptions;
use crate::Result;
use crate::registry::record::{locale, timezone};

/// A registration with what is computed before it comes to the writer.
pub(super) struct Entry {
    pub(super) registration: Registration,
    /// See [`super::rows::token_hash`].
    pub(super) token_hash: i64,
    /// See [`crate::registry::record::write_meta`].
    pub(super) meta: String,
    pub(super) now: Timestamp,
}

/// The device of that id.
pub(super) fn by_id(conn: &Connection, app: i64, id: &DeviceId) -> Result<Option<Stored>> {
    find(
        conn,
        "SELECT * FROM devices WHERE app = ? AND id = ?",
        (app, id.as_str()),
    )
}

/// The device that holds that token.
pub(super) fn by_token(
    conn: &Connection,
    app: i64,
    provider: Provider,
    token: &Token,
    token_hash: i64,
) -> Result<Option<Stored>> {
    find(
        conn,
        "SELECT * FROM devices INDEXED BY devices_by_token WHERE app = ? AND token_hash = ? AND provider = ? AND token = ?",
        (app, token_hash, provider.code(), token.as_str()),
    )
}

/// The device of that key.
pub(super) fn by_key(conn: &Connection, key: DeviceKey) -> Result<Option<Stored>> {
    find(conn, "SELECT * FROM devices WHERE key = ?", [key.0])
}

fn find(conn: &Connection, sql: &str, params: impl Params) -> Result<Option<Stored>> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(Stored::read).transpose()
}

/// Writes a new device down and returns its key.
pub(super) fn insert(conn: &Connection, app: i64, id: &DeviceId, entry: &Entry) -> Result<DeviceKey> {
    let r = &entry.registration;
    let mut statement = conn.prepare_cached(
        "INSERT INTO devices (app, id, provider, platform, platform_word, token, token_hash, user, meta, timezone, locale,
            created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12)",
    )?;
    let key = statement.insert(params![
        app,
        id.as_str(),
        r.provider.code(),
        r.platform.code(),
        r.platform_word,
        r.token.as_str(),
        entry.token_hash,
        r.user,
        entry.meta,
        timezone(r),
        locale(r),
        entry.now.0,
    ])?;
    Ok(DeviceKey(key))
}

/// Gives a device the state that the registration declares.
pub(super) fn update(conn: &Connection, key: DeviceKey, entry: &Entry) -> Result<()> {
    let r = &entry.registration;
    let mut statement = conn.prepare_cached(
        "UPDATE devices SET provider = ?2, platform = ?3, platform_word = ?4, token = ?5, token_hash = ?6, user = ?7, meta = ?8,
            timezone = ?9, locale = ?10, updated_at = ?11
         WHERE key = ?1",
    )?;
    statement.execute(params![
        key.0,
        r.provider.code(),
        r.platform.code(),
        r.platform_word,
        r.token.as_str(),
        entry.token_hash,
        r.user,
        entry.meta,
        timezone(r),
        locale(r),
        entry.now.0,
    ])?;
    Ok(())
}

/// Notes that a device was registered again as it was. No index is touched.
pub(super) fn touch(conn: &Connection, key: DeviceKey, now: Timestamp) -> Result<()> {
    conn.prepare_cached("UPDATE devices SET updated_at = ?2 WHERE key = ?1")?
        .execute((key.0, now.0))?;
    Ok(())
}

/// Deletes a device and its subscriptions.
pub(super) fn delete(conn: &Connection, key: DeviceKey) -> Result<()> {
    subscriptions::delete_all(conn, key)?;
    conn.prepare_cached("DELETE FROM devices WHERE key = ?")?
        .execute([key.0])?;
    Ok(())
}
