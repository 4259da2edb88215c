//! Reads on in the audiences of legs, and writes down what was read as pages.

use bugle_model::{AppId, Flow, PageId, PageRef, PushKey, Route, Timestamp};
use rusqlite::{Connection, OptionalExtension};

use super::Context;
use super::audience::{self, Audience};
use super::pages::{self, NewPage};
use super::ranges;
use super::rows::Push;
use super::settle::Books;
use crate::Result;
use crate::books::{codes, walk};
use crate::ledger::{Expansion, OpenLeg, Walk};
use crate::sqlite::writer::Tx;

pub(super) fn open_legs(conn: &Connection, cx: &Context, now: Timestamp, limit: u32) -> Result<Vec<OpenLeg>> {
    let mut statement = conn.prepare_cached(
        "SELECT l.push, l.route, p.app, l.outstanding FROM legs l CROSS JOIN pushes p ON p.key = l.push
          WHERE l.closed = 0 AND l.due <= ?1 AND p.expires_at > ?1 AND p.state = 'running'
          ORDER BY l.due, l.push, l.route LIMIT ?2",
    )?;
    let mut rows = statement.query((now.0, limit))?;
    let mut legs = Vec::new();
    while let Some(row) = rows.next()? {
        legs.push(OpenLeg {
            push: PushKey(row.get(0)?),
            route: codes::route(row.get(1)?)?,
            app: cx.apps.name(conn, row.get(2)?)?,
            outstanding: row.get(3)?,
        });
    }
    Ok(legs)
}

pub(super) fn outstanding(conn: &Connection, cx: &Context) -> Result<Vec<(AppId, Route, u64)>> {
    let mut statement = conn.prepare_cached(
        "SELECT app, route, sum(outstanding) FROM legs WHERE outstanding > 0 GROUP BY app, route ORDER BY app, route",
    )?;
    let mut rows = statement.query([])?;
    let mut sums = Vec::new();
    while let Some(row) = rows.next()? {
        sums.push((
            cx.apps.name(conn, row.get(0)?)?,
            codes::route(row.get(1)?)?,
            row.get(2)?,
        ));
    }
    Ok(sums)
}

pub(super) fn walk(conn: &Connection, key: PushKey, legs: &[(Route, u32)], now: Timestamp) -> Result<Vec<Walk>> {
    let mut walks = Vec::with_capacity(legs.len());
    let Some(push) = Push::read(conn, key)?.filter(|push| push.flow(false, now) == Flow::Running) else {
        return Ok(walks);
    };
    for (route, targets) in legs {
        if let Some(mut walk) = begin(conn, key, *route)? {
            read_ranges(conn, &push, &mut walk, walk::most(*targets))?;
            walks.push(walk);
        }
    }
    Ok(walks)
}

fn begin(conn: &Connection, push: PushKey, route: Route) -> Result<Option<Walk>> {
    let leg: Option<(i64, Option<i64>)> = conn
        .prepare_cached("SELECT cursor, bound FROM legs WHERE push = ? AND route = ? AND closed = 0")?
        .query_row((push.0, route.code()), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((cursor, bound)) = leg else {
        return Ok(None);
    };
    let bound = match bound {
        Some(bound) => bound,
        None => conn
            .prepare_cached("SELECT coalesce(max(key), 0) FROM devices")?
            .query_row([], |row| row.get(0))?,
    };
    Ok(Some(Walk::begin(push, route, cursor, bound)))
}

fn read_ranges(conn: &Connection, push: &Push, walk: &mut Walk, most: u32) -> Result<()> {
    let audience = Audience {
        app: push.app,
        channels: push.channels.as_deref().unwrap_or_default(),
        route: walk.route,
    };
    if let [channel] = audience.channels {
        return ranges::read(conn, &audience, channel, walk, most);
    }
    let mut last = walk.from;
    let mut found = 0;
    audience.each(conn, audience::KEYS, (walk.from, walk.bound), |key, _| {
        if found == most {
            walk.stop(last);
            return Ok(false);
        }
        walk.append(last, key);
        (last, found) = (key, found + 1);
        Ok(true)
    })
}

pub(super) fn expand(tx: &Tx<'_>, cx: &Context, walks: &[Walk], now: Timestamp) -> Result<Vec<Expansion>> {
    let mut answers = vec![Expansion::Stale; walks.len()];
    let Some(first) = walks.first() else {
        return Ok(answers);
    };
    let push = Push::read(tx.conn(), first.push)?.filter(|push| push.flow(false, now) == Flow::Running);
    let Some(push) = push else {
        return Ok(answers);
    };
    let mut books = Books::new(now);
    for (walk, answer) in walks.iter().zip(&mut answers) {
        if let Some(first_seq) = move_cursor(tx.conn(), walk)? {
            insert_pages(tx, cx, &push, walk, first_seq, now)?;
            if walk.closed {
                books.accounts.touch_leg(walk.push, walk.route);
            }
            *answer = Expansion::Done;
        }
    }
    books.close(tx, cx)?;
    Ok(answers)
}

fn insert_pages(tx: &Tx<'_>, cx: &Context, push: &Push, walk: &Walk, first_seq: i64, now: Timestamp) -> Result<()> {
    let app = cx.apps.name(tx.conn(), push.app)?;
    for (seq, range) in (first_seq..).zip(&walk.ranges) {
        let id = PageId {
            push: walk.push,
            leg: Some(walk.route),
            seq,
        };
        let page = NewPage {
            id,
            leg: walk.route,
            due: now,
            range: Some((range.after, range.upto)),
            expected: u64::from(range.count),
        };
        pages::insert(tx.conn(), push, &page)?;
        tx.hand_over(PageRef {
            id,
            app: app.clone(),
            lane: push.lane,
            due: now,
        });
    }
    Ok(())
}

/// Moves the leg from where the walk began to where it got; returns the number of its first page. `None` = it is not there any more.
fn move_cursor(conn: &Connection, walk: &Walk) -> Result<Option<i64>> {
    let pages = i64::try_from(walk.ranges.len()).unwrap_or(i64::MAX);
    let first_seq = conn
        .prepare_cached(
            "UPDATE legs SET cursor = ?1, bound = ?2, closed = ?3, next_seq = next_seq + ?4,
                             targeted = targeted + ?5, outstanding = outstanding + ?5
              WHERE push = ?6 AND route = ?7 AND closed = 0 AND cursor = ?8 AND coalesce(bound, ?2) = ?2
             RETURNING next_seq - ?4",
        )?
        .query_row(
            (
                walk.to.0,
                walk.bound.0,
                walk.closed,
                pages,
                walk.count(),
                walk.push.0,
                walk.route.code(),
                walk.from.0,
            ),
            |row| row.get(0),
        )
        .optional()?;
    Ok(first_seq)
}
