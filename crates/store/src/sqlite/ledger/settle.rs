//! Keeps the books of a job: what its pages change in the accounts of their legs, and who ends by it.
//!
//! What settling adds, for a page of leg L with `expected` targets: L loses `expected` from targeted and outstanding. Every route
//! in the counts gains its total in targeted, and the counts. Every left-over's route gains one in targeted and outstanding. So
//! `targeted` becomes what was really found, whatever was expected, and a device that has changed its platform is counted where it went.
//!
//! Changes are added up per leg and written once, in key order; then left-overs become pages, legs end, pushes end.

use std::collections::{BTreeMap, BTreeSet};

use bugle_model::{Counts, LeftOver, PushKey, PushState, Route, Timestamp};
use rusqlite::Connection;

use super::leftovers::LeftOvers;
use super::rows::{self, Content, OwnPage, Page, Push};
use super::{Context, pages};
use crate::Result;
use crate::codec::progress;
use crate::codec::targets::{Stored, What};
use crate::sqlite::writer::Tx;

/// So many final answers, all of them about the payload, reject a leg.
const EVIDENCE: i64 = 100;

/// What changes in a leg.
#[derive(Default)]
struct Change {
    targeted: i64,
    outstanding: i64,
    counts: Counts,
    answered: u64,
    payload: u64,
}

/// What a job changes.
pub(super) struct Books {
    now: Timestamp,
    changes: BTreeMap<(PushKey, u8), Change>,
    left_overs: LeftOvers,
    touched: BTreeSet<PushKey>,
    ended: u64,
}

impl Books {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            now,
            changes: BTreeMap::new(),
            left_overs: LeftOvers::new(now),
            touched: BTreeSet::new(),
            ended: 0,
        }
    }

    /// This leg may have ended.
    pub(super) fn touch_leg(&mut self, push: PushKey, leg: Route) {
        self.change(push, leg);
    }

    /// This push may have ended.
    pub(super) fn touch_push(&mut self, push: PushKey) {
        self.touched.insert(push);
    }

    /// Providers' final answers on a leg, and how many of them were about the payload.
    pub(super) fn evidence(&mut self, push: PushKey, leg: Route, answered: u32, payload: u32) {
        let change = self.change(push, leg);
        change.answered += u64::from(answered);
        change.payload += u64::from(payload);
    }

    /// Ends a page with these counts, and takes its row away.
    pub(super) fn settle_page(
        &mut self,
        conn: &Connection,
        page: &Page,
        counts: &[(Route, Counts)],
        left_over: &[LeftOver],
    ) -> Result<()> {
        let push = page.id.push;
        // Read before the row goes; a page has explicit targets only where they cannot be told from the positions.
        let stored = match page.content {
            Content::Explicit if !left_over.is_empty() => Some(page.targets(conn)?),
            _ => None,
        };
        pages::remove(conn, page)?;
        let expected = i64::try_from(page.expected).unwrap_or(i64::MAX);
        let change = self.change(push, page.leg);
        change.targeted -= expected;
        change.outstanding -= expected;
        for (route, counts) in counts {
            let change = self.change(push, *route);
            change.targeted += i64::try_from(counts.total()).unwrap_or(i64::MAX);
            change.counts += *counts;
        }
        self.leave_over(push, left_over, stored.as_deref());
        Ok(())
    }

    /// Ends a push's own page with these counts, which stay in the push's row; without left-overs the push ends with it.
    pub(super) fn settle_own_page(
        &mut self,
        conn: &Connection,
        push: &Push,
        own: &OwnPage,
        counts: Vec<(Route, Counts)>,
        left_over: &[LeftOver],
    ) -> Result<()> {
        let account = progress::encode(&bugle_model::Progress {
            counts,
            ..Default::default()
        });
        if left_over.is_empty() {
            self.ended += 1;
            let rejected = own.answered >= EVIDENCE.cast_unsigned() && own.payload == own.answered;
            let state = end_state(push, rejected, self.now);
            conn.prepare_cached(
                "UPDATE pushes SET page_due = NULL, progress = ?, answered = ?, payload = ?, state = ?, ended_at = ?,
                                   channels = NULL, targets = NULL, body = NULL WHERE key = ?",
            )?
            .execute((
                account,
                own.answered,
                own.payload,
                state.as_str(),
                self.now.0,
                push.key.0,
            ))?;
            return Ok(());
        }
        let stored = OwnPage::targets(conn, push.key)?;
        conn.prepare_cached(
            "UPDATE pushes SET page_due = NULL, progress = ?, answered = ?, payload = ?, targets = NULL WHERE key = ?",
        )?
        .execute((account, own.answered, own.payload, push.key.0))?;
        self.leave_over(push.key, left_over, Some(&stored));
        Ok(())
    }

    fn leave_over(&mut self, push: PushKey, left_over: &[LeftOver], stored: Option<&[Stored]>) {
        for left in left_over {
            let what = match stored {
                None => Some(What::Device(bugle_model::DeviceKey(left.position))),
                Some(stored) => usize::try_from(left.position)
                    .ok()
                    .and_then(|p| stored.get(p.checked_sub(1)?))
                    .map(|entry| entry.what.clone()),
            };
            let change = self.change(push, left.route);
            change.targeted += 1;
            if let Some(what) = what {
                change.outstanding += 1;
                self.left_overs.add(push, left, what);
            } else {
                // Nobody can send it, and nobody may wait for it.
                tracing::error!(
                    push = push.0,
                    position = left.position,
                    "a left-over that its page does not have"
                );
                change.counts.failed += 1;
            }
        }
    }

    fn change(&mut self, push: PushKey, leg: Route) -> &mut Change {
        self.changes.entry((push, leg.code())).or_default()
    }

    /// Writes everything down. Returns how many pushes have ended.
    pub(super) fn close(mut self, tx: &Tx<'_>, cx: &Context) -> Result<u64> {
        let conn = tx.conn();
        for (&(push, leg), change) in &self.changes {
            if write_change(conn, push, leg, change)? && change.outstanding < 0 {
                tx.wake_legs();
            }
        }
        self.left_overs.into_pages(tx, cx)?;
        for &(push, leg) in self.changes.keys() {
            if end_leg(conn, push, leg, self.now)? {
                self.touched.insert(push);
            }
        }
        for &push in &self.touched {
            self.ended += u64::from(end_push(conn, push, self.now)?);
        }
        Ok(self.ended)
    }
}

/// Adds to a leg, which is made if it is not there. Returns whether its audience goes on.
fn write_change(conn: &Connection, push: PushKey, leg: u8, change: &Change) -> Result<bool> {
    let mut statement = conn.prepare_cached(
        "INSERT INTO legs (push, route, app, due, closed, targeted, outstanding,
                           sent, failed, invalid, skipped, expired, cancelled, answered, payload)
         VALUES (?1, ?2, (SELECT app FROM pushes WHERE key = ?1), 0, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
         ON CONFLICT (push, route) DO UPDATE SET
            targeted = targeted + excluded.targeted, outstanding = outstanding + excluded.outstanding,
            sent = sent + excluded.sent, failed = failed + excluded.failed, invalid = invalid + excluded.invalid,
            skipped = skipped + excluded.skipped, expired = expired + excluded.expired,
            cancelled = cancelled + excluded.cancelled,
            answered = answered + excluded.answered, payload = payload + excluded.payload,
            ended_at = iif(excluded.outstanding > 0, NULL, ended_at)
         RETURNING closed, answered, payload, rejected",
    )?;
    let counts = change.counts;
    let (closed, answered, payload, rejected): (bool, i64, i64, bool) = statement.query_row(
        rusqlite::params![
            push.0,
            leg,
            change.targeted,
            change.outstanding,
            counts.sent,
            counts.failed,
            counts.invalid,
            counts.skipped,
            counts.expired,
            counts.cancelled,
            change.answered,
            change.payload
        ],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    if rejected || answered < EVIDENCE || payload < answered {
        return Ok(!closed);
    }
    conn.prepare_cached("UPDATE legs SET rejected = 1, closed = 1 WHERE push = ? AND route = ?")?
        .execute((push.0, leg))?;
    Ok(false)
}

fn end_leg(conn: &Connection, push: PushKey, leg: u8, now: Timestamp) -> Result<bool> {
    let mut statement = conn.prepare_cached(
        "UPDATE legs SET ended_at = ?3 WHERE push = ?1 AND route = ?2 AND closed = 1 AND ended_at IS NULL
            AND NOT EXISTS (SELECT 1 FROM pages WHERE push = ?1 AND route = ?2)",
    )?;
    Ok(statement.execute((push.0, leg, now.0))? > 0)
}

fn end_push(conn: &Connection, key: PushKey, now: Timestamp) -> Result<bool> {
    let (Some(push), Some(own)) = (Push::read(conn, key)?, OwnPage::read(conn, key)?) else {
        return Ok(false);
    };
    let open = conn
        .prepare_cached("SELECT 1 FROM legs WHERE push = ? AND ended_at IS NULL")?
        .exists([key.0])?;
    if push.ended || own.due.is_some() || open {
        return Ok(false);
    }
    let (all, rejected): (i64, i64) = conn
        .prepare_cached("SELECT count(*), coalesce(sum(rejected), 0) FROM legs WHERE push = ? AND targeted > 0")?
        .query_row([key.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let state = end_state(&push, own.expected == 0 && all > 0 && rejected == all, now);
    conn.prepare_cached(
        "UPDATE pushes SET state = ?, ended_at = ?, channels = NULL, targets = NULL, body = NULL WHERE key = ?",
    )?
    .execute((state.as_str(), now.0, key.0))?;
    Ok(true)
}

/// The state of a push whose last page has ended at `now`.
fn end_state(push: &Push, rejected: bool, now: Timestamp) -> PushState {
    match push.state {
        PushState::Cancelled | PushState::Expired => push.state,
        _ if push.expires_at <= now => PushState::Expired,
        _ if rejected => PushState::Rejected,
        _ => PushState::Done,
    }
}

/// Closes all legs of a push that no longer runs; those without a page end with the books.
pub(super) fn close_legs(conn: &Connection, push: PushKey, books: &mut Books) -> Result<()> {
    conn.prepare_cached("UPDATE legs SET closed = 1 WHERE push = ? AND closed = 0")?
        .execute([push.0])?;
    touch_legs(conn, push, books)
}

/// All legs of a push may have ended, and the push itself.
pub(super) fn touch_legs(conn: &Connection, push: PushKey, books: &mut Books) -> Result<()> {
    let mut statement = conn.prepare_cached("SELECT route FROM legs WHERE push = ? AND ended_at IS NULL")?;
    let mut found = statement.query([push.0])?;
    while let Some(row) = found.next()? {
        books.touch_leg(push, rows::route(row.get(0)?)?);
    }
    books.touch_push(push);
    Ok(())
}
