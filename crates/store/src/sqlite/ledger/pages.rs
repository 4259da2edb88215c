//! Page rows come and go.

use bugle_model::{DeviceKey, PageId, PushKey, Route, Timestamp};
use rusqlite::Connection;

use super::rows::{Page, Push};
use crate::Result;
use crate::books::page::Content;
use crate::codec::targets::{self, Stored};

/// A page to be.
pub(super) struct NewPage {
    pub(super) id: PageId,
    pub(super) leg: Route,
    pub(super) due: Timestamp,
    /// `None` = its targets are written by [`insert_explicit`].
    pub(super) range: Option<(DeviceKey, DeviceKey)>,
    pub(super) expected: u64,
}

/// Inserts the row; returns its number.
pub(super) fn insert(conn: &Connection, push: &Push, page: &NewPage) -> Result<i64> {
    let mut statement = conn.prepare_cached(
        "INSERT INTO pages (push, route, seq, app, lane, due, after_key, upto_key, expected)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    let row = statement.insert((
        page.id.push.0,
        page.leg.code(),
        page.id.seq,
        push.app,
        push.lane.code(),
        page.due.0,
        page.range.map(|(after, _)| after.0),
        page.range.map(|(_, upto)| upto.0),
        page.expected,
    ))?;
    Ok(row)
}

/// Inserts a page of explicit targets.
pub(super) fn insert_explicit(
    conn: &Connection,
    push: &Push,
    id: PageId,
    leg: Route,
    due: Timestamp,
    stored: &[Stored],
) -> Result<()> {
    let page = NewPage {
        id,
        leg,
        due,
        range: None,
        expected: stored.len() as u64,
    };
    let row = insert(conn, push, &page)?;
    conn.prepare_cached("INSERT INTO page_targets (page, targets) VALUES (?, ?)")?
        .execute((row, targets::encode(stored)))?;
    Ok(())
}

/// Takes a settled page away.
pub(super) fn remove(conn: &Connection, page: &Page) -> Result<()> {
    conn.prepare_cached("DELETE FROM pages WHERE id = ?")?
        .execute([page.row])?;
    if page.content == Content::Explicit {
        conn.prepare_cached("DELETE FROM page_targets WHERE page = ?")?
            .execute([page.row])?;
    }
    Ok(())
}

/// Takes the next free page number of a leg.
pub(super) fn next_seq(conn: &Connection, push: PushKey, leg: Route) -> Result<i64> {
    let mut statement = conn.prepare_cached(
        "UPDATE legs SET next_seq = next_seq + 1 WHERE push = ? AND route = ? RETURNING next_seq - 1",
    )?;
    Ok(statement.query_row((push.0, leg.code()), |row| row.get(0))?)
}
