//! The account of a push, exact at one moment: one read transaction sees the legs, the pages in work, and the push's own page.

use bugle_model::{Counts, PushKey, PushStatus, PushUid, Timestamp};
use rusqlite::Connection;

use super::rows::{self, OwnPage, Page, Push};
use super::{holds, targets};
use crate::Result;
use crate::books::ending::waiting_by_route;
use crate::books::push::shown_state;
use crate::books::status::{Sum, Sums};

pub(super) fn status(conn: &Connection, app: i64, uid: &PushUid, now: Timestamp) -> Result<Option<PushStatus>> {
    let Some(key) = rows::push_key(conn, app, uid.as_str())? else {
        return Ok(None);
    };
    let Some(push) = Push::read(conn, key)? else {
        return Ok(None);
    };
    let (created_at, ended_at): (i64, Option<i64>) = conn
        .prepare_cached("SELECT created_at, ended_at FROM pushes WHERE key = ?")?
        .query_row([key.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut sums = legs(conn, key)?;
    add_pages(conn, key, &mut sums)?;
    add_own_page(conn, &push, &mut sums)?;
    let legs = sums.legs(|route| {
        if push.ended {
            return Ok(None);
        }
        holds::reason(conn, app, route)
    })?;
    Ok(Some(PushStatus {
        uid: uid.clone(),
        state: shown_state(push.state, push.due, push.expires_at, now),
        created_at: Timestamp(created_at),
        ended_at: ended_at.map(Timestamp),
        legs,
    }))
}

fn legs(conn: &Connection, push: PushKey) -> Result<Sums> {
    let mut statement = conn.prepare_cached(
        "SELECT route, targeted, sent, failed, invalid, skipped, expired, cancelled, ended_at IS NOT NULL
           FROM legs WHERE push = ? ORDER BY route",
    )?;
    let mut found = statement.query([push.0])?;
    let mut sums = Sums::default();
    while let Some(row) = found.next()? {
        let sum = Sum {
            targeted: row.get(1)?,
            counts: Counts {
                sent: row.get(2)?,
                failed: row.get(3)?,
                invalid: row.get(4)?,
                skipped: row.get(5)?,
                expired: row.get(6)?,
                cancelled: row.get(7)?,
            },
            ended: row.get(8)?,
        };
        sums.leg(row.get(0)?, sum);
    }
    Ok(sums)
}

fn add_pages(conn: &Connection, push: PushKey, sums: &mut Sums) -> Result<()> {
    Page::each(conn, push, 0..=u8::MAX, |page| {
        sums.page(page.leg, page.expected, &page.progress);
        Ok(true)
    })
}

fn add_own_page(conn: &Connection, push: &Push, sums: &mut Sums) -> Result<()> {
    let Some(own) = OwnPage::read(conn, push.key)? else {
        return Ok(());
    };
    sums.counts(&own.progress.counts);
    if own.due.is_some() {
        let targets = targets::of_own_page(conn, push, &own)?;
        sums.waiting(&waiting_by_route(own.route, own.expected, &own.progress, &targets));
    }
    Ok(())
}
