//! Cuts the devices of one channel into the ranges that pages will be.
//!
//! A range's last device is the one that stands so many places on in the tree: SQLite skips those before it without handing any of them out. Of several channels the keys are
//! read and merged (`audience`), since a device in two of them counts once.

use bugle_model::DeviceKey;
use rusqlite::{Connection, OptionalExtension};

use super::audience::Audience;
use crate::Result;
use crate::books::walk::MAX_RANGE;
use crate::ledger::Walk;

/// Goes on with a walk, which has just begun, in this channel: as far as `wanted` devices. In one transaction: what is counted stays.
pub(super) fn read(
    conn: &Connection,
    audience: &Audience<'_>,
    channel: &str,
    walk: &mut Walk,
    wanted: u32,
) -> Result<()> {
    let channel = Channel {
        conn,
        app: audience.app,
        name: channel,
        route: audience.route.code(),
        bound: walk.bound.0,
    };
    let (mut last, mut left) = (walk.from, wanted);
    while left > 0 {
        let asked = left.min(MAX_RANGE);
        let Some(upto) = channel.nth(last, asked)? else {
            if let (count @ 1.., upto) = channel.rest(last)? {
                walk.append_range(last, upto, count);
            }
            return Ok(());
        };
        walk.append_range(last, upto, asked);
        (last, left) = (upto, left - asked);
    }
    if channel.nth(last, 1)?.is_some() {
        walk.stop(last);
    }
    Ok(())
}

struct Channel<'a> {
    conn: &'a Connection,
    app: i64,
    name: &'a str,
    route: u8,
    bound: i64,
}

impl Channel<'_> {
    /// The device so many places after another; 1 = the next one.
    fn nth(&self, after: DeviceKey, places: u32) -> Result<Option<DeviceKey>> {
        let found = self
            .conn
            .prepare_cached(
                "SELECT key FROM subscriptions
                  WHERE app = ? AND channel = ? AND route = ? AND key > ? AND key <= ? ORDER BY key LIMIT 1 OFFSET ?",
            )?
            .query_row(
                (self.app, self.name, self.route, after.0, self.bound, places - 1),
                |row| row.get(0),
            )
            .optional()?;
        Ok(found.map(DeviceKey))
    }

    /// How many come after a device, and the last of them.
    fn rest(&self, after: DeviceKey) -> Result<(u32, DeviceKey)> {
        let rest = self
            .conn
            .prepare_cached(
                "SELECT count(*), coalesce(max(key), 0) FROM subscriptions
                  WHERE app = ? AND channel = ? AND route = ? AND key > ? AND key <= ?",
            )?
            .query_row((self.app, self.name, self.route, after.0, self.bound), |row| {
                Ok((row.get(0)?, DeviceKey(row.get(1)?)))
            })?;
        Ok(rest)
    }
}
