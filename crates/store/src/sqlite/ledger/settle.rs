//! Keeps the books of a job: what its pages change in the accounts of their legs, and who ends by it.
//!
//! `books::account` says what settling adds. Changes are added up per leg and written once, in key order; then left-overs become pages, legs end, pushes end.

use bugle_model::{Counts, LeftOver, PushKey, Route, Timestamp};
use rusqlite::Connection;

use super::rows::{OwnPage, Page, Push};
use super::{Context, leftovers, pages};
use crate::Result;
use crate::books::account::{self, Accounts, Change, is_refused};
use crate::books::codes;
use crate::books::page::Content;
use crate::books::push::end_state;
use crate::sqlite::writer::Tx;

/// What a job changes.
pub(super) struct Books {
    now: Timestamp,
    pub(super) accounts: Accounts,
    ended: u64,
}

impl Books {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            now,
            accounts: Accounts::new(now),
            ended: 0,
        }
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
        self.accounts.settle(push, page.leg, page.expected, counts);
        self.accounts.leave_over(push, left_over, stored.as_deref());
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
        let account = account::of_own_page(counts);
        if left_over.is_empty() {
            self.ended += 1;
            let rejected = is_refused(own.answered, own.payload);
            let state = end_state(push.state, push.expires_at, rejected, self.now);
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
        self.accounts.leave_over(push.key, left_over, Some(&stored));
        Ok(())
    }

    /// Writes everything down. Returns how many pushes have ended.
    pub(super) fn close(mut self, tx: &Tx<'_>, cx: &Context) -> Result<u64> {
        let conn = tx.conn();
        let Accounts {
            changes,
            left_overs,
            mut touched,
        } = self.accounts;
        for (&(push, leg), change) in &changes {
            if write_change(conn, push, leg, change)? && change.outstanding < 0 {
                tx.wake_legs();
            }
        }
        leftovers::write(left_overs, tx, cx)?;
        for &(push, leg) in changes.keys() {
            if end_leg(conn, push, leg, self.now)? {
                touched.insert(push);
            }
        }
        for push in touched {
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
    let (closed, answered, payload, rejected): (bool, u64, u64, bool) = statement.query_row(
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
    if rejected || !is_refused(answered, payload) {
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
    let rejected = own.expected == 0 && all > 0 && rejected == all;
    let state = end_state(push.state, push.expires_at, rejected, now);
    conn.prepare_cached(
        "UPDATE pushes SET state = ?, ended_at = ?, channels = NULL, targets = NULL, body = NULL WHERE key = ?",
    )?
    .execute((state.as_str(), now.0, key.0))?;
    Ok(true)
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
        books.accounts.touch_leg(push, codes::route(row.get(0)?)?);
    }
    books.accounts.touch_push(push);
    Ok(())
}
