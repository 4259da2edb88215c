//! Devices in the order of their ids.

use std::collections::HashMap;

use bugle_model::{DeviceDetails, DeviceFilter, Listing, Paging};
use sqlx::{PgConnection, Row as _};

use super::query::{self, Query, count, exceeds, fetch, text, texts};
use super::{begin, end};
use crate::Result;
use crate::postgres::rows::Stored;
use crate::registry::filter::By;

pub(super) const ROWS: &str = "SELECT d.key, d.app, d.id, d.provider, d.platform, d.platform_word, d.token, d.user_id, d.meta, d.timezone, d.locale, \
    d.created_at, d.updated_at";

/// One page of the devices that pass the filter. `few` is [`super::FEW`] but in tests.
pub(in crate::postgres) async fn devices(
    conn: &mut PgConnection,
    app: i32,
    filter: &DeviceFilter,
    paging: &Paging,
    with_channels: bool,
    few: i64,
) -> Result<Listing<DeviceDetails>> {
    begin(conn).await?;
    let done = list(conn, app, filter, paging, with_channels, few).await;
    end(conn, done).await
}

async fn list(
    conn: &mut PgConnection,
    app: i32,
    filter: &DeviceFilter,
    paging: &Paging,
    with_channels: bool,
    few: i64,
) -> Result<Listing<DeviceDetails>> {
    let by = by(conn, app, filter, few).await?;
    let total = if paging.count_total {
        Some(count(conn, query("SELECT count(*)", by, app, filter)).await?)
    } else {
        None
    };
    let page = page(
        query(ROWS, by, app, filter),
        by,
        paging.after.as_deref(),
        i64::from(paging.limit) + 1,
    );
    let mut found = fetch(conn, page, Stored::read).await?;
    let limit = usize::try_from(paging.limit).unwrap_or(usize::MAX);
    let has_more = found.len() > limit;
    found.truncate(limit);
    let mut channels = if with_channels {
        Some(channels(conn, &found).await?)
    } else {
        None
    };
    let items = found.into_iter().map(|stored| DeviceDetails {
        channels: channels
            .as_mut()
            .map(|all| all.remove(&stored.key.0).unwrap_or_default()),
        device: stored.device,
    });
    Ok(Listing {
        items: items.collect(),
        has_more,
        total,
    })
}

/// The channels of each device, in text order.
async fn channels(conn: &mut PgConnection, devices: &[Stored]) -> Result<HashMap<i64, Vec<String>>> {
    let keys: Vec<i64> = devices.iter().map(|stored| stored.key.0).collect();
    let rows: Vec<(i64, String)> = sqlx::query_as("SELECT key, channel FROM subscriptions WHERE key = ANY($1)")
        .bind(keys)
        .fetch_all(conn)
        .await?;
    let mut channels: HashMap<i64, Vec<String>> = HashMap::with_capacity(devices.len());
    for (key, channel) in rows {
        channels.entry(key).or_default().push(channel);
    }
    for names in channels.values_mut() {
        names.sort_unstable();
    }
    Ok(channels)
}

/// Locks at most `limit` devices that pass the filter (which has no channels), in the order of their keys. Answers the keys.
pub(in crate::postgres) async fn lock_to_remove(
    conn: &mut PgConnection,
    app: i32,
    filter: &DeviceFilter,
    limit: usize,
) -> Result<Vec<i64>> {
    fetch(conn, removal("SELECT d.key", app, filter, limit), |row| {
        Ok(row.try_get(0)?)
    })
    .await
}

/// Each row is compared again when it is locked, and passed over if it no longer passes.
pub(super) fn removal(columns: &str, app: i32, filter: &DeviceFilter, limit: usize) -> Query {
    let mut query = query::devices(columns, By::names(filter).unwrap_or(By::Order), app, filter);
    query.push(format!(" ORDER BY d.key + 0 LIMIT {limit} FOR UPDATE"));
    query
}

/// What the list is walked by.
pub(super) async fn by(conn: &mut PgConnection, app: i32, filter: &DeviceFilter, few: i64) -> Result<By> {
    match By::names(filter) {
        Some(by) => Ok(by),
        None if filter.channels.is_empty() => Ok(By::Order),
        None => {
            let mut members = Query::new("SELECT 1 FROM subscriptions WHERE app = ");
            members.push_bind(app).push(" AND channel = ANY(");
            members.push_bind(texts(&filter.channels)).push(")");
            let many = exceeds(conn, members, few).await?;
            Ok(if many { By::Order } else { By::Members })
        }
    }
}

/// The devices that pass the whole filter.
pub(super) fn query(columns: &str, by: By, app: i32, filter: &DeviceFilter) -> Query {
    let mut query = query::devices(columns, by, app, filter);
    if filter.channels.is_empty() || by == By::Members {
        return query;
    }
    // A device has few channels and the filter may have many: each of the device's is looked up among the filter's.
    let channel = if filter.channels.len() == 1 {
        "s.channel"
    } else {
        "(s.channel || '')"
    };
    query
        .push(" AND EXISTS (SELECT 1 FROM subscriptions s WHERE s.key = d.key AND ")
        .push(channel);
    query
        .push(" = ANY(")
        .push_bind(texts(&filter.channels))
        .push(") OFFSET 0)");
    query
}

/// The rows after a place, in order.
pub(super) fn page(mut query: Query, by: By, after: Option<&str>, limit: i64) -> Query {
    let id = if by.is_in_order() { "d.id" } else { "(d.id || '')" };
    if let Some(after) = after {
        query.push(format!(" AND {id} > ")).push_bind(text(after));
    }
    query.push(format!(" ORDER BY {id} LIMIT {limit}"));
    query
}
