//! Devices that a provider declared dead, or that were not registered for long: forgotten, kept aside, put back, purged.

use bugle_model::{DeviceKey, Provider, PushUid, Route, Timestamp, Token};
use rusqlite::Connection;

use super::devices;
use super::rows::token_hash;
use super::writer::Cost;
use crate::Result;
use crate::registry::gone::{INACTIVE, INACTIVE_STEP, INACTIVE_WALK, Place, RESTORE_STEP};
use crate::registry::record;

/// What putting back writes in one transaction.
pub(super) const RESTORE_COST: Cost = Cost {
    rows: RESTORE_STEP,
    removals: 0,
};

/// A token that was found dead.
pub(super) struct Death<'a> {
    pub(super) provider: Provider,
    pub(super) token: &'a Token,
    /// Only a device whose latest registration is before this; `None` = whenever it was.
    pub(super) registered_before: Option<Timestamp>,
    /// The push that found it.
    pub(super) push: &'a PushUid,
    /// The provider's word.
    pub(super) reason: &'a str,
    pub(super) at: Timestamp,
}

/// Moves the device that still holds the token to `gone`, with its subscriptions. `false` = nobody holds it, or it was
/// registered again.
pub(super) fn forget_dead(conn: &Connection, app: i64, death: &Death<'_>) -> Result<bool> {
    let hash = token_hash(death.token.as_str());
    let Some(stored) = devices::by_token(conn, app, death.provider, death.token, hash)? else {
        return Ok(false);
    };
    if death
        .registered_before
        .is_some_and(|before| stored.device.updated_at >= before)
    {
        return Ok(false);
    }
    set_aside(conn, stored.key, death.push.as_str(), death.reason, death.at)?;
    Ok(true)
}

/// Moves the devices whose latest registration still is before then to `gone`. Returns how many those were.
pub(super) fn forget_inactive(conn: &Connection, keys: &[DeviceKey], before: Timestamp, at: Timestamp) -> Result<u64> {
    let mut still = conn.prepare_cached("SELECT EXISTS (SELECT 1 FROM devices WHERE key = ? AND updated_at < ?)")?;
    let mut forgotten = 0;
    for key in keys {
        if still.query_row((key.0, before.0), |row| row.get(0))? {
            set_aside(conn, *key, "", INACTIVE, at)?;
            forgotten += 1;
        }
    }
    Ok(forgotten)
}

/// Reads on in the registry: the keys of devices not registered since `before`, and where to go on (`None` = that was the end).
pub(super) fn find_inactive(
    conn: &Connection,
    from: DeviceKey,
    before: Timestamp,
) -> Result<(Vec<DeviceKey>, Option<DeviceKey>)> {
    let mut statement =
        conn.prepare_cached("SELECT key, updated_at FROM devices WHERE key > ? ORDER BY key LIMIT ?")?;
    let mut rows = statement.query((from.0, INACTIVE_WALK))?;
    let (mut found, mut seen, mut last) = (Vec::new(), 0, from);
    while let Some(row) = rows.next()? {
        seen += 1;
        last = DeviceKey(row.get(0)?);
        if row.get::<_, i64>(1)? < before.0 {
            found.push(last);
            if found.len() == INACTIVE_STEP {
                return Ok((found, Some(last)));
            }
        }
    }
    Ok((found, (seen == INACTIVE_WALK).then_some(last)))
}

fn set_aside(conn: &Connection, key: DeviceKey, push: &str, reason: &str, at: Timestamp) -> Result<()> {
    conn.prepare_cached(
        "INSERT INTO gone (app, id, provider, platform, platform_word, token, user, meta, timezone, locale, created_at, updated_at,
            subscriptions, push_uid, reason, gone_at)
         SELECT app, id, provider, platform, platform_word, token, user, meta, timezone, locale, created_at, updated_at,
            (SELECT json_group_array(json_array(channel, origins)) FROM subscriptions WHERE key = ?1), ?2, ?3, ?4
         FROM devices WHERE key = ?1",
    )?
    .execute((key.0, push, reason, at.0))?;
    devices::delete(conn, key)
}

/// Puts back the next devices after `from` that died at or after `since`, newest first, so that of two deaths of one device
/// the later state wins. One whose id or token is in use stays.
///
/// Returns how many came back, and where to go on. They get new keys: pushes that run now have counted them already.
pub(super) fn restore(conn: &Connection, app: i64, since: Timestamp, from: Place) -> Result<(u64, Option<Place>)> {
    let mut statement = conn.prepare_cached(
        "SELECT seq, gone_at, provider, platform, token, id FROM gone INDEXED BY gone_by_time
         WHERE app = ?1 AND gone_at >= ?2 AND (gone_at, seq) < (?3, ?4)
         ORDER BY gone_at DESC, seq DESC LIMIT ?5",
    )?;
    let mut found = statement.query((app, since.0, from.gone_at, from.seq, RESTORE_STEP))?;
    let (mut restored, mut seen, mut last) = (0, 0, from);
    while let Some(row) = found.next()? {
        seen += 1;
        last = Place {
            seq: row.get(0)?,
            gone_at: row.get(1)?,
        };
        let (provider, route) = (record::provider(row.get(2)?)?, record::route(row.get(2)?, row.get(3)?)?);
        let (token, id) = (row.get_ref(4)?.as_str()?, row.get_ref(5)?.as_str()?);
        let hash = token_hash(token);
        if !in_use(conn, app, id, provider, token, hash)? {
            put_back(conn, last.seq, route, hash)?;
            restored += 1;
        }
    }
    Ok((restored, (seen == RESTORE_STEP).then_some(last)))
}

fn in_use(conn: &Connection, app: i64, id: &str, provider: Provider, token: &str, hash: i64) -> Result<bool> {
    let mut statement = conn.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM devices WHERE app = ?1 AND id = ?2)
            OR EXISTS (SELECT 1 FROM devices INDEXED BY devices_by_token
                WHERE app = ?1 AND token_hash = ?5 AND provider = ?3 AND token = ?4)",
    )?;
    Ok(statement.query_row((app, id, provider.code(), token, hash), |row| row.get(0))?)
}

fn put_back(conn: &Connection, seq: i64, route: Route, hash: i64) -> Result<()> {
    let mut statement = conn.prepare_cached(
        "INSERT INTO devices (app, id, provider, platform, platform_word, token, token_hash, user, meta, timezone, locale,
            created_at, updated_at)
         SELECT app, id, provider, platform, platform_word, token, ?2, user, meta, timezone, locale, created_at, updated_at
         FROM gone WHERE seq = ?1",
    )?;
    let key = DeviceKey(statement.insert((seq, hash))?);
    conn.prepare_cached(
        "INSERT INTO subscriptions (app, channel, route, key, origins, token)
         SELECT g.app, s.value ->> 0, ?3, ?2, s.value ->> 1, g.token FROM gone g, json_each(g.subscriptions) s WHERE g.seq = ?1",
    )?
    .execute((seq, key.0, route.code()))?;
    conn.prepare_cached("DELETE FROM gone WHERE seq = ?")?.execute([seq])?;
    Ok(())
}

/// Deletes at most `limit` devices that died before `before`, of all apps. Returns how many.
pub(super) fn purge(conn: &Connection, before: Timestamp, limit: u32) -> Result<u64> {
    let mut statement = conn.prepare_cached(
        "DELETE FROM gone WHERE seq IN (
            SELECT g.seq FROM apps a CROSS JOIN gone g INDEXED BY gone_by_time ON g.app = a.key AND g.gone_at < ?1 LIMIT ?2)",
    )?;
    let deleted = statement.execute((before.0, limit))?;
    Ok(u64::try_from(deleted).unwrap_or(u64::MAX))
}
