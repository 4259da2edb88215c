//! Targets to be tried again become pages of their own.
//!
//! They are merged by (leg, due time, rounded up): over all pages that one job settles, and with what earlier jobs have put on a page
//! that is due then, as long as nobody has taken it. So their pages are about as many as the moments that they are due at, and not as
//! the pages that they come from.
//! Attempts, first try and suspicion stand beside each target.

use bugle_model::{MAX_PAGE, PageId, PageRef, Route, Timestamp};
use rusqlite::{Connection, OptionalExtension};

use super::rows::Push;
use super::{Context, pages};
use crate::Result;
use crate::books::codes;
use crate::books::left_over::{LeftOvers, split_off_rest};
use crate::codec::targets::{self, Stored};
use crate::sqlite::writer::Tx;

/// A page that has room for more.
struct Crumb {
    row: i64,
    id: PageId,
    expected: usize,
}

/// Writes the pages, whose legs exist.
pub(super) fn write(left_overs: LeftOvers, tx: &Tx<'_>, cx: &Context) -> Result<()> {
    let conn = tx.conn();
    let mut of: Option<Push> = None;
    for (group, mut stored) in left_overs.groups {
        if of.as_ref().is_none_or(|push| push.key != group.push) {
            of = Push::read(conn, group.push)?;
        }
        let Some(push) = &of else { continue };
        let leg = codes::route(group.leg)?;
        if group.due > left_overs.now {
            stored = fill_up(tx, cx, push, leg, group.due, stored)?;
        }
        for stored in stored.chunks(MAX_PAGE) {
            let id = group.page(leg, pages::next_seq(conn, push.key, leg)?);
            pages::insert_explicit(conn, push, id, leg, group.due, stored)?;
            hand_over(tx, cx, push, id, group.due)?;
        }
    }
    Ok(())
}

/// Puts as many as it can on a page that waits already; answers the rest.
fn fill_up(
    tx: &Tx<'_>,
    cx: &Context,
    push: &Push,
    leg: Route,
    due: Timestamp,
    mut stored: Vec<Stored>,
) -> Result<Vec<Stored>> {
    let conn = tx.conn();
    let Some(crumb) = crumb(conn, push, leg, due)? else {
        return Ok(stored);
    };
    // Nobody may take the page until this is committed: it would be read, and later settled, without these targets.
    let Some(pin) = cx.leases.seize(crumb.id) else {
        return Ok(stored);
    };
    tx.after_commit(move || drop(pin));
    let rest = split_off_rest(&mut stored, crumb.expected);
    append(conn, &crumb, &stored)?;
    // Who tried to take it meanwhile found it taken, and has forgotten it.
    hand_over(tx, cx, push, crumb.id, due)?;
    Ok(rest)
}

/// The leg's page that is due then, has never been worked on, and has room.
fn crumb(conn: &Connection, push: &Push, leg: Route, due: Timestamp) -> Result<Option<Crumb>> {
    let found = conn
        .prepare_cached(
            "SELECT id, seq, expected FROM pages
              WHERE lane = ?1 AND app = ?2 AND route = ?3 AND due = ?4 AND push = ?5
                AND upto_key IS NULL AND progress IS NULL AND expected < ?6
              ORDER BY seq DESC LIMIT 1",
        )?
        .query_row(
            (push.lane.code(), push.app, leg.code(), due.0, push.key.0, MAX_PAGE),
            |row| {
                let id = PageId {
                    push: push.key,
                    leg: Some(leg),
                    seq: row.get(1)?,
                };
                Ok(Crumb {
                    row: row.get(0)?,
                    id,
                    expected: row.get(2)?,
                })
            },
        )
        .optional()?;
    Ok(found)
}

fn append(conn: &Connection, crumb: &Crumb, more: &[Stored]) -> Result<()> {
    let blob: Vec<u8> = conn
        .prepare_cached("SELECT targets FROM page_targets WHERE page = ?")?
        .query_row([crumb.row], |row| row.get(0))?;
    let mut all = targets::decode(&blob, "page_targets.targets")?;
    all.extend_from_slice(more);
    conn.prepare_cached("UPDATE page_targets SET targets = ? WHERE page = ?")?
        .execute((targets::encode(&all), crumb.row))?;
    conn.prepare_cached("UPDATE pages SET expected = ? WHERE id = ?")?
        .execute((all.len(), crumb.row))?;
    Ok(())
}

fn hand_over(tx: &Tx<'_>, cx: &Context, push: &Push, id: PageId, due: Timestamp) -> Result<()> {
    tx.hand_over(PageRef {
        id,
        app: cx.apps.name(tx.conn(), push.app)?,
        lane: push.lane,
        due,
    });
    Ok(())
}
