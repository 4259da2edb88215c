//! Ends what nobody sends: pushes that were called off or have expired, and legs that no provider accepts.
//!
//! Free pages end by what they expected and had not counted, left-overs included. Their leases are seized until after the commit, so
//! that nobody takes a page that is just being settled. What is in somebody's hands is left to its holder.

use bugle_model::{PushKey, PushState, Timestamp};
use rusqlite::Connection;

use super::leases::Pin;
use super::rows::{self, OwnPage, Page, Push};
use super::settle::{Books, close_legs};
use super::{Context, targets};
use crate::Result;
use crate::books::MAX_STEP;
use crate::books::ending::{Bucket, EXPIRING, room_of_own_page};
use crate::books::page::own_page;
use crate::ledger::Swept;
use crate::sqlite::writer::Tx;

/// One step: its books, what it has seized, and how much more it may do.
struct Step {
    books: Books,
    seized: Vec<Pin>,
    room: u64,
    pages: u64,
}

impl Step {
    fn new(now: Timestamp) -> Self {
        Self {
            books: Books::new(now),
            seized: Vec::new(),
            room: u64::from(MAX_STEP),
            pages: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.room == 0
    }

    /// Ends the push's free pages.
    fn push(&mut self, conn: &Connection, cx: &Context, push: &Push) -> Result<()> {
        let bucket = Bucket::of(push.state);
        self.own_page(conn, cx, push, bucket)?;
        self.pages(conn, cx, push.key, 0..=u8::MAX, bucket)
    }

    fn pages(
        &mut self,
        conn: &Connection,
        cx: &Context,
        push: PushKey,
        routes: std::ops::RangeInclusive<u8>,
        bucket: Bucket,
    ) -> Result<()> {
        let mut free = Vec::new();
        Page::each(conn, push, routes, |page| {
            if self.is_full() {
                return Ok(false);
            }
            if let Some(pin) = cx.leases.seize(page.id) {
                self.seized.push(pin);
                self.room -= 1;
                free.push(page);
            }
            Ok(true)
        })?;
        for page in free {
            let ended = bucket.end_page(page.leg, page.expected, &page.progress);
            self.books.settle_page(conn, &page, &ended, &[])?;
            self.pages += 1;
        }
        Ok(())
    }

    fn own_page(&mut self, conn: &Connection, cx: &Context, push: &Push, bucket: Bucket) -> Result<()> {
        let Some(own) = OwnPage::read(conn, push.key)?.filter(|own| own.due.is_some()) else {
            return Ok(());
        };
        let Some(pin) = cx.leases.seize(own_page(push.key)) else {
            return Ok(());
        };
        self.seized.push(pin);
        let targets = targets::of_own_page(conn, push, &own)?;
        let ended = bucket.end_own_page(own.route, own.expected, &own.progress, &targets);
        self.books.settle_own_page(conn, push, &own, ended, &[])?;
        self.pages += 1;
        self.room = self.room.saturating_sub(room_of_own_page(own.expected));
        Ok(())
    }

    fn finish(self, tx: &Tx<'_>, cx: &Context) -> Result<Swept> {
        let more = self.is_full();
        let pushes = self.books.close(tx, cx)?;
        let seized = self.seized;
        tx.after_commit(move || drop(seized));
        Ok(Swept {
            pages: self.pages,
            pushes,
            more,
        })
    }
}

/// Marks a push as called off, and ends a first step of its free pages. `None` = unknown, else whether there is more to end.
pub(super) fn cancel(tx: &Tx<'_>, cx: &Context, app: i64, uid: &str, now: Timestamp) -> Result<Option<bool>> {
    let conn = tx.conn();
    let Some(key) = rows::push_key(conn, app, uid)? else {
        return Ok(None);
    };
    let Some(mut push) = Push::read(conn, key)? else {
        return Ok(None);
    };
    let mut step = Step::new(now);
    match push.state {
        PushState::Running | PushState::Paused => {
            turn(conn, &mut push, PushState::Cancelled)?;
            close_legs(conn, key, &mut step.books)?;
        }
        PushState::Cancelled if !push.ended => {}
        _ => return Ok(Some(false)),
    }
    step.push(conn, cx, &push)?;
    step.finish(tx, cx).map(|swept| Some(swept.more))
}

fn turn(conn: &Connection, push: &mut Push, state: PushState) -> Result<()> {
    push.state = state;
    conn.prepare_cached("UPDATE pushes SET state = ? WHERE key = ?")?
        .execute((state.as_str(), push.key.0))?;
    Ok(())
}

/// One bounded step over everything.
pub(super) fn sweep(tx: &Tx<'_>, cx: &Context, now: Timestamp) -> Result<Swept> {
    let conn = tx.conn();
    let mut step = Step::new(now);
    let mut expired = 0;
    for key in expired_pushes(conn, now)? {
        if let Some(mut push) = Push::read(conn, key)? {
            turn(conn, &mut push, PushState::Expired)?;
            close_legs(conn, key, &mut step.books)?;
            expired += 1;
        }
    }
    let mut after = PushKey(0);
    while !step.is_full()
        && let Some(key) = next_closing(conn, after)?
    {
        if let Some(push) = Push::read(conn, key)? {
            step.push(conn, cx, &push)?;
        }
        after = key;
    }
    let mut after = (PushKey(0), -1_i64);
    while !step.is_full()
        && let Some((key, leg)) = next_rejected(conn, after)?
    {
        step.pages(conn, cx, key, leg..=leg, Bucket::Failed)?;
        after = (key, i64::from(leg));
    }
    let mut swept = step.finish(tx, cx)?;
    swept.more |= expired == EXPIRING;
    Ok(swept)
}

fn expired_pushes(conn: &Connection, now: Timestamp) -> Result<Vec<PushKey>> {
    let mut statement = conn.prepare_cached(
        "SELECT key FROM pushes WHERE ended_at IS NULL AND state IN ('running', 'paused') AND expires_at <= ?
          ORDER BY expires_at LIMIT ?",
    )?;
    let keys = statement.query_map((now.0, EXPIRING), |row| row.get(0).map(PushKey))?;
    Ok(keys.collect::<rusqlite::Result<_>>()?)
}

fn next_closing(conn: &Connection, after: PushKey) -> Result<Option<PushKey>> {
    let mut statement = conn.prepare_cached(
        "SELECT key FROM pushes WHERE ended_at IS NULL AND state IN ('cancelled', 'expired') AND key > ?
          ORDER BY key LIMIT 1",
    )?;
    let mut found = statement.query([after.0])?;
    Ok(found.next()?.map(|row| row.get(0)).transpose()?.map(PushKey))
}

fn next_rejected(conn: &Connection, after: (PushKey, i64)) -> Result<Option<(PushKey, u8)>> {
    let mut statement = conn.prepare_cached(
        "SELECT push, route FROM legs WHERE rejected = 1 AND ended_at IS NULL AND (push, route) > (?, ?)
          ORDER BY push, route LIMIT 1",
    )?;
    let mut found = statement.query((after.0.0, after.1))?;
    let Some(row) = found.next()? else { return Ok(None) };
    Ok(Some((PushKey(row.get(0)?), row.get(1)?)))
}
