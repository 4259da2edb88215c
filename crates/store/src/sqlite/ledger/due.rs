//! Which pages wait.
//!
//! Both indexes of waiting pages begin with (lane, app, route): a route on hold is passed over by one seek, whatever waits behind
//! it. The other routes' streams are merged by (due, push, route, number) while they are read.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use bugle_model::{Flow, Lane, PageId, PageRef, PushKey, Route, Timestamp};
use rusqlite::{CachedStatement, Connection, Rows};

use super::Context;
use super::rows::Push;
use crate::Result;
use crate::books::codes;
use crate::books::page::{Place, own_page};

const PAGES: Table = Table {
    next_route: "SELECT app, route FROM pages
                  WHERE lane = ?1 AND (app, route) > (?2, ?3) ORDER BY app, route LIMIT 1",
    waiting: "SELECT due, push, seq FROM pages
               WHERE lane = ?1 AND app = ?2 AND route = ?3 AND due <= ?4 ORDER BY due, push, seq",
    own: false,
};

const OWN_PAGES: Table = Table {
    next_route: "SELECT app, route FROM pushes WHERE page_due IS NOT NULL
                    AND lane = ?1 AND (app, route) > (?2, ?3) ORDER BY app, route LIMIT 1",
    waiting: "SELECT page_due, key, 0 FROM pushes
               WHERE lane = ?1 AND app = ?2 AND route = ?3 AND page_due <= ?4 ORDER BY page_due, key",
    own: true,
};

/// Where pages wait, and how they are asked for.
#[derive(Clone, Copy)]
struct Table {
    next_route: &'static str,
    waiting: &'static str,
    own: bool,
}

/// Pages of one lane, app and route.
struct Source {
    table: Table,
    app: i64,
    route: Route,
}

impl Source {
    fn head(&self, rows: &mut Rows<'_>) -> Result<Option<Place>> {
        let Some(row) = rows.next()? else { return Ok(None) };
        let (due, push) = (Timestamp(row.get(0)?), PushKey(row.get(1)?));
        if self.table.own {
            return Ok(Some((due, own_page(push))));
        }
        let id = PageId {
            push,
            leg: Some(self.route),
            seq: row.get(2)?,
        };
        Ok(Some((due, id)))
    }
}

pub(super) fn due_pages(
    conn: &Connection,
    cx: &Context,
    lane: Lane,
    before: Timestamp,
    limit: u32,
) -> Result<Vec<PageRef>> {
    let held = held(conn)?;
    let mut sources = sources(conn, PAGES, lane)?;
    sources.extend(self::sources(conn, OWN_PAGES, lane)?);
    sources.retain(|source| !held.contains(&(source.app, source.route)));
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut due = Vec::new();
    if limit == 0 {
        return Ok(due);
    }
    merge(conn, lane, &sources, before, |source, (at, id)| {
        if !cx.leases.is_held(&id) {
            due.push(PageRef {
                id,
                app: cx.apps.name(conn, source.app)?,
                lane,
                due: at,
            });
        }
        Ok(due.len() < limit)
    })?;
    Ok(due)
}

pub(super) fn waiting_page(
    conn: &Connection,
    cx: &Context,
    app: i64,
    route: Route,
    now: Timestamp,
) -> Result<Option<PageRef>> {
    let mut waiting: Option<PageRef> = None;
    for lane in [Lane::Urgent, Lane::Bulk] {
        let sources = [PAGES, OWN_PAGES].map(|table| Source { table, app, route });
        merge(conn, lane, &sources, Timestamp(i64::MAX), |_, (due, id)| {
            if waiting.as_ref().is_some_and(|found| found.due <= due) {
                return Ok(false);
            }
            if cx.leases.is_held(&id) || !sendable(conn, id.push, now)? {
                return Ok(true);
            }
            waiting = Some(PageRef {
                id,
                app: cx.apps.name(conn, app)?,
                lane,
                due,
            });
            Ok(false)
        })?;
    }
    Ok(waiting)
}

/// Pages of a route that are due, the oldest first.
pub(super) fn due_on_route(
    conn: &Connection,
    cx: &Context,
    app: i64,
    route: Route,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<PageRef>> {
    let mut due = Vec::new();
    for lane in [Lane::Urgent, Lane::Bulk] {
        let sources = [PAGES, OWN_PAGES].map(|table| Source { table, app, route });
        merge(conn, lane, &sources, now, |_, (at, id)| {
            due.push(PageRef {
                id,
                app: cx.apps.name(conn, app)?,
                lane,
                due: at,
            });
            Ok(due.len() < limit)
        })?;
    }
    Ok(due)
}

/// A probe must not send what is scheduled for later, and need not take what is called off.
fn sendable(conn: &Connection, push: PushKey, now: Timestamp) -> Result<bool> {
    let push = Push::read(conn, push)?;
    Ok(push.is_some_and(|push| push.due <= now && push.flow(false, now) == Flow::Running))
}

fn held(conn: &Connection) -> Result<HashSet<(i64, Route)>> {
    let mut statement = conn.prepare_cached("SELECT app, route FROM holds WHERE reason IS NOT NULL")?;
    let mut found = statement.query([])?;
    let mut held = HashSet::new();
    while let Some(row) = found.next()? {
        held.insert((row.get(0)?, codes::route(row.get(1)?)?));
    }
    Ok(held)
}

/// Every (app, route) that has a page in this lane: one seek each.
fn sources(conn: &Connection, table: Table, lane: Lane) -> Result<Vec<Source>> {
    let mut statement = conn.prepare_cached(table.next_route)?;
    let mut sources: Vec<Source> = Vec::new();
    let mut last = (i64::MIN, -1_i64);
    loop {
        let mut rows = statement.query((lane.code(), last.0, last.1))?;
        let Some(row) = rows.next()? else {
            return Ok(sources);
        };
        let (app, code): (i64, u8) = (row.get(0)?, row.get(1)?);
        last = (app, i64::from(code));
        sources.push(Source {
            table,
            app,
            route: codes::route(code)?,
        });
    }
}

/// Visits what waits in these sources, in order, until `visit` says `false`.
fn merge(
    conn: &Connection,
    lane: Lane,
    sources: &[Source],
    before: Timestamp,
    mut visit: impl FnMut(&Source, Place) -> Result<bool>,
) -> Result<()> {
    let mut statements = (sources.iter())
        .map(|source| conn.prepare_cached(source.table.waiting))
        .collect::<rusqlite::Result<Vec<CachedStatement<'_>>>>()?;
    let mut streams: Vec<Rows<'_>> = Vec::with_capacity(sources.len());
    let mut heads = BinaryHeap::with_capacity(sources.len());
    for (at, (statement, source)) in statements.iter_mut().zip(sources).enumerate() {
        let mut rows = statement.query((lane.code(), source.app, source.route.code(), before.0))?;
        if let Some(place) = source.head(&mut rows)? {
            heads.push(Reverse((place, at)));
        }
        streams.push(rows);
    }
    while let Some(Reverse((place, at))) = heads.pop() {
        if !visit(&sources[at], place)? {
            break;
        }
        if let Some(next) = sources[at].head(&mut streams[at])? {
            heads.push(Reverse((next, at)));
        }
    }
    Ok(())
}
