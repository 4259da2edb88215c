//! Subscriptions: of one device, as the API asks, and of a group of registrations.
//!
//! Invariants: every row's route and token are those of its device; no row has an empty set of origins. Whoever writes a device's subscriptions has locked its row.

use std::collections::{BTreeMap, HashMap};

use bugle_model::{Channel, DeviceKey, Origins, Route};
use sqlx::PgConnection;

use super::register::Entry;
use super::rows::small;
use crate::Result;
use crate::registry::origins;

/// The lists that a registration declares, absent ones left out.
pub(super) struct Declared<'a> {
    app: i32,
    key: DeviceKey,
    route: Route,
    /// It has no subscriptions yet.
    fresh: bool,
    lists: Vec<(Origins, &'a [Channel])>,
}

impl<'a> Declared<'a> {
    /// `None` = it changes nothing.
    pub(super) fn new(key: DeviceKey, entry: &'a Entry, fresh: bool) -> Option<Self> {
        let lists = origins::lists(&entry.registration);
        let idle = lists.is_empty() || (fresh && lists.iter().all(|(_, list)| list.is_empty()));
        (!idle).then(|| Self {
            app: entry.app,
            key,
            route: entry.route(),
            fresh,
            lists,
        })
    }
}

/// Rows of the table, column by column.
#[derive(Default)]
struct Columns {
    apps: Vec<i32>,
    channels: Vec<String>,
    routes: Vec<i16>,
    keys: Vec<i64>,
    origins: Vec<i16>,
}

impl Columns {
    fn push(&mut self, app: i32, channel: String, route: Route, key: DeviceKey, origins: Origins) {
        self.apps.push(app);
        self.channels.push(channel);
        self.routes.push(i16::from(route.code()));
        self.keys.push(key.0);
        self.origins.push(i16::from(origins.bits()));
    }
}

/// Replaces, for each origin that a list was declared for, the channels that the device has from it. Other origins stay.
pub(super) async fn declare(conn: &mut PgConnection, declared: Vec<Declared<'_>>) -> Result<()> {
    let known: Vec<i64> = declared.iter().filter(|d| !d.fresh).map(|d| d.key.0).collect();
    let mut before = all(conn, &known).await?;
    let (mut set, mut gone) = (Columns::default(), Columns::default());
    for device in declared {
        let before = before.remove(&device.key.0).unwrap_or_default();
        for (channel, origins) in origins::changes(&before, &device.lists) {
            let rows = if origins.is_empty() { &mut gone } else { &mut set };
            rows.push(device.app, channel, device.route, device.key, origins);
        }
    }
    delete(conn, gone).await?;
    if set.keys.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO subscriptions (app, channel, route, key, origins, token)
         SELECT n.app, n.channel, n.route, n.key, n.origins, covered_token((SELECT token FROM devices d WHERE d.key = n.key))
           FROM (SELECT unnest($1::integer[]) AS app, unnest($2::text[]) AS channel, unnest($3::smallint[]) AS route, unnest($4::bigint[]) AS key,
                        unnest($5::smallint[]) AS origins) AS n
         ON CONFLICT (app, channel, route, key) DO UPDATE SET origins = excluded.origins",
    )
    .bind(set.apps)
    .bind(set.channels)
    .bind(set.routes)
    .bind(set.keys)
    .bind(set.origins)
    .execute(conn)
    .await?;
    Ok(())
}

/// What devices are subscribed to, and by whom.
async fn all(conn: &mut PgConnection, keys: &[i64]) -> Result<HashMap<i64, BTreeMap<String, Origins>>> {
    let mut found: HashMap<_, BTreeMap<_, _>> = HashMap::new();
    if keys.is_empty() {
        return Ok(found);
    }
    let rows: Vec<(i64, String, i16)> =
        sqlx::query_as("SELECT key, channel, origins FROM subscriptions WHERE key = ANY($1)")
            .bind(keys)
            .fetch_all(conn)
            .await?;
    for (key, channel, origins) in rows {
        let origins = Origins::from_bits(small(origins));
        found.entry(key).or_default().insert(channel, origins);
    }
    Ok(found)
}

async fn delete(conn: &mut PgConnection, gone: Columns) -> Result<()> {
    if gone.keys.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "DELETE FROM subscriptions s USING (SELECT unnest($1::integer[]) AS app, unnest($2::text[]) AS channel, unnest($3::smallint[]) AS route,
                                                   unnest($4::bigint[]) AS key) AS n
         WHERE s.app = n.app AND s.channel = n.channel AND s.route = n.route AND s.key = n.key",
    )
    .bind(gone.apps)
    .bind(gone.channels)
    .bind(gone.routes)
    .bind(gone.keys)
    .execute(conn)
    .await?;
    Ok(())
}

/// Brings the subscriptions of devices whose provider, platform or token has changed to what these are now.
pub(super) async fn follow(conn: &mut PgConnection, changed: &[i64]) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE subscriptions s SET route = d.provider * 4 + d.platform, token = covered_token(d.token)
           FROM devices d WHERE d.key = ANY($1) AND s.key = d.key",
    )
    .bind(changed)
    .execute(conn)
    .await?;
    Ok(())
}

/// Adds origin channel to the subscriptions of a locked device.
pub(super) async fn add(
    conn: &mut PgConnection,
    app: i32,
    key: DeviceKey,
    route: Route,
    channels: &[Channel],
) -> Result<()> {
    // One statement must not write a row twice.
    let mut names: Vec<&str> = channels.iter().map(Channel::as_str).collect();
    names.sort_unstable();
    names.dedup();
    sqlx::query(
        "INSERT INTO subscriptions (app, channel, route, key, origins, token)
         SELECT $1, n.channel, $2, d.key, $4, covered_token(d.token) FROM unnest($5::text[]) n (channel) JOIN devices d ON d.key = $3
         ON CONFLICT (app, channel, route, key) DO UPDATE SET origins = subscriptions.origins | excluded.origins",
    )
    .bind(app)
    .bind(i16::from(route.code()))
    .bind(key.0)
    .bind(i16::from(Origins::CHANNEL.bits()))
    .bind(names)
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes these channels from a locked device, whatever their origin.
pub(super) async fn remove(
    conn: &mut PgConnection,
    app: i32,
    key: DeviceKey,
    route: Route,
    channels: &[Channel],
) -> Result<()> {
    sqlx::query("DELETE FROM subscriptions WHERE app = $1 AND channel = ANY($2) AND route = $3 AND key = $4")
        .bind(app)
        .bind(channels.iter().map(Channel::as_str).collect::<Vec<_>>())
        .bind(i16::from(route.code()))
        .bind(key.0)
        .execute(conn)
        .await?;
    Ok(())
}
