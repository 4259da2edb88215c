//! Targets to be tried again become pages of their own.
//!
//! They are merged by (leg, due time, rounded up): over all pages that one job settles, and with what earlier jobs have put on a page
//! that is due then, as long as nobody has taken it. So their pages are about as many as the moments that they are due at, and not as
//! the pages that they come from.
//! Attempts, first try and suspicion stand beside each target.

use std::collections::BTreeMap;

use bugle_model::{LeftOver, MAX_PAGE, PageId, PageRef, PushKey, Route, Timestamp};
use rusqlite::{Connection, OptionalExtension};

use super::rows::{self, Push};
use super::{Context, pages};
use crate::Result;
use crate::codec::targets::{self, Stored, What};
use crate::sqlite::writer::Tx;

/// Shorter waits are rounded up to half a second, others to the second.
const SHORT_MS: i64 = 2_000;

/// What makes targets fit on one page.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    push: PushKey,
    leg: u8,
    due: Timestamp,
}

/// Left-overs of the pages that a job settles.
pub(super) struct LeftOvers {
    now: Timestamp,
    groups: BTreeMap<Group, Vec<Stored>>,
}

/// A page that has room for more.
struct Crumb {
    row: i64,
    id: PageId,
    expected: usize,
}

impl LeftOvers {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            now,
            groups: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, push: PushKey, left: &LeftOver, what: What) {
        let group = Group {
            push,
            leg: left.route.code(),
            due: self.due(left.due),
        };
        self.groups.entry(group).or_default().push(Stored {
            what,
            attempts: left.attempts,
            first_try: left.first_try,
            suspect: left.suspect,
        });
    }

    /// The end of the second (of its half, for short waits), so that none of a page's targets goes before its time; what is due already is due now.
    fn due(&self, due: Timestamp) -> Timestamp {
        let wait = due.0.saturating_sub(self.now.0);
        if wait <= 0 {
            return self.now;
        }
        let grain = if wait < SHORT_MS { 500 } else { 1_000 };
        Timestamp(due.0.saturating_add(grain - 1).div_euclid(grain).saturating_mul(grain))
    }

    /// Writes the pages, whose legs exist.
    pub(super) fn into_pages(self, tx: &Tx<'_>, cx: &Context) -> Result<()> {
        let conn = tx.conn();
        let mut of: Option<Push> = None;
        for (group, mut stored) in self.groups {
            if of.as_ref().is_none_or(|push| push.key != group.push) {
                of = Push::read(conn, group.push)?;
            }
            let Some(push) = &of else { continue };
            let leg = rows::route(group.leg)?;
            if group.due > self.now {
                stored = fill_up(tx, cx, push, leg, group.due, stored)?;
            }
            for stored in stored.chunks(MAX_PAGE) {
                let mut id = PageId {
                    push: push.key,
                    leg: Some(leg),
                    seq: 0,
                };
                id.seq = pages::next_seq(conn, id, leg)?;
                pages::insert_explicit(conn, push, id, leg, group.due, stored)?;
                hand_over(tx, cx, push, id, group.due)?;
            }
        }
        Ok(())
    }

    /// Into how many pages these fall, at most.
    pub(super) fn groups(left_over: &[LeftOver]) -> usize {
        let mut groups: Vec<(u8, i64)> = (left_over.iter())
            .map(|l| (l.route.code(), l.due.0.div_euclid(500)))
            .collect();
        groups.sort_unstable();
        groups.dedup();
        // One that waited already and was full.
        groups.len() + 1 + left_over.len() / MAX_PAGE
    }
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
    let rest = stored.split_off(stored.len().min(MAX_PAGE - crumb.expected));
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
