//! Walks the devices of one route that are subscribed to at least one of several channels, in the order of their keys, each once.
//!
//! One channel is cut into ranges by the server, which counts its index's entries and sends none of them (`ranges`). Of several, one statement per channel reads on in
//! its own part of an index, a chunk at a time; their streams are merged in code. Nothing is sorted, and what is held in memory is a chunk per channel. Tokens come
//! from the same index, which covers them: a join's plan would change with the statistics, and devices that are far apart cost a descent each.
//!
//! Keys alone come as one array. Keys with tokens come as rows: putting a thousand texts together costs the server more than sending them.

use bugle_model::{DeviceKey, MAX_PAGE, Route, Token, TokenTexts};
use futures_util::TryStreamExt;
use sqlx::{PgConnection, Row};

use crate::Result;
use crate::registry::record;

/// Keys that one statement reads.
const CHUNK: std::ops::RangeInclusive<usize> = 1_000..=16_384;

/// Tokens that one statement reads: a page, and some that have subscribed since it was made.
const TOKENS: usize = MAX_PAGE + 500;

/// Whose devices.
#[derive(Clone, Copy)]
pub(super) struct Audience<'a> {
    pub(super) app: i32,
    pub(super) channels: &'a [String],
    pub(super) route: Route,
}

impl<'a> Audience<'a> {
    /// Its devices after the first key, up to the second, of which about so many are wanted.
    pub(super) fn keys(self, (after, upto): (DeviceKey, DeviceKey), wanted: usize) -> Keys<'a> {
        let streams = self.channels.iter().map(|channel| Stream {
            channel,
            read: Vec::new(),
            at: 0,
            last: after.0,
            exhausted: after >= upto,
        });
        Keys {
            audience: self,
            upto: upto.0,
            // One more, so that what is wanted is not followed by a statement that finds nothing.
            chunk: (wanted / self.channels.len().max(1) + 1).clamp(*CHUNK.start() + 1, *CHUNK.end() + 1),
            streams: streams.collect(),
        }
    }

    /// Its devices after the first key, up to the second, and their tokens, ascending.
    pub(super) async fn tokens(
        self,
        conn: &mut PgConnection,
        (after, upto): (DeviceKey, DeviceKey),
    ) -> Result<Vec<(i64, Token)>> {
        let (mut devices, mut long) = (Vec::new(), Vec::new());
        for channel in self.channels {
            let mut from = after.0;
            while from < upto.0 {
                let read = self.read_tokens(conn, channel, (from, upto.0), &mut long).await?;
                from = read.last;
                devices.extend(read.keys.into_iter().zip(read.texts.tokens()));
            }
        }
        if !long.is_empty() {
            devices.extend(tokens(conn, self.route, &long).await?);
        }
        if self.channels.len() > 1 || !long.is_empty() {
            devices.sort_unstable_by_key(|(key, _)| *key);
            devices.dedup_by_key(|(key, _)| *key);
        }
        Ok(devices)
    }

    /// Reads on in a channel. Devices whose tokens the index does not have are added to `long`.
    async fn read_tokens(
        self,
        conn: &mut PgConnection,
        channel: &str,
        (after, upto): (i64, i64),
        long: &mut Vec<i64>,
    ) -> Result<Chunk> {
        let mut rows = sqlx::query(
            "SELECT key, token FROM subscriptions
              WHERE app = $1 AND channel = $2 AND route = $3 AND key > $4 AND key <= $5 ORDER BY key LIMIT $6",
        )
        .bind(self.app)
        .bind(channel)
        .bind(i16::from(self.route.code()))
        .bind(after)
        .bind(upto)
        .bind(i64::try_from(TOKENS).unwrap_or(i64::MAX))
        .fetch(conn);
        let (mut chunk, mut read) = (Chunk::default(), 0);
        // A million of them a push: as they come, their types known.
        while let Some(row) = rows.try_next().await? {
            chunk.last = row.try_get_unchecked(0)?;
            read += 1;
            match row.try_get_unchecked(1)? {
                Some(text) => {
                    record::add_token(&mut chunk.texts, text)?;
                    chunk.keys.push(chunk.last);
                }
                None => long.push(chunk.last),
            }
        }
        if read < TOKENS {
            chunk.last = upto;
        }
        Ok(chunk)
    }

    /// Those of these devices that are in it, ascending.
    pub(super) async fn members(self, conn: &mut PgConnection, keys: &[i64]) -> Result<Vec<i64>> {
        let mut members = Vec::new();
        if keys.is_empty() {
            return Ok(members);
        }
        for channel in self.channels {
            let found: Vec<i64> = sqlx::query_scalar(
                "SELECT key FROM subscriptions WHERE app = $1 AND channel = $2 AND route = $3 AND key = ANY($4)",
            )
            .bind(self.app)
            .bind(channel)
            .bind(i16::from(self.route.code()))
            .bind(keys)
            .fetch_all(&mut *conn)
            .await?;
            members.extend(found);
        }
        members.sort_unstable();
        members.dedup();
        Ok(members)
    }
}

/// Devices of a channel, ascending, and their tokens.
#[derive(Default)]
struct Chunk {
    keys: Vec<i64>,
    texts: TokenTexts,
    /// There are no others up to this key.
    last: i64,
}

/// A channel's devices, from a place on.
struct Stream<'a> {
    channel: &'a str,
    read: Vec<i64>,
    at: usize,
    last: i64,
    exhausted: bool,
}

impl Stream<'_> {
    fn head(&self) -> Option<i64> {
        self.read.get(self.at).copied()
    }

    /// Must it be read on before anybody knows its next key?
    fn is_dry(&self) -> bool {
        self.at == self.read.len() && !self.exhausted
    }
}

/// The merged keys of an audience.
pub(super) struct Keys<'a> {
    audience: Audience<'a>,
    upto: i64,
    chunk: usize,
    streams: Vec<Stream<'a>>,
}

impl Keys<'_> {
    /// The next keys, at most `most` (not 0), ascending; none = there are no more.
    pub(super) async fn next(&mut self, conn: &mut PgConnection, most: usize) -> Result<Vec<i64>> {
        for at in 0..self.streams.len() {
            if self.streams[at].is_dry() {
                self.read_on(conn, at).await?;
            }
        }
        let mut keys = Vec::new();
        // Streams that still have something, until one runs dry: its next key may be the lowest.
        while keys.len() < most
            && let Some(key) = self.streams.iter().filter_map(Stream::head).min()
        {
            keys.push(key);
            let mut dry = false;
            for stream in &mut self.streams {
                if stream.head() == Some(key) {
                    stream.at += 1;
                    dry |= stream.is_dry();
                }
            }
            if dry {
                break;
            }
        }
        Ok(keys)
    }

    async fn read_on(&mut self, conn: &mut PgConnection, at: usize) -> Result<()> {
        let stream = &mut self.streams[at];
        let read: Option<Vec<i64>> = sqlx::query_scalar(
            "SELECT array_agg(key) FROM (
                SELECT key FROM subscriptions
                 WHERE app = $1 AND channel = $2 AND route = $3 AND key > $4 AND key <= $5 ORDER BY key LIMIT $6) AS next",
        )
        .bind(self.audience.app)
        .bind(stream.channel)
        .bind(i16::from(self.audience.route.code()))
        .bind(stream.last)
        .bind(self.upto)
        .bind(i64::try_from(self.chunk).unwrap_or(i64::MAX))
        .fetch_one(conn)
        .await?;
        stream.read = read.unwrap_or_default();
        stream.at = 0;
        if !stream.read.is_sorted() {
            stream.read.sort_unstable();
        }
        stream.exhausted = stream.read.len() < self.chunk;
        stream.last = stream.read.last().copied().unwrap_or(stream.last);
        Ok(())
    }
}

/// Of these devices, those that go over the route, and their tokens, ascending.
pub(super) async fn tokens(conn: &mut PgConnection, route: Route, keys: &[i64]) -> Result<Vec<(i64, Token)>> {
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
