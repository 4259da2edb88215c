//! Devices that a provider declared dead, or that were not registered for long: forgotten, kept aside, put back, purged.
//!
//! Whoever forgets a device has locked its row before and looked at it again: a device that was registered meanwhile is another one.

use std::collections::{BTreeMap, HashMap};

use bugle_model::{DeviceKey, Provider, Timestamp, Token};
use sqlx::PgConnection;

use super::devices;
use super::rows::{TokenHash, small, token_hash};
use crate::Result;
use crate::registry::gone::{INACTIVE, INACTIVE_STEP, INACTIVE_WALK, Place};
use crate::registry::record;

/// A token that was found dead.
pub(super) struct Death {
    pub(super) app: i32,
    pub(super) provider: Provider,
    pub(super) token: Token,
    /// Only a device whose latest registration is before this; `None` = whenever it was.
    pub(super) registered_before: Option<Timestamp>,
    /// The uid of the push that found it.
    pub(super) push: String,
    /// The provider's word.
    pub(super) reason: &'static str,
    pub(super) at: Timestamp,
}

/// Moves the devices that still hold these tokens to `gone`, with their subscriptions. Whoever holds none of them, or was registered again, stays.
///
/// Locks devices in the order of their keys; in the caller's transaction, which has locked its other rows before.
pub(super) async fn forget_dead(conn: &mut PgConnection, deaths: &[Death]) -> Result<()> {
    if deaths.is_empty() {
        return Ok(());
    }
    let hashes: Vec<_> = deaths.iter().map(|death| token_hash(death.token.as_str())).collect();
    // The condition holds for the row as it stands when it has been locked.
    let held: Vec<(i64, i32, i16, TokenHash, i64)> = sqlx::query_as(
        "SELECT d.key, d.app, d.provider, d.token_hash, d.updated_at
         FROM (SELECT unnest($1::integer[]) AS app, unnest($2::smallint[]) AS provider, unnest($3::bytea[]) AS hash) AS dead
         JOIN devices d ON d.app = dead.app AND d.provider = dead.provider AND d.token_hash = dead.hash
         ORDER BY d.key FOR UPDATE OF d",
    )
    .bind(deaths.iter().map(|death| death.app).collect::<Vec<_>>())
    .bind(
        deaths
            .iter()
            .map(|death| i16::from(death.provider.code()))
            .collect::<Vec<_>>(),
    )
    .bind(hashes.iter().map(TokenHash::as_slice).collect::<Vec<_>>())
    .fetch_all(&mut *conn)
    .await?;
    let mut holders: HashMap<(i32, u8, TokenHash), (DeviceKey, i64)> = HashMap::with_capacity(held.len());
    for (key, app, provider, hash, updated_at) in held {
        holders.insert((app, small(provider), hash), (DeviceKey(key), updated_at));
    }
    let mut aside = Aside::default();
    for (death, hash) in deaths.iter().zip(hashes) {
        let holder = (death.app, death.provider.code(), hash);
        let Some(&(key, updated_at)) = holders.get(&holder) else {
            continue;
        };
        if death.registered_before.is_none_or(|before| updated_at < before.0) {
            // Of two deaths of one token the first counts.
            holders.remove(&holder);
            aside.push(key, &death.push, death.reason, death.at);
        }
    }
    aside.write(conn).await
}

/// Devices on their way to `gone`, locked.
#[derive(Default)]
struct Aside<'a> {
    keys: Vec<i64>,
    pushes: Vec<&'a str>,
    reasons: Vec<&'a str>,
    times: Vec<i64>,
}

impl<'a> Aside<'a> {
    fn push(&mut self, key: DeviceKey, push: &'a str, reason: &'a str, at: Timestamp) {
        self.keys.push(key.0);
        self.pushes.push(push);
        self.reasons.push(reason);
        self.times.push(at.0);
    }

    async fn write(self, conn: &mut PgConnection) -> Result<()> {
        if self.keys.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO gone (app, id, provider, platform, platform_word, token, user_id, meta, timezone, locale, created_at, updated_at,
                subscriptions, push_uid, reason, gone_at)
             SELECT d.app, d.id, d.provider, d.platform, d.platform_word, d.token, d.user_id, d.meta, d.timezone, d.locale, d.created_at, d.updated_at,
                coalesce((SELECT json_agg(json_build_array(s.channel, s.origins)) FROM subscriptions s WHERE s.key = d.key), '[]'),
                dead.push, dead.reason, dead.at
             FROM (SELECT unnest($1::bigint[]) AS key, unnest($2::text[]) AS push, unnest($3::text[]) AS reason, unnest($4::bigint[]) AS at) AS dead JOIN devices d ON d.key = dead.key",
        )
        .bind(&self.keys)
        .bind(&self.pushes)
        .bind(&self.reasons)
        .bind(&self.times)
        .execute(&mut *conn)
        .await?;
        devices::delete(conn, &self.keys).await
    }
}

/// Reads on in the registry: the keys of devices not registered since `before`, and where to go on (`None` = that was the end).
pub(super) async fn find_inactive(
    conn: &mut PgConnection,
    from: DeviceKey,
    before: Timestamp,
) -> Result<(Vec<i64>, Option<DeviceKey>)> {
    let seen: Vec<(i64, i64)> =
        sqlx::query_as("SELECT key, updated_at FROM devices WHERE key > $1 ORDER BY key LIMIT 5000")
            .bind(from.0)
            .fetch_all(conn)
            .await?;
    let inactive = seen.iter().filter(|(_, updated_at)| *updated_at < before.0);
    let found: Vec<i64> = inactive.map(|(key, _)| *key).take(INACTIVE_STEP).collect();
    let next = if found.len() == INACTIVE_STEP {
        found.last()
    } else {
        seen.get(INACTIVE_WALK as usize - 1).map(|(key, _)| key)
    };
    let next = next.copied().map(DeviceKey);
    Ok((found, next))
}

/// Moves the devices whose latest registration still is before then to `gone`. Returns how many those were.
pub(super) async fn forget_inactive(
    conn: &mut PgConnection,
    keys: &[i64],
    before: Timestamp,
    at: Timestamp,
) -> Result<u64> {
    let still: Vec<i64> =
        sqlx::query_scalar("SELECT key FROM devices WHERE key = ANY($1) AND updated_at < $2 ORDER BY key FOR UPDATE")
            .bind(keys)
            .bind(before.0)
            .fetch_all(&mut *conn)
            .await?;
    let mut aside = Aside::default();
    for key in &still {
        aside.push(DeviceKey(*key), "", INACTIVE, at);
    }
    aside.write(conn).await?;
    Ok(still.len() as u64)
}

/// Puts back the next 256 devices after `from` that died at or after `since`, newest first, so that of two deaths of one device the later state wins. One whose id or
/// token is in use stays.
///
/// Returns how many came back, and where to go on. They get new keys: pushes that run now have counted them already.
pub(super) async fn restore(
    conn: &mut PgConnection,
    app: i32,
    since: Timestamp,
    from: Place,
) -> Result<(u64, Option<Place>)> {
    let dead: Vec<(i64, i64, i16, i16, String, String)> = sqlx::query_as(
        "SELECT seq, gone_at, provider, platform, token, id FROM gone
         WHERE (app, gone_at) >= ($1, $2) AND (app, gone_at, seq) < ($1, $3, $4)
         ORDER BY app DESC, gone_at DESC, seq DESC LIMIT 256 FOR UPDATE",
    )
    .bind(app)
    .bind(since.0)
    .bind(from.gone_at)
    .bind(from.seq)
    .fetch_all(&mut *conn)
    .await?;
    // Not even one: that was the end. A short step is none, where somebody else puts back at the same time.
    let Some(last) = dead.last().map(|row| Place {
        seq: row.0,
        gone_at: row.1,
    }) else {
        return Ok((0, None));
    };
    let seqs: Vec<i64> = dead.iter().map(|row| row.0).collect();
    let hashes: Vec<_> = dead.iter().map(|row| token_hash(&row.4)).collect();
    // Written in that order, so whoever comes first has the id and the token.
    let back: Vec<(i64, String, i16, String)> = sqlx::query_as(
        "INSERT INTO devices (app, id, provider, platform, platform_word, token, token_hash, user_id, meta, timezone, locale, created_at, updated_at)
         SELECT g.app, g.id, g.provider, g.platform, g.platform_word, g.token, dead.hash, g.user_id, g.meta, g.timezone, g.locale, g.created_at, g.updated_at
         FROM unnest($1::bigint[], $2::bytea[]) WITH ORDINALITY dead (seq, hash, place) JOIN gone g ON g.seq = dead.seq
         ORDER BY dead.place
         ON CONFLICT DO NOTHING RETURNING key, id, provider, token",
    )
    .bind(&seqs)
    .bind(hashes.iter().map(TokenHash::as_slice).collect::<Vec<_>>())
    .fetch_all(&mut *conn)
    .await?;
    let mut waiting: HashMap<(&str, i16, &str), (i64, i16)> = HashMap::with_capacity(dead.len());
    for (seq, _, provider, platform, token, id) in &dead {
        waiting.entry((id, *provider, token)).or_insert((*seq, *platform));
    }
    let mut alive = BTreeMap::new();
    for (key, id, provider, token) in &back {
        if let Some(&(seq, platform)) = waiting.get(&(id.as_str(), *provider, token.as_str())) {
            let route = record::route(small(*provider), small(platform))?;
            alive.insert(seq, (*key, i16::from(route.code())));
        }
    }
    resubscribe(conn, &alive).await?;
    Ok((back.len() as u64, Some(last)))
}

/// Gives those who have come back (seq, new key and route) what they were subscribed to, and takes them out of `gone`.
async fn resubscribe(conn: &mut PgConnection, alive: &BTreeMap<i64, (i64, i16)>) -> Result<()> {
    if alive.is_empty() {
        return Ok(());
    }
    let seqs: Vec<i64> = alive.keys().copied().collect();
    sqlx::query(
        "INSERT INTO subscriptions (app, channel, route, key, origins, token)
         SELECT g.app, s.value ->> 0, alive.route, alive.key, (s.value ->> 1)::smallint, covered_token(g.token)
         FROM (SELECT unnest($1::bigint[]) AS seq, unnest($2::bigint[]) AS key, unnest($3::smallint[]) AS route) AS alive JOIN gone g ON g.seq = alive.seq
         CROSS JOIN LATERAL json_array_elements(g.subscriptions::json) s",
    )
    .bind(&seqs)
    .bind(alive.values().map(|(key, _)| *key).collect::<Vec<_>>())
    .bind(alive.values().map(|(_, route)| *route).collect::<Vec<_>>())
    .execute(&mut *conn)
    .await?;
    sqlx::query("DELETE FROM gone WHERE seq = ANY($1)")
        .bind(&seqs)
        .execute(conn)
        .await?;
    Ok(())
}

/// Deletes at most `room` devices that died before `before`, of all apps. Returns how many.
pub(super) async fn purge(conn: &mut PgConnection, before: Timestamp, room: u32) -> Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM gone WHERE seq = ANY(ARRAY(SELECT seq FROM gone WHERE gone_at < $1 ORDER BY gone_at LIMIT $2))",
    )
    .bind(before.0)
    .bind(i64::from(room))
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}
