//! Devices in the order of their ids.

use bugle_model::{DeviceDetails, DeviceFilter, DeviceKey, Listing, Paging};
use rusqlite::Connection;

use super::FEW;
use super::query::{Query, json_texts};
use crate::Result;
use crate::registry::filter::By;
use crate::sqlite::{devices as single, subscriptions};

pub(super) const IN_ORDER: &str = "ORDER BY d.id LIMIT :limit";

/// One page of the devices that pass the filter. `few` is [`super::FEW`] but in tests.
pub(in crate::sqlite) fn devices(
    conn: &Connection,
    app: i64,
    filter: &DeviceFilter,
    paging: &Paging,
    with_channels: bool,
    few: i64,
) -> Result<Listing<DeviceDetails>> {
    let mut query = query(conn, app, filter, few)?;
    let total = paging.count_total.then(|| query.count(conn)).transpose()?;
    if let Some(after) = &paging.after {
        query.and("d.id > :after").bind(":after", after.clone());
    }
    query.bind(":limit", i64::from(paging.limit) + 1);
    let mut keys = query.select(conn, "d.key", IN_ORDER, key)?;
    let limit = usize::try_from(paging.limit).unwrap_or(usize::MAX);
    let has_more = keys.len() > limit;
    keys.truncate(limit);
    let mut items = Vec::with_capacity(keys.len());
    for key in keys {
        // It is there: all statements of a reader's job see one moment.
        if let Some(stored) = single::by_key(conn, key)? {
            let channels = with_channels.then(|| subscriptions::channels(conn, key)).transpose()?;
            items.push(DeviceDetails {
                device: stored.device,
                channels,
            });
        }
    }
    Ok(Listing { items, has_more, total })
}

/// At most `limit` devices that pass the filter, in no order.
pub(in crate::sqlite) fn keys_to_remove(
    conn: &Connection,
    app: i64,
    filter: &DeviceFilter,
    limit: usize,
) -> Result<Vec<DeviceKey>> {
    let mut query = query(conn, app, filter, FEW)?;
    query.bind(":limit", i64::try_from(limit).unwrap_or(i64::MAX));
    query.select(conn, "d.key", "LIMIT :limit", key)
}

pub(super) fn query(conn: &Connection, app: i64, filter: &DeviceFilter, few: i64) -> Result<Query> {
    let channels = &filter.channels;
    if channels.is_empty() {
        return Ok(Query::devices(By::names(filter).unwrap_or(By::Order), app, filter));
    }
    let by = match By::names(filter) {
        Some(by) => by,
        None if has_few_members(conn, app, channels, few)? => By::Members,
        None => By::Order,
    };
    let mut query = Query::devices(by, app, filter);
    query.bind(":channels", json_texts(channels));
    match channels.len() {
        _ if by == By::Members => {}
        1 => {
            query.and(
                "EXISTS (SELECT 1 FROM subscriptions s INDEXED BY subscriptions_by_device
                    WHERE s.key = d.key AND s.channel IN (SELECT value FROM json_each(:channels)))",
            );
        }
        // A device has few channels and the filter may have many: each of the device's is looked up among the filter's. The
        // sign keeps SQLite from doing it the other way round.
        _ => {
            query.and(
                "EXISTS (SELECT 1 FROM subscriptions s INDEXED BY subscriptions_by_device
                    WHERE s.key = d.key AND +s.channel IN (SELECT value FROM json_each(:channels)))",
            );
        }
    }
    Ok(query)
}

fn has_few_members(conn: &Connection, app: i64, channels: &[String], few: i64) -> Result<bool> {
    let mut members = Query::from("subscriptions");
    members
        .and("app = :app AND channel IN (SELECT value FROM json_each(:channels))")
        .bind(":app", app)
        .bind(":channels", json_texts(channels));
    Ok(!members.exceeds(conn, few)?)
}

fn key(row: &rusqlite::Row<'_>) -> Result<DeviceKey> {
    Ok(DeviceKey(row.get(0)?))
}
