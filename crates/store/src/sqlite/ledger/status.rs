//! The account of a push, exact at one moment: one read transaction sees the legs, the pages in work, and the push's own page.

use std::collections::BTreeMap;

use bugle_model::{Counts, LegStatus, PushKey, PushState, PushStatus, PushUid, Route, Timestamp};
use rusqlite::Connection;

use super::rows::{self, OwnPage, Page, Push};
use super::{holds, sweep};
use crate::Result;

/// What is known of a route so far.
#[derive(Default)]
struct Sum {
    targeted: u64,
    counts: Counts,
    ended: bool,
}

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
    let mut legs = Vec::with_capacity(sums.len());
    for (code, sum) in sums {
        let route = rows::route(code)?;
        let held = if push.ended || sum.ended {
            None
        } else {
            holds::reason(conn, app, route)?
        };
        legs.push(LegStatus {
            route,
            targeted: sum.targeted,
            counts: sum.counts,
            held,
        });
    }
    Ok(Some(PushStatus {
        uid: uid.clone(),
        state: state(&push, now),
        created_at: Timestamp(created_at),
        ended_at: ended_at.map(Timestamp),
        legs,
    }))
}

/// What stands in the row, and what has come to pass without anybody writing it down.
fn state(push: &Push, now: Timestamp) -> PushState {
    match push.state {
        PushState::Running | PushState::Paused if push.expires_at <= now => PushState::Expired,
        PushState::Running if now < push.due => PushState::Scheduled,
        state => state,
    }
}

fn legs(conn: &Connection, push: PushKey) -> Result<BTreeMap<u8, Sum>> {
    let mut statement = conn.prepare_cached(
        "SELECT route, targeted, sent, failed, invalid, skipped, expired, cancelled, ended_at IS NOT NULL
           FROM legs WHERE push = ? ORDER BY route",
    )?;
    let mut found = statement.query([push.0])?;
    let mut sums = BTreeMap::new();
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
        sums.insert(row.get(0)?, sum);
    }
    Ok(sums)
}

/// Pages in work: what settling them now would add, see `settle`.
fn add_pages(conn: &Connection, push: PushKey, sums: &mut BTreeMap<u8, Sum>) -> Result<()> {
    Page::each(conn, push, 0..=u8::MAX, |page| {
        let waiting = page.targeted() - page.progress.ended();
        let leg = sums.entry(page.leg.code()).or_default();
        leg.targeted = (leg.targeted + waiting).saturating_sub(page.expected);
        add_counts(sums, &page.progress.counts);
        Ok(true)
    })
}

fn add_own_page(conn: &Connection, push: &Push, sums: &mut BTreeMap<u8, Sum>) -> Result<()> {
    let Some(own) = OwnPage::read(conn, push.key)? else {
        return Ok(());
    };
    add_counts(sums, &own.progress.counts);
    if own.due.is_some() {
        for (route, targets) in sweep::waiting_by_route(conn, push, &own)? {
            sums.entry(route.code()).or_default().targeted += targets;
        }
    }
    Ok(())
}

fn add_counts(sums: &mut BTreeMap<u8, Sum>, counts: &[(Route, Counts)]) {
    for (route, counts) in counts.iter().filter(|(_, counts)| counts.total() > 0) {
        let sum = sums.entry(route.code()).or_default();
        sum.targeted += counts.total();
        sum.counts += *counts;
        sum.ended = false;
    }
}
