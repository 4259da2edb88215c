//! Walks the devices of one route that are subscribed to at least one of several channels, in the order of their keys, each once.
//!
//! One channel is cut into ranges by the server, which counts its index's entries and sends none of them (`ranges`). Of several, one statement per channel reads on in
//! its own part of an index, a chunk at a time; their streams are merged in code. Nothing is sorted, and what is held in memory is a chunk per channel: its keys come as one
//! array. Tokens are read page by page later on (`tokens`).

pub(super) mod tokens;

use bugle_model::{DeviceKey, Route};
use sqlx::PgConnection;

use crate::Result;

/// Keys that one statement reads.
const CHUNK: std::ops::RangeInclusive<usize> = 1_000..=16_384;

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
