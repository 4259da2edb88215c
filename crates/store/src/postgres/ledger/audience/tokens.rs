//! Reads the tokens of parts of audiences, those of several pages by one statement.
//!
//! They come from the index that audiences are walked by, which covers them: a join's plan would change with the statistics, and devices that are far apart cost a descent each. They
//! come as rows: putting a thousand texts together costs the server more than sending them.
//!
//! Several channels of one audience are several streams of rows, which have devices in common. They are put together when they have been read, so that a statement reads but
//! a few streams.

use bugle_model::{MAX_PAGE, Route, Token, TokenTexts};
use futures_util::TryStreamExt;
use sqlx::{PgConnection, Row};

use super::Audience;
use crate::registry::record;
use crate::{Error, Result};

/// Tokens that one statement reads of a stream: a page, and some that have subscribed since it was made.
const TOKENS: usize = MAX_PAGE + 500;

/// Streams that one statement reads, unless a single part has more of them.
const STREAMS: usize = 8;

/// Devices of an audience after the first key, up to the second.
#[derive(Clone, Copy)]
pub(in crate::postgres::ledger) struct Part<'a> {
    pub(in crate::postgres::ledger) audience: Audience<'a>,
    pub(in crate::postgres::ledger) after: i64,
    pub(in crate::postgres::ledger) upto: i64,
}

/// The devices of each part, ascending, and their tokens.
pub(in crate::postgres::ledger) async fn read(
    conn: &mut PgConnection,
    parts: &[Part<'_>],
) -> Result<Vec<Vec<(i64, Token)>>> {
    let mut all = Vec::with_capacity(parts.len());
    let mut rest = parts;
    while !rest.is_empty() {
        let mut streams = 0;
        let few = rest.iter().take_while(|part| {
            streams += part.audience.channels.len();
            streams <= STREAMS
        });
        let (some, others) = rest.split_at(few.count().max(1));
        all.extend(read_some(conn, some).await?);
        rest = others;
    }
    Ok(all)
}

async fn read_some(conn: &mut PgConnection, parts: &[Part<'_>]) -> Result<Vec<Vec<(i64, Token)>>> {
    let mut found: Vec<Found> = parts.iter().map(|_| Found::default()).collect();
    let mut streams: Vec<Stream<'_>> = Vec::new();
    for (part, Part { audience, after, upto }) in parts.iter().enumerate() {
        let channels = audience.channels.iter().filter(|_| after < upto);
        streams.extend(channels.map(|channel| Stream {
            part,
            channel,
            after: *after,
            read: 0,
        }));
    }
    while !streams.is_empty() {
        read_on(conn, parts, &mut streams, &mut found).await?;
        streams.retain(|stream| stream.read == TOKENS);
    }
    let mut all = Vec::with_capacity(parts.len());
    for (part, found) in parts.iter().zip(found) {
        all.push(found.devices(conn, part.audience.route).await?);
    }
    Ok(all)
}

/// A channel's devices, from a place on.
struct Stream<'a> {
    part: usize,
    channel: &'a str,
    after: i64,
    /// What the last statement has read of it.
    read: usize,
}

/// Reads on in all streams.
async fn read_on(
    conn: &mut PgConnection,
    parts: &[Part<'_>],
    streams: &mut [Stream<'_>],
    found: &mut [Found],
) -> Result<()> {
    let of = |stream: &Stream<'_>| parts[stream.part];
    let mut rows = sqlx::query(
        "SELECT w.stream, next.key, next.token
           FROM (SELECT unnest($1::integer[]) AS stream, unnest($2::integer[]) AS app, unnest($3::text[]) AS channel, unnest($4::smallint[]) AS route,
                        unnest($5::bigint[]) AS after, unnest($6::bigint[]) AS upto) AS w
          CROSS JOIN LATERAL (
                SELECT key, token FROM subscriptions
                 WHERE app = w.app AND channel = w.channel AND route = w.route AND key > w.after AND key <= w.upto
                 ORDER BY key LIMIT $7) AS next",
    )
    .bind((0..).take(streams.len()).collect::<Vec<i32>>())
    .bind(streams.iter().map(|s| of(s).audience.app).collect::<Vec<_>>())
    .bind(streams.iter().map(|s| s.channel).collect::<Vec<_>>())
    .bind(streams.iter().map(|s| i16::from(of(s).audience.route.code())).collect::<Vec<_>>())
    .bind(streams.iter().map(|s| s.after).collect::<Vec<_>>())
    .bind(streams.iter().map(|s| of(s).upto).collect::<Vec<_>>())
    .bind(i64::try_from(TOKENS).unwrap_or(i64::MAX))
    .fetch(conn);
    for stream in &mut *streams {
        stream.read = 0;
    }
    // A million of them a push: as they come, their types known.
    while let Some(row) = rows.try_next().await? {
        let number: i32 = row.try_get_unchecked(0)?;
        let stream = usize::try_from(number).ok().and_then(|at| streams.get_mut(at));
        let stream =
            stream.ok_or_else(|| Error::corrupt("subscriptions", format!("nothing was asked under {number}")))?;
        stream.after = row.try_get_unchecked(1)?;
        stream.read += 1;
        found[stream.part].add(stream.after, row.try_get_unchecked(2)?)?;
    }
    Ok(())
}

/// What is read of a part.
#[derive(Default)]
struct Found {
    keys: Vec<i64>,
    texts: TokenTexts,
    /// Devices whose tokens the index does not have.
    long: Vec<i64>,
}

impl Found {
    fn add(&mut self, key: i64, token: Option<&str>) -> Result<()> {
        match token {
            Some(text) => {
                record::add_token(&mut self.texts, text)?;
                self.keys.push(key);
            }
            None => self.long.push(key),
        }
        Ok(())
    }

    /// Each device once, ascending.
    async fn devices(self, conn: &mut PgConnection, route: Route) -> Result<Vec<(i64, Token)>> {
        let mut devices: Vec<(i64, Token)> = self.keys.into_iter().zip(self.texts.tokens()).collect();
        devices.extend(by_keys(conn, route, &self.long).await?);
        if !devices.is_sorted_by(|(one, _), (next, _)| one < next) {
            devices.sort_unstable_by_key(|(key, _)| *key);
            devices.dedup_by_key(|(key, _)| *key);
        }
        Ok(devices)
    }
}

/// Of these devices, those that go over the route, and their tokens, ascending.
pub(in crate::postgres::ledger) async fn by_keys(
    conn: &mut PgConnection,
    route: Route,
    keys: &[i64],
) -> Result<Vec<(i64, Token)>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let found: Vec<(i64, String)> =
        sqlx::query_as("SELECT key, token FROM devices WHERE key = ANY($1) AND provider = $2 AND platform = $3")
            .bind(keys)
            .bind(route.provider.map_or(0, |provider| i16::from(provider.code())))
            .bind(route.platform.map_or(0, |platform| i16::from(platform.code())))
            .fetch_all(conn)
            .await?;
    let mut devices = Vec::with_capacity(found.len());
    for (key, text) in found {
        devices.push((key, record::token(&text)?));
    }
    devices.sort_unstable_by_key(|(key, _)| *key);
    Ok(devices)
}
