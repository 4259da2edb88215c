//! Subscriptions in the order of their ids, which is that of (device key, channel).

use std::collections::BTreeSet;

use bugle_model::{DeviceFilter, DeviceKey, Listing, Paging, Route, Subscription, SubscriptionFilter};
use rusqlite::Connection;

use super::query::{Query, bits, json_texts};
use crate::Result;
use crate::registry::filter::{By, routes, successor};
use crate::registry::place::{self, Place};
use crate::registry::record::without_device;
use crate::sqlite::devices as single;
use crate::sqlite::rows::Stored;

pub(super) const IN_ORDER: &str = "ORDER BY 1, 2 LIMIT :limit";

/// Names a subscription's row.
type Named = (i64, String);

/// One page of the subscriptions that pass the filter. `few` is [`super::FEW`] but in tests.
pub(in crate::sqlite) fn subscriptions(
    conn: &Connection,
    app: i64,
    filter: &SubscriptionFilter,
    paging: &Paging,
    few: i64,
) -> Result<Listing<Subscription>> {
    let total = paging.count_total.then(|| query(conn, app, filter, few)?.0.count(conn));
    let total = total.transpose()?;
    let place = paging
        .after
        .as_deref()
        .map_or_else(|| Some(Place::start()), Place::after);
    let limit = usize::try_from(paging.limit).unwrap_or(usize::MAX);
    let mut named = match &place {
        None => Vec::new(),
        Some(place) if merges(filter) => merge(conn, app, filter, place, limit + 1)?,
        Some(place) => walk(conn, query(conn, app, filter, few)?, place, limit + 1)?,
    };
    let has_more = named.len() > limit;
    named.truncate(limit);
    Ok(Listing {
        items: read(conn, named)?,
        has_more,
        total,
    })
}

fn read(conn: &Connection, named: Vec<Named>) -> Result<Vec<Subscription>> {
    let mut items: Vec<Subscription> = Vec::with_capacity(named.len());
    let mut latest: Option<Stored> = None;
    for (key, channel) in named {
        let key = DeviceKey(key);
        if latest.as_ref().is_none_or(|stored| stored.key != key) {
            latest = single::by_key(conn, key)?;
        }
        let stored = latest.as_ref().ok_or_else(|| without_device(key))?;
        items.push(Subscription {
            id: place::id(key, &channel),
            channel,
            device: stored.device.clone(),
        });
    }
    Ok(items)
}

/// Are only channels and routes asked for? Then the members of each are read in the order of their keys and merged.
fn merges(filter: &SubscriptionFilter) -> bool {
    !filter.device.channels.is_empty() && filter.device.users.is_empty() && By::names(&filter.device).is_none()
}

/// Reads at most `limit` members of each channel and route, never more than can still be among the first `limit` of all.
fn merge(conn: &Connection, app: i64, filter: &SubscriptionFilter, place: &Place, limit: usize) -> Result<Vec<Named>> {
    let mut first: BTreeSet<Named> = BTreeSet::new();
    let mut statement = conn.prepare_cached(
        "SELECT key FROM subscriptions WHERE app = ? AND channel = ? AND route = ? AND key > ? AND key <= ? ORDER BY key LIMIT ?",
    )?;
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let channels: BTreeSet<_> = filter.device.channels.iter().collect();
    for channel in channels
        .into_iter()
        .filter(|channel| channel.starts_with(&filter.channel_prefix))
    {
        let after = place.key - i64::from(*channel > place.channel);
        for route in routes(&filter.device) {
            let upto = match first.last() {
                Some((key, _)) if first.len() >= limit => *key,
                _ => i64::MAX,
            };
            let mut rows = statement.query((app, channel, route.code(), after, upto, most))?;
            while let Some(row) = rows.next()? {
                first.insert((row.get(0)?, channel.clone()));
                if first.len() > limit {
                    first.pop_last();
                }
            }
        }
    }
    Ok(first.into_iter().collect())
}

fn walk(conn: &Connection, walk: (Query, Columns), place: &Place, limit: usize) -> Result<Vec<Named>> {
    let (mut query, columns) = walk;
    query
        .and(columns.after)
        .bind(":key", place.key)
        .bind(":channel", place.channel.clone())
        .bind(":limit", i64::try_from(limit).unwrap_or(i64::MAX));
    query.select(conn, columns.named, IN_ORDER, |row| Ok((row.get(0)?, row.get(1)?)))
}

/// How a walk spells what it selects and where it goes on.
pub(super) struct Columns {
    pub(super) named: &'static str,
    pub(super) after: &'static str,
}

/// In the order of an index.
const ORDERED: Columns = Columns {
    named: "s.key, s.channel",
    after: "(s.key, s.channel) > (:key, :channel)",
};

/// All rows that match are read and sorted; the signs keep `SQLite` from preferring the index that has the order.
const SORTED: Columns = Columns {
    named: "+s.key, +s.channel",
    after: "(+s.key, +s.channel) > (:key, :channel)",
};

pub(super) fn query(conn: &Connection, app: i64, filter: &SubscriptionFilter, few: i64) -> Result<(Query, Columns)> {
    let device = &filter.device;
    if let Some(by) = By::names(device) {
        let mut query = Query::devices(by, app, device);
        query
            .then("subscriptions s INDEXED BY subscriptions_by_device ON s.key = d.key")
            .channels(filter);
        return Ok((query, SORTED));
    }
    // The primary key begins with app and channel: what is counted is what would be read.
    let mut range = Query::from("subscriptions s");
    range.and("s.app = :app").bind(":app", app).channels(filter);
    let (from, columns) = if range.exceeds(conn, few)? {
        ("subscriptions s INDEXED BY subscriptions_by_device", ORDERED)
    } else {
        ("subscriptions s", SORTED)
    };
    let mut query = Query::subscriptions(from, app, filter);
    query.owners(device);
    Ok((query, columns))
}

impl Query {
    fn subscriptions(from: &str, app: i64, filter: &SubscriptionFilter) -> Self {
        let mut query = Self::from(from);
        query.and("s.app = :app").bind(":app", app).channels(filter);
        if !filter.device.providers.is_empty() || !filter.device.platforms.is_empty() {
            let routes = bits(routes(&filter.device).map(Route::code));
            query.and("(:routes >> s.route) & 1").bind(":routes", routes);
        }
        query
    }

    fn channels(&mut self, filter: &SubscriptionFilter) -> &mut Self {
        let (channels, prefix) = (&filter.device.channels, &filter.channel_prefix);
        if !channels.is_empty() {
            self.and("s.channel IN (SELECT value FROM json_each(:channels))")
                .bind(":channels", json_texts(channels));
        }
        if !prefix.is_empty() {
            self.and("s.channel >= :prefix").bind(":prefix", prefix.clone());
            if let Some(end) = successor(prefix) {
                self.and("s.channel < :prefix_end").bind(":prefix_end", end);
            }
        }
        self
    }

    /// Only subscriptions of these users' devices, where nobody is among the users: no index has those.
    fn owners(&mut self, filter: &DeviceFilter) {
        if !filter.users.is_empty() {
            self.then("devices d NOT INDEXED ON d.key = s.key")
                .and("d.user IN (SELECT value FROM json_each(:users))")
                .bind(":users", json_texts(&filter.users));
        }
    }
}
