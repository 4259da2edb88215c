//! The quotas of providers: a row for each app and provider, from which all processes draw, on the database's clock.
//!
//! The table is unlogged: a crash of the database forgets how warm a rate is and who was throttled, which the provider soon says again, and a draw waits for no disk.

use std::sync::Arc;
use std::time::Duration;

use bugle_model::{AppId, Provider};
use sqlx::PgConnection;

use crate::books::quota::Bucket;
use crate::postgres::shared::{Shared, Tx};
use crate::quota::{Draw, Grant};
use crate::{Error, Result};

/// A row: used until, level, throttled until, pause; and the time.
type Row = (i64, f64, i64, i64, i64);

/// Microseconds since 1970 when the row is locked: who waited for it must not draw from the past.
const LOCK: &str = "WITH locked AS MATERIALIZED
        (SELECT used_until, level, throttled_until, pause FROM quotas WHERE app = $1 AND provider = $2 FOR UPDATE)
     SELECT used_until, level, throttled_until, pause, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM locked";
const LOOK: &str =
    "SELECT used_until, level, throttled_until, pause, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
       FROM quotas WHERE app = $1 AND provider = $2";

pub(super) async fn draw(shared: &Arc<Shared>, app: &AppId, provider: Provider, draw: Draw) -> Result<Grant> {
    let key = (shared.apps.intern(shared, app).await?, i16::from(provider.code()));
    if draw.permits == 0 && draw.throttle.is_none() {
        return look(shared, key).await;
    }
    shared
        .write(move |tx| Box::pin(async move { change(tx, key, &draw).await }))
        .await
}

async fn change(tx: &mut Tx, key: (i32, i16), draw: &Draw) -> Result<Grant> {
    let mut found = read(tx.conn(), key, LOCK).await?;
    if found.is_none() {
        // Another process may be doing the same.
        sqlx::query("INSERT INTO quotas (app, provider) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(key.0)
            .bind(key.1)
            .execute(tx.conn())
            .await?;
        found = read(tx.conn(), key, LOCK).await?;
    }
    let row = found.ok_or_else(|| Error::corrupt("quotas", "a row that was there is gone".to_owned()))?;
    let mut bucket = bucket(row);
    let grant = bucket.draw(row.4, draw);
    sqlx::query(
        "UPDATE quotas SET used_until = $3, level = $4, throttled_until = $5, pause = $6 WHERE app = $1 AND provider = $2",
    )
    .bind(key.0)
    .bind(key.1)
    .bind(bucket.used_until)
    .bind(bucket.level)
    .bind(bucket.throttled_until)
    .bind(bucket.pause)
    .execute(tx.conn())
    .await?;
    Ok(grant)
}

/// Asks of throttles only, and writes nothing.
async fn look(shared: &Arc<Shared>, key: (i32, i16)) -> Result<Grant> {
    let row = shared
        .read(move |conn| Box::pin(async move { read(conn, key, LOOK).await }))
        .await?;
    Ok(Grant {
        throttled: row.map_or(Duration::ZERO, |row| bucket(row).throttled(row.4)),
        ..Grant::default()
    })
}

async fn read(conn: &mut PgConnection, (app, provider): (i32, i16), statement: &'static str) -> Result<Option<Row>> {
    let row = sqlx::query_as(statement).bind(app).bind(provider);
    Ok(row.fetch_optional(conn).await?)
}

fn bucket((used_until, level, throttled_until, pause, _): Row) -> Bucket {
    Bucket {
        used_until,
        level,
        throttled_until,
        pause,
    }
}
