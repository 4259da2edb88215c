//! Subscriptions in the order of their ids, which is that of (device key, channel).

use std::collections::{BTreeSet, HashMap};

use bugle_model::{DeviceFilter, DeviceKey, Listing, Paging, Route, Subscription, SubscriptionFilter};
use sqlx::{PgConnection, Row as _};

use super::query::{self, Query, count, exceeds, fetch, mask, text, texts};
use super::{begin, end};
use crate::Result;
use crate::postgres::rows::Stored;
use crate::registry::filter::{By, routes, successor};
use crate::registry::place::{self, Place};
use crate::registry::record::without_device;

/// So many pairs of a channel and a route are read in one go: what the first have found bounds what is read of the next.
const PAIRS: usize = 128;

pub(super) const NAMES: &str = "SELECT s.key, s.channel";

/// Names a subscription's row.
type Named = (i64, String);

/// One page of the subscriptions that pass the filter. `few` is [`super::FEW`] but in tests.
pub(in crate::postgres) async fn subscriptions(
    conn: &mut PgConnection,
    app: i32,
    filter: &SubscriptionFilter,
    paging: &Paging,
    few: i64,
) -> Result<Listing<Subscription>> {
    begin(conn).await?;
    let done = list(conn, app, filter, paging, few).await;
    end(conn, done).await
}

async fn list(
    conn: &mut PgConnection,
    app: i32,
    filter: &SubscriptionFilter,
    paging: &Paging,
    few: i64,
) -> Result<Listing<Subscription>> {
    let total = if paging.count_total {
        let walk = if By::names(&filter.device).is_some() {
            Walk::Devices
        } else {
            Walk::Range
        };
        Some(count(conn, walk.query("SELECT count(*)", app, filter)).await?)
    } else {
        None
    };
    let place = match paging.after.as_deref() {
        None => Some(Place::start()),
        Some(after) => Place::after(after),
    };
    let limit = usize::try_from(paging.limit).unwrap_or(usize::MAX);
    let mut named = match &place {
        None => Vec::new(),
        Some(place) if merges(filter) => merge(conn, app, filter, place, limit + 1).await?,
        Some(place) => {
            let walk = Walk::of(conn, app, filter, few).await?;
            let page = walk.page(NAMES, app, filter, place, limit + 1);
            fetch(conn, page, |row| Ok((row.try_get(0)?, row.try_get(1)?))).await?
        }
    };
    let has_more = named.len() > limit;
    named.truncate(limit);
    Ok(Listing {
        items: read(conn, named).await?,
        has_more,
        total,
    })
}

async fn read(conn: &mut PgConnection, named: Vec<Named>) -> Result<Vec<Subscription>> {
    let keys: BTreeSet<i64> = named.iter().map(|(key, _)| *key).collect();
    let rows = sqlx::query(
        "SELECT key, app, id, provider, platform, platform_word, token, user_id, meta, timezone, locale, created_at, updated_at
         FROM devices WHERE key = ANY($1)",
    )
    .bind(keys.into_iter().collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    let mut devices = HashMap::with_capacity(rows.len());
    for row in &rows {
        let stored = Stored::read(row)?;
        devices.insert(stored.key.0, stored.device);
    }
    let subscription = |(key, channel): Named| {
        let device = devices.get(&key).cloned();
        Ok(Subscription {
            id: place::id(DeviceKey(key), &channel),
            channel,
            device: device.ok_or_else(|| without_device(DeviceKey(key)))?,
        })
    };
    named.into_iter().map(subscription).collect()
}

/// Are only channels and routes asked for? Then the members of each are read in the order of their keys and merged.
fn merges(filter: &SubscriptionFilter) -> bool {
    !filter.device.channels.is_empty() && filter.device.users.is_empty() && By::names(&filter.device).is_none()
}

/// Reads at most `limit` members of each channel and route, never more than can still be among the first `limit` of all.
async fn merge(
    conn: &mut PgConnection,
    app: i32,
    filter: &SubscriptionFilter,
    place: &Place,
    limit: usize,
) -> Result<Vec<Named>> {
    let mut first: BTreeSet<Named> = BTreeSet::new();
    let mut channels = texts(&filter.device.channels);
    channels.retain(|channel| channel.starts_with(&filter.channel_prefix));
    let pairs: Vec<(&String, Route)> = channels
        .iter()
        .flat_map(|channel| routes(&filter.device).map(move |route| (channel, route)))
        .collect();
    for pairs in pairs.chunks(PAIRS) {
        let upto = match first.last() {
            Some((key, _)) if first.len() >= limit => *key,
            _ => i64::MAX,
        };
        let after = |channel: &String| place.key - i64::from(*channel > place.channel);
        let rows: Vec<Named> = sqlx::query_as(
            "SELECT s.key, s.channel FROM (SELECT unnest($2::text[]) AS channel, unnest($3::smallint[]) AS route, unnest($4::bigint[]) AS after) AS pair
             CROSS JOIN LATERAL (SELECT key, channel FROM subscriptions
                WHERE app = $1 AND channel = pair.channel AND route = pair.route AND key > pair.after AND key <= $5
                ORDER BY key LIMIT $6) s
             ORDER BY s.key, s.channel LIMIT $6",
        )
        .bind(app)
        .bind(pairs.iter().map(|(channel, _)| channel.as_str()).collect::<Vec<_>>())
        .bind(
            pairs
                .iter()
                .map(|(_, route)| i16::from(route.code()))
                .collect::<Vec<_>>(),
        )
        .bind(pairs.iter().map(|(channel, _)| after(channel)).collect::<Vec<_>>())
        .bind(upto)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&mut *conn)
        .await?;
        first.extend(rows);
        while first.len() > limit {
            first.pop_last();
        }
    }
    Ok(first.into_iter().collect())
}

/// What the list is walked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    /// The devices that the filter names; sorted.
    Devices,
    /// A part of the primary key; sorted.
    Range,
    /// The index that has the list's order.
    Order,
}

impl Walk {
    pub(super) async fn of(conn: &mut PgConnection, app: i32, filter: &SubscriptionFilter, few: i64) -> Result<Self> {
        if By::names(&filter.device).is_some() {
            return Ok(Self::Devices);
        }
        // The primary key begins with app and channel: what is counted is what would be read.
        let mut range = Query::new("SELECT 1 FROM subscriptions s WHERE s.app = ");
        range.push_bind(app);
        channels(&mut range, "s.channel", filter);
        Ok(if exceeds(conn, range, few).await? {
            Self::Order
        } else {
            Self::Range
        })
    }

    /// `SELECT` these columns of subscriptions `s`.
    pub(super) fn query(self, columns: &str, app: i32, filter: &SubscriptionFilter) -> Query {
        let mut query = match self {
            Self::Devices => {
                let mut query = query::devices(
                    &format!("{columns} FROM (SELECT d.key"),
                    By::names(&filter.device).unwrap_or(By::Order),
                    app,
                    &filter.device,
                );
                query.push(
                    " OFFSET 0) d CROSS JOIN LATERAL (SELECT key, channel FROM subscriptions WHERE key = d.key OFFSET 0) s WHERE true",
                );
                channels(&mut query, "s.channel", filter);
                return query;
            }
            Self::Range => {
                let mut query = Query::new(format!("{columns} FROM subscriptions s WHERE s.app = "));
                query.push_bind(app);
                channels(&mut query, "s.channel", filter);
                query
            }
            Self::Order => {
                let mut query = Query::new(format!("{columns} FROM subscriptions s WHERE CASE s.app WHEN "));
                query.push_bind(app).push(" THEN true");
                channels(&mut query, "s.channel", filter);
                query.push(" ELSE false END");
                query
            }
        };
        if !filter.device.providers.is_empty() || !filter.device.platforms.is_empty() {
            mask(&mut query, routes(&filter.device).map(Route::code), "s.route");
        }
        owners(&mut query, &filter.device);
        query
    }

    /// The rows after a place, in order.
    pub(super) fn page(
        self,
        columns: &str,
        app: i32,
        filter: &SubscriptionFilter,
        place: &Place,
        limit: usize,
    ) -> Query {
        let (key, channel) = match self {
            Self::Order => ("s.key", "s.channel"),
            Self::Devices | Self::Range => ("(s.key + 0)", "(s.channel || '')"),
        };
        let mut query = self.query(columns, app, filter);
        query.push(format!(" AND ({key}, {channel}) > (")).push_bind(place.key);
        query.push(", ").push_bind(text(&place.channel));
        query.push(format!(") ORDER BY {key}, {channel} LIMIT {limit}"));
        query
    }
}

/// Only these channels. `column` may be an expression, which keeps the planner from an index.
fn channels(query: &mut Query, column: &str, filter: &SubscriptionFilter) {
    let (names, prefix) = (&filter.device.channels, &filter.channel_prefix);
    if !names.is_empty() {
        query
            .push(format!(" AND {column} = ANY("))
            .push_bind(texts(names))
            .push(")");
    }
    if prefix.contains('\0') {
        query.push(" AND false");
    } else if !prefix.is_empty() {
        query.push(format!(" AND {column} >= ")).push_bind(prefix.clone());
        if let Some(end) = successor(prefix) {
            query.push(format!(" AND {column} < ")).push_bind(end);
        }
    }
}

/// Only subscriptions of these users' devices, where nobody is among the users: no index has those.
fn owners(query: &mut Query, filter: &DeviceFilter) {
    if !filter.users.is_empty() {
        query.push(" AND EXISTS (SELECT 1 FROM devices d WHERE d.key = s.key AND d.user_id = ANY(");
        query.push_bind(texts(&filter.users)).push(") OFFSET 0)");
    }
}
