//! One device's subscriptions.
//!
//! Invariants: every row's route and token are those of its device; no row has an empty set of origins.

use std::collections::BTreeMap;

use bugle_model::{Channel, DeviceKey, Origins, Route, Token};
use rusqlite::Connection;

use crate::Result;
use crate::registry::origins::changes;

/// A device, as far as its subscriptions repeat it.
pub(super) struct Subscriber<'a> {
    pub(super) app: i64,
    pub(super) key: DeviceKey,
    pub(super) route: Route,
    pub(super) token: &'a Token,
}

/// Adds an origin to the device's subscriptions to these channels.
pub(super) fn add(conn: &Connection, device: &Subscriber<'_>, channels: &[Channel], origin: Origins) -> Result<()> {
    let mut statement = conn.prepare_cached(
        "INSERT INTO subscriptions (app, channel, route, key, origins, token) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET origins = origins | excluded.origins",
    )?;
    let Subscriber { app, key, route, token } = device;
    for channel in channels {
        statement.execute((
            app,
            channel.as_str(),
            route.code(),
            key.0,
            origin.bits(),
            token.as_str(),
        ))?;
    }
    Ok(())
}

/// Takes these channels from the device, whatever their origin.
pub(super) fn remove(conn: &Connection, device: &Subscriber<'_>, channels: &[Channel]) -> Result<()> {
    for channel in channels {
        set(conn, device, channel.as_str(), Origins::NONE)?;
    }
    Ok(())
}

/// Replaces, for each of these origins, the channels that the device has from it. Other origins stay.
pub(super) fn declare(conn: &Connection, device: &Subscriber<'_>, lists: &[(Origins, &[Channel])]) -> Result<()> {
    for (channel, origins) in changes(&all(conn, device.key)?, lists) {
        set(conn, device, &channel, origins)?;
    }
    Ok(())
}

/// Brings all subscriptions of a device whose provider, platform or token has changed to what these are now.
pub(super) fn follow(conn: &Connection, device: &Subscriber<'_>) -> Result<()> {
    conn.prepare_cached("UPDATE subscriptions SET route = ?2, token = ?3 WHERE key = ?1")?
        .execute((device.key.0, device.route.code(), device.token.as_str()))?;
    Ok(())
}

/// Deletes all subscriptions of a device.
pub(super) fn delete_all(conn: &Connection, key: DeviceKey) -> Result<()> {
    conn.prepare_cached("DELETE FROM subscriptions WHERE key = ?")?
        .execute([key.0])?;
    Ok(())
}

/// A device's channels in text order.
pub(super) fn channels(conn: &Connection, key: DeviceKey) -> Result<Vec<String>> {
    let mut statement = conn.prepare_cached("SELECT channel FROM subscriptions WHERE key = ? ORDER BY channel")?;
    let channels = statement.query_map([key.0], |row| row.get(0))?;
    Ok(channels.collect::<rusqlite::Result<_>>()?)
}

fn all(conn: &Connection, key: DeviceKey) -> Result<BTreeMap<String, Origins>> {
    let mut statement = conn.prepare_cached("SELECT channel, origins FROM subscriptions WHERE key = ?")?;
    let rows = statement.query_map([key.0], |row| Ok((row.get(0)?, Origins::from_bits(row.get(1)?))))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn set(conn: &Connection, device: &Subscriber<'_>, channel: &str, origins: Origins) -> Result<()> {
    let Subscriber { app, key, route, token } = device;
    if origins.is_empty() {
        conn.prepare_cached("DELETE FROM subscriptions WHERE app = ? AND channel = ? AND route = ? AND key = ?")?
            .execute((app, channel, route.code(), key.0))?;
    } else {
        conn.prepare_cached(
            "INSERT INTO subscriptions (app, channel, route, key, origins, token) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET origins = excluded.origins",
        )?
        .execute((app, channel, route.code(), key.0, origins.bits(), token.as_str()))?;
    }
    Ok(())
}
