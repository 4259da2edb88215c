//! A group's devices: one statement for all that are looked up, updated, touched or inserted.

use std::collections::BTreeMap;

use bugle_model::{DeviceKey, Timestamp};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres, Row as _};

use super::register::{Entry, New};
use super::rows::{Stored, TokenHash};
use crate::Result;
use crate::registry::record::{locale, timezone};

/// Finds and locks, in the order of their keys, the devices that have the ids or hold the tokens. They are answered as they stand when they are locked, so one may
/// have another token by then.
pub(super) async fn lock_known(
    conn: &mut PgConnection,
    entries: impl Iterator<Item = &Entry> + Clone,
) -> Result<Vec<(Stored, TokenHash)>> {
    let named = entries
        .clone()
        .filter_map(|e| Some((e.app, e.registration.id.as_ref()?.as_str())));
    let (apps, ids): (Vec<_>, Vec<_>) = named.unzip();
    let rows = sqlx::query(
        "SELECT d.key, d.app, d.id, d.provider, d.platform, d.platform_word, d.token, d.user_id, d.meta, d.timezone, d.locale,
            d.created_at, d.updated_at, d.token_hash
         FROM (SELECT i.key FROM (SELECT unnest($1::integer[]) AS app, unnest($2::text[]) AS id) AS named JOIN devices i ON i.app = named.app AND i.id = named.id
            UNION
            SELECT t.key FROM (SELECT unnest($3::integer[]) AS app, unnest($4::smallint[]) AS provider, unnest($5::bytea[]) AS hash) AS held
            JOIN devices t ON t.app = held.app AND t.provider = held.provider AND t.token_hash = held.hash) known
         JOIN devices d ON d.key = known.key
         ORDER BY d.key FOR UPDATE OF d",
    )
    .bind(apps)
    .bind(ids)
    .bind(entries.clone().map(|e| e.app).collect::<Vec<_>>())
    .bind(entries.clone().map(|e| i16::from(e.registration.provider.code())).collect::<Vec<_>>())
    .bind(entries.map(|e| e.token_hash.as_slice()).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| Ok((Stored::read(row)?, row.try_get(13)?)))
        .collect()
}

/// What a registration declares of many devices, column by column.
#[derive(Default)]
struct Columns<'a> {
    providers: Vec<i16>,
    platforms: Vec<i16>,
    words: Vec<&'a str>,
    tokens: Vec<&'a str>,
    hashes: Vec<&'a [u8]>,
    users: Vec<&'a str>,
    metas: Vec<&'a str>,
    timezones: Vec<&'a str>,
    locales: Vec<&'a str>,
    times: Vec<i64>,
}

type Statement<'q> = Query<'q, Postgres, PgArguments>;

impl<'a> Columns<'a> {
    fn push(&mut self, entry: &'a Entry) {
        let r = &entry.registration;
        self.providers.push(i16::from(r.provider.code()));
        self.platforms.push(i16::from(r.platform.code()));
        self.words.push(r.platform_word);
        self.tokens.push(r.token.as_str());
        self.hashes.push(&entry.token_hash);
        self.users.push(&r.user);
        self.metas.push(&entry.meta);
        self.timezones.push(timezone(r));
        self.locales.push(locale(r));
        self.times.push(entry.now.0);
    }

    /// Binds all of them, `$1` to `$10`.
    fn bind(self, sql: &'static str) -> Statement<'a> {
        sqlx::query(sql)
            .bind(self.providers)
            .bind(self.platforms)
            .bind(self.words)
            .bind(self.tokens)
            .bind(self.hashes)
            .bind(self.users)
            .bind(self.metas)
            .bind(self.timezones)
            .bind(self.locales)
            .bind(self.times)
    }
}

/// Gives devices the state that their registrations declare.
pub(super) async fn update(conn: &mut PgConnection, updated: &[(DeviceKey, &Entry)]) -> Result<()> {
    if updated.is_empty() {
        return Ok(());
    }
    let mut columns = Columns::default();
    for (_, entry) in updated {
        columns.push(entry);
    }
    columns
        .bind(
            "UPDATE devices d SET provider = n.provider, platform = n.platform, platform_word = n.word, token = n.token, token_hash = n.hash,
                user_id = n.user_id, meta = n.meta, timezone = n.timezone, locale = n.locale, updated_at = n.at
             FROM (SELECT unnest($1::smallint[]) AS provider, unnest($2::smallint[]) AS platform, unnest($3::text[]) AS word, unnest($4::text[]) AS token,
                          unnest($5::bytea[]) AS hash, unnest($6::text[]) AS user_id, unnest($7::text[]) AS meta, unnest($8::text[]) AS timezone,
                          unnest($9::text[]) AS locale, unnest($10::bigint[]) AS at, unnest($11::bigint[]) AS key) AS n
             WHERE d.key = n.key",
        )
        .bind(updated.iter().map(|(key, _)| key.0).collect::<Vec<_>>())
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes that devices were registered again as they were. No index is touched.
pub(super) async fn touch(conn: &mut PgConnection, touched: &[(DeviceKey, Timestamp)]) -> Result<()> {
    if touched.is_empty() {
        return Ok(());
    }
    sqlx::query("UPDATE devices d SET updated_at = n.at FROM (SELECT unnest($1::bigint[]) AS key, unnest($2::bigint[]) AS at) AS n WHERE d.key = n.key")
        .bind(touched.iter().map(|(key, _)| key.0).collect::<Vec<_>>())
        .bind(touched.iter().map(|(_, at)| at.0).collect::<Vec<_>>())
        .execute(conn)
        .await?;
    Ok(())
}

/// Writes new devices down, but those whose id or token somebody has by now. Answers the others' keys by app and id.
pub(super) async fn insert(conn: &mut PgConnection, new: &[New<'_>]) -> Result<BTreeMap<(i32, String), DeviceKey>> {
    if new.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut columns = Columns::default();
    for new in new {
        columns.push(new.entry);
    }
    let rows = columns
        .bind(
            "INSERT INTO devices (provider, platform, platform_word, token, token_hash, user_id, meta, timezone, locale, created_at, updated_at, app, id)
             SELECT n.provider, n.platform, n.word, n.token, n.hash, n.user_id, n.meta, n.timezone, n.locale, n.at, n.at, n.app, n.id
             FROM (SELECT unnest($1::smallint[]) AS provider, unnest($2::smallint[]) AS platform, unnest($3::text[]) AS word, unnest($4::text[]) AS token,
                          unnest($5::bytea[]) AS hash, unnest($6::text[]) AS user_id, unnest($7::text[]) AS meta, unnest($8::text[]) AS timezone,
                          unnest($9::text[]) AS locale, unnest($10::bigint[]) AS at, unnest($11::integer[]) AS app, unnest($12::text[]) AS id) AS n
             ON CONFLICT DO NOTHING RETURNING app, id, key",
        )
        .bind(new.iter().map(|new| new.entry.app).collect::<Vec<_>>())
        .bind(new.iter().map(|new| new.id.as_str()).collect::<Vec<_>>())
        .fetch_all(conn)
        .await?;
    let key = |row: &sqlx::postgres::PgRow| Ok(((row.try_get(0)?, row.try_get(1)?), DeviceKey(row.try_get(2)?)));
    rows.iter().map(key).collect()
}
