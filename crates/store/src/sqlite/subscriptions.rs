//! One device's subscriptions.
//!
//! Invariants: every row's route is that of its device; no row has an empty set of origins.

use std::collections::BTreeMap;

use bugle_model::{Channel, DeviceKey, Origins, Route};
use rusqlite::Connection;

use crate::Result;
use crate::registry::origins::changes;

/// Adds an origin to the device's subscriptions to these channels.
pub(super) fn add(
    conn: &Connection,
    app: i64,
    key: DeviceKey,
    route: Route,
    channels: &[Channel],
    origin: Origins,
) -> Result<()> {
    let mut statement = conn.prepare_cached(
        "INSERT INTO subscriptions (app, channel, route, key, origins) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET origins = origins | excluded.origins",
    )?;
    for channel in channels {
        statement.execute((app, channel.as_str(), route.code(), key.0, origin.bits()))?;
    }
    Ok(())
}

/// Takes these channels from the device, whatever their origin.
pub(super) fn remove(conn: &Connection, app: i64, key: DeviceKey, route: Route, channels: &[Channel]) -> Result<()> {
    for channel in channels {
        set(conn, app, key, route, channel.as_str(), Origins::NONE)?;
    }
    Ok(())
}

/// Replaces, for each of these origins, the channels that the device has from it. Other origins stay.
pub(super) fn declare(
    conn: &Connection,
    app: i64,
    key: DeviceKey,
    route: Route,
    lists: &[(Origins, &[Channel])],
) -> Result<()> {
    for (channel, origins) in changes(&all(conn, key)?, lists) {
        set(conn, app, key, route, &channel, origins)?;
    }
    Ok(())
}

/// Moves all subscriptions of a device whose provider or platform has changed.
pub(super) fn reroute(conn: &Connection, key: DeviceKey, route: Route) -> Result<()> {
    conn.prepare_cached("UPDATE subscriptions SET route = ?2 WHERE key = ?1")?
        .execute((key.0, route.code()))?;
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

fn set(conn: &Connection, app: i64, key: DeviceKey, route: Route, channel: &str, origins: Origins) -> Result<()> {
    if origins.is_empty() {
        conn.prepare_cached("DELETE FROM subscriptions WHERE app = ? AND channel = ? AND route = ? AND key = ?")?
            .execute((app, channel, route.code(), key.0))?;
    } else {
        conn.prepare_cached(
            "INSERT INTO subscriptions (app, channel, route, key, origins) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET origins = excluded.origins",
        )?
        .execute((app, channel, route.code(), key.0, origins.bits()))?;
    }
    Ok(())
}
