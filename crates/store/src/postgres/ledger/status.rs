//! The account of a push, exact at one moment: one snapshot sees the legs, the pages in work, and the push's own page.

use std::sync::Arc;

use bugle_model::{AppId, Counts, PushKey, PushStatus, PushUid, Timestamp};
use sqlx::{PgConnection, Row};

use super::rows::{self, OwnPage, Page, Push};
use super::{holds, targets};
use crate::Result;
use crate::books::ending::waiting_by_route;
use crate::books::push::shown_state;
use crate::books::status::{Sum, Sums};
use crate::postgres::shared::Shared;

/// Reads on the primary: a replica may be behind.
pub(super) async fn status(
    shared: &Arc<Shared>,
    app: &AppId,
    uid: &PushUid,
    now: Timestamp,
) -> Result<Option<PushStatus>> {
    let context = (Arc::clone(shared), app.clone(), uid.clone());
    shared
        .read(move |conn| {
            let (shared, app, uid) = context.clone();
            Box::pin(async move {
                sqlx::query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    .execute(&mut *conn)
                    .await?;
                let answer = match shared.apps.find(conn, &app).await {
                    Ok(Some(app)) => in_snapshot(conn, app, &uid, now).await,
                    Ok(None) => Ok(None),
                    Err(error) => Err(error),
                };
                // The connection may be used again whatever was answered.
                sqlx::query("ROLLBACK").execute(conn).await?;
                answer
            })
        })
        .await
}

async fn in_snapshot(conn: &mut PgConnection, app: i32, uid: &PushUid, now: Timestamp) -> Result<Option<PushStatus>> {
    let Some(key) = rows::push_key(conn, app, uid.as_str()).await? else {
        return Ok(None);
    };
    let Some((push, own)) = Push::read_many(conn, &[key.0]).await?.remove(&key) else {
        return Ok(None);
    };
    let (created_at, ended_at): (i64, Option<i64>) =
        sqlx::query_as("SELECT created_at, ended_at FROM pushes WHERE key = $1")
            .bind(key.0)
            .fetch_one(&mut *conn)
            .await?;
    let mut sums = legs(conn, key).await?;
    add_pages(conn, key, &mut sums).await?;
    add_own_page(conn, &push, &own, &mut sums).await?;
    let held = if push.ended {
        Vec::new()
    } else {
        holds::reasons(conn, app).await?
    };
    let reason = |route| held.iter().find(|(on, _)| *on == route).map(|(_, reason)| *reason);
    let legs = sums.legs(|route| Ok(reason(route)))?;
    Ok(Some(PushStatus {
        uid: uid.clone(),
        state: shown_state(push.state, push.due, push.expires_at, now),
        created_at: Timestamp(created_at),
        ended_at: ended_at.map(Timestamp),
        legs,
    }))
}

async fn legs(conn: &mut PgConnection, push: PushKey) -> Result<Sums> {
    let found = sqlx::query(
        "SELECT route, targeted, sent, failed, invalid, skipped, expired, cancelled, ended_at IS NOT NULL
           FROM legs WHERE push = $1 ORDER BY route",
    )
    .bind(push.0)
    .fetch_all(conn)
    .await?;
    let mut sums = Sums::default();
    for row in found {
        let number = |column: usize| -> Result<u64> { Ok(row.try_get::<i64, _>(column)?.cast_unsigned()) };
        let sum = Sum {
            targeted: number(1)?,
            counts: Counts {
                sent: number(2)?,
                failed: number(3)?,
                invalid: number(4)?,
                skipped: number(5)?,
                expired: number(6)?,
                cancelled: number(7)?,
            },
            ended: row.try_get(8)?,
        };
        sums.leg(rows::route(row.try_get(0)?)?.code(), sum);
    }
    Ok(sums)
}

async fn add_pages(conn: &mut PgConnection, push: PushKey, sums: &mut Sums) -> Result<()> {
    for page in Page::all(conn, push).await? {
        sums.page(page.leg, page.expected, &page.progress);
    }
    Ok(())
}

async fn add_own_page(conn: &mut PgConnection, push: &Push, own: &OwnPage, sums: &mut Sums) -> Result<()> {
    sums.counts(&own.progress.counts);
    if own.due.is_some() {
        let targets = targets::of_own_page(conn, push, own).await?;
        sums.waiting(&waiting_by_route(own.route, own.expected, &own.progress, &targets));
    }
    Ok(())
}
