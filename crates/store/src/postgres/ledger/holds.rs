//! Routes on hold. No page is touched: whoever looks for pages asks this table.

use std::sync::Arc;

use bugle_model::{AppId, Hold, HoldReason, Route, Timestamp};
use sqlx::PgConnection;

use super::{due, rows};
use crate::books::codes;
use crate::books::hold::{Turn, WAKE, never, turn};
use crate::postgres::shared::{Shared, Tx};
use crate::{Error, Result};

/// A row: app, route, reason, since, paused for.
type Row = (i32, i16, Option<String>, i64, i64);

pub(super) async fn set(
    shared: &Arc<Shared>,
    app: &AppId,
    route: Route,
    reason: Option<HoldReason>,
    now: Timestamp,
) -> Result<Hold> {
    let key = shared.apps.intern(shared, app).await?;
    let context = Arc::clone(shared);
    shared
        .write(move |tx| {
            let shared = Arc::clone(&context);
            Box::pin(async move { change(tx, &shared, (key, route), reason, now).await })
        })
        .await
}

async fn change(
    tx: &mut Tx,
    shared: &Shared,
    (app, route): (i32, Route),
    reason: Option<HoldReason>,
    now: Timestamp,
) -> Result<Hold> {
    let mut hold = match lock(tx.conn(), shared, app, route).await? {
        Some(hold) => hold,
        None if reason.is_some() => {
            insert(tx.conn(), app, route, now).await?;
            lock(tx.conn(), shared, app, route)
                .await?
                .ok_or_else(|| Error::corrupt("holds", "a row that was there is gone".to_owned()))?
        }
        None => never(shared.apps.name(tx.conn(), app).await?, route, now),
    };
    match turn(&mut hold, reason, now) {
        Turn::Nothing => return Ok(hold),
        Turn::Write => {}
        Turn::Release => {
            for page in due::due_on_route(tx.conn(), shared, (app, route), now, WAKE).await? {
                tx.hand_over(page);
            }
            tx.wake_legs();
        }
    }
    sqlx::query("UPDATE holds SET reason = $3, since = $4, paused_ms = $5 WHERE app = $1 AND route = $2")
        .bind(app)
        .bind(i16::from(route.code()))
        .bind(reason.map(HoldReason::as_str))
        .bind(hold.since.0)
        .bind(hold.paused_ms)
        .execute(tx.conn())
        .await?;
    Ok(hold)
}

/// Makes the row of a route that was never on hold, so that there is something to lock: another process may be doing the same.
async fn insert(conn: &mut PgConnection, app: i32, route: Route, now: Timestamp) -> Result<()> {
    sqlx::query(
        "INSERT INTO holds (app, route, reason, since, paused_ms) VALUES ($1, $2, NULL, $3, 0) ON CONFLICT DO NOTHING",
    )
    .bind(app)
    .bind(i16::from(route.code()))
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}

async fn lock(conn: &mut PgConnection, shared: &Shared, app: i32, route: Route) -> Result<Option<Hold>> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT app, route, reason, since, paused_ms FROM holds WHERE app = $1 AND route = $2 FOR UPDATE",
    )
    .bind(app)
    .bind(i16::from(route.code()))
    .fetch_optional(&mut *conn)
    .await?;
    match row {
        Some(row) => read(conn, shared, row).await.map(Some),
        None => Ok(None),
    }
}

pub(super) async fn all(shared: &Arc<Shared>) -> Result<Vec<Hold>> {
    let context = Arc::clone(shared);
    shared
        .read(move |conn| {
            let shared = Arc::clone(&context);
            Box::pin(async move {
                let found: Vec<Row> =
                    sqlx::query_as("SELECT app, route, reason, since, paused_ms FROM holds ORDER BY app, route")
                        .fetch_all(&mut *conn)
                        .await?;
                let mut holds = Vec::with_capacity(found.len());
                for row in found {
                    holds.push(read(conn, &shared, row).await?);
                }
                Ok(holds)
            })
        })
        .await
}

/// The routes of an app that are on hold now, and why.
pub(super) async fn reasons(conn: &mut PgConnection, app: i32) -> Result<Vec<(Route, HoldReason)>> {
    let found: Vec<(i16, String)> =
        sqlx::query_as("SELECT route, reason FROM holds WHERE app = $1 AND reason IS NOT NULL")
            .bind(app)
            .fetch_all(conn)
            .await?;
    found
        .into_iter()
        .map(|(code, reason)| Ok((rows::route(code)?, codes::hold_reason(&reason)?)))
        .collect()
}

async fn read(conn: &mut PgConnection, shared: &Shared, row: Row) -> Result<Hold> {
    let (app, code, reason, since, paused_ms) = row;
    Ok(Hold {
        app: shared.apps.name(conn, app).await?,
        route: rows::route(code)?,
        reason: reason.as_deref().map(codes::hold_reason).transpose()?,
        since: Timestamp(since),
        paused_ms,
    })
}
