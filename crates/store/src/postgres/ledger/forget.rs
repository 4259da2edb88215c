//! Forgets accounts and gone devices when they are old.

use std::sync::Arc;

use bugle_model::Timestamp;
use sqlx::PgConnection;

use crate::Result;
use crate::books::MAX_REMOVALS;
use crate::postgres::gone;
use crate::postgres::shared::Shared;

/// One step. Returns how many pushes and devices were forgotten.
pub(super) async fn step(shared: &Arc<Shared>, pushes_before: Timestamp, gone_before: Timestamp) -> Result<u64> {
    shared
        .write(move |tx| {
            Box::pin(async move {
                let pushes = forget_pushes(tx.conn(), pushes_before).await?;
                let room = MAX_REMOVALS.saturating_sub(u32::try_from(pushes).unwrap_or(u32::MAX));
                Ok(pushes + gone::purge(tx.conn(), gone_before, room).await?)
            })
        })
        .await
}

/// Passes over what another process is just forgetting.
async fn forget_pushes(conn: &mut PgConnection, before: Timestamp) -> Result<u64> {
    let mut keys: Vec<i64> = sqlx::query_scalar(
        "SELECT key FROM pushes WHERE ended_at IS NOT NULL AND ended_at < $1 ORDER BY ended_at LIMIT 256 FOR UPDATE SKIP LOCKED",
    )
    .bind(before.0)
    .fetch_all(&mut *conn)
    .await?;
    if keys.is_empty() {
        return Ok(0);
    }
    let legs: Vec<i64> = sqlx::query_scalar("SELECT push FROM legs WHERE push = ANY($1)")
        .bind(&keys)
        .fetch_all(&mut *conn)
        .await?;
    let mut removals = 0;
    let room = keys.iter().take_while(|key| {
        let fits = removals < MAX_REMOVALS as usize;
        removals += 1 + legs.iter().filter(|push| push == key).count();
        fits
    });
    let room = room.count();
    keys.truncate(room);
    for statement in [
        "DELETE FROM legs WHERE push = ANY($1)",
        "DELETE FROM pushes WHERE key = ANY($1)",
    ] {
        sqlx::query(statement).bind(&keys).execute(&mut *conn).await?;
    }
    Ok(keys.len() as u64)
}
