//! Routes on hold. No page is touched: whoever looks for pages asks this table.

use bugle_model::{AppId, Hold, HoldReason, Route, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row};

use super::{Context, due};
use crate::Result;
use crate::books::codes;
use crate::books::hold::{Turn, WAKE, never, turn};
use crate::sqlite::writer::Tx;

pub(super) fn set(
    tx: &Tx<'_>,
    cx: &Context,
    name: &AppId,
    route: Route,
    reason: Option<HoldReason>,
    now: Timestamp,
) -> Result<Hold> {
    let conn = tx.conn();
    let app = cx.apps.intern(tx, name)?;
    let mut hold = read_one(conn, cx, app, route)?.unwrap_or_else(|| never(name.clone(), route, now));
    match turn(&mut hold, reason, now) {
        Turn::Nothing => return Ok(hold),
        Turn::Write => {}
        Turn::Release => {
            for page in due::due_on_route(conn, cx, app, route, now, WAKE)? {
                tx.hand_over(page);
            }
            tx.wake_legs();
        }
    }
    conn.prepare_cached(
        "INSERT INTO holds (app, route, reason, since, paused_ms) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (app, route) DO UPDATE SET
            reason = excluded.reason, since = excluded.since, paused_ms = excluded.paused_ms",
    )?
    .execute((
        app,
        route.code(),
        reason.map(HoldReason::as_str),
        hold.since.0,
        hold.paused_ms,
    ))?;
    Ok(hold)
}

pub(super) fn all(conn: &Connection, cx: &Context) -> Result<Vec<Hold>> {
    let mut statement =
        conn.prepare_cached("SELECT app, route, reason, since, paused_ms FROM holds ORDER BY app, route")?;
    let mut rows = statement.query([])?;
    let mut holds = Vec::new();
    while let Some(row) = rows.next()? {
        holds.push(read(conn, cx, row)?);
    }
    Ok(holds)
}

fn read_one(conn: &Connection, cx: &Context, app: i64, route: Route) -> Result<Option<Hold>> {
    let mut statement =
        conn.prepare_cached("SELECT app, route, reason, since, paused_ms FROM holds WHERE app = ? AND route = ?")?;
    let mut rows = statement.query((app, route.code()))?;
    rows.next()?.map(|row| read(conn, cx, row)).transpose()
}

/// Why a route is on hold now, if it is.
pub(super) fn reason(conn: &Connection, app: i64, route: Route) -> Result<Option<HoldReason>> {
    let name: Option<Option<String>> = conn
        .prepare_cached("SELECT reason FROM holds WHERE app = ? AND route = ?")?
        .query_row((app, route.code()), |row| row.get(0))
        .optional()?;
    name.flatten().as_deref().map(codes::hold_reason).transpose()
}

fn read(conn: &Connection, cx: &Context, row: &Row<'_>) -> Result<Hold> {
    Ok(Hold {
        app: cx.apps.name(conn, row.get(0)?)?,
        route: codes::route(row.get(1)?)?,
        reason: row.get_ref(2)?.as_str_or_null()?.map(codes::hold_reason).transpose()?,
        since: Timestamp(row.get(3)?),
        paused_ms: row.get(4)?,
    })
}
