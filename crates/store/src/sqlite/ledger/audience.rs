//! Walks the devices of one route that are subscribed to at least one of several channels, in the order of their keys, each once.
//!
//! One statement per channel reads its own part of a tree; their streams are merged while they are read. Nothing is sorted and
//! nothing is held but one row per channel. One channel alone is not merged, and its ranges are counted by SQLite (`ranges`).

use bugle_model::{DeviceKey, Route};
use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator;
use rusqlite::{CachedStatement, Connection, Row, Rows};

use crate::Result;

/// Keys alone.
pub(super) const KEYS: &str = "SELECT key FROM subscriptions
     WHERE app = ?1 AND channel = ?2 AND route = ?3 AND key > ?4 AND key <= ?5 ORDER BY key";

/// Keys and tokens, from the same tree: a look-up in the devices would cost a descent each.
pub(super) const TOKENS: &str = "SELECT key, token FROM subscriptions
     WHERE app = ?1 AND channel = ?2 AND route = ?3 AND key > ?4 AND key <= ?5 ORDER BY key";

/// Whose devices.
pub(super) struct Audience<'a> {
    pub(super) app: i64,
    pub(super) channels: &'a [String],
    pub(super) route: Route,
}

impl Audience<'_> {
    /// Visits the devices after the first key, up to the second, until `visit` says `false`. The row is one of `sql`, whose first column is the key.
    pub(super) fn each(
        &self,
        conn: &Connection,
        sql: &'static str,
        (after, upto): (DeviceKey, DeviceKey),
        mut visit: impl FnMut(DeviceKey, &Row<'_>) -> Result<bool>,
    ) -> Result<()> {
        let [channel] = self.channels else {
            return self.merged(conn, sql, (after, upto), visit);
        };
        let mut statement = conn.prepare_cached(sql)?;
        let mut rows = statement.query((self.app, channel, self.route.code(), after.0, upto.0))?;
        while let Some(row) = rows.next()? {
            if !visit(DeviceKey(row.get(0)?), row)? {
                break;
            }
        }
        Ok(())
    }

    fn merged(
        &self,
        conn: &Connection,
        sql: &'static str,
        (after, upto): (DeviceKey, DeviceKey),
        mut visit: impl FnMut(DeviceKey, &Row<'_>) -> Result<bool>,
    ) -> Result<()> {
        let mut statements = (self.channels.iter())
            .map(|_| conn.prepare_cached(sql))
            .collect::<rusqlite::Result<Vec<CachedStatement<'_>>>>()?;
        let mut streams: Vec<Rows<'_>> = Vec::with_capacity(statements.len());
        for (statement, channel) in statements.iter_mut().zip(self.channels) {
            let mut rows = statement.query((self.app, channel, self.route.code(), after.0, upto.0))?;
            rows.advance()?;
            streams.push(rows);
        }
        while let Some((key, first)) = lowest(&streams)? {
            if let Some(row) = streams[first].get()
                && !visit(DeviceKey(key), row)?
            {
                break;
            }
            for rows in &mut streams[first..] {
                if head(rows)? == Some(key) {
                    rows.advance()?;
                }
            }
        }
        Ok(())
    }

    /// Is the device in it?
    pub(super) fn has(&self, conn: &Connection, key: DeviceKey) -> Result<bool> {
        let mut statement =
            conn.prepare_cached("SELECT 1 FROM subscriptions WHERE app = ? AND channel = ? AND route = ? AND key = ?")?;
        for channel in self.channels {
            if statement.exists((self.app, channel, self.route.code(), key.0))? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The lowest key at the head of a stream, and the first stream that has it.
fn lowest(streams: &[Rows<'_>]) -> Result<Option<(i64, usize)>> {
    let mut lowest = None;
    for (at, rows) in streams.iter().enumerate() {
        if let Some(key) = head(rows)?
            && lowest.is_none_or(|(low, _)| key < low)
        {
            lowest = Some((key, at));
        }
    }
    Ok(lowest)
}

fn head(rows: &Rows<'_>) -> Result<Option<i64>> {
    Ok(rows.get().map(|row| row.get(0)).transpose()?)
}
