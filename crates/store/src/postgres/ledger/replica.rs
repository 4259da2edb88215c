//! Reads audiences on the replica, where that is safe.
//!
//! A replica may be behind by any time. It may serve the audience of a push once it knows everybody who was registered when the push was asked for. The push's row keeps
//! where the write-ahead log stood when it was inserted (`accepted_at_lsn`). A registration that was answered before the push was asked for had written
//! its commit record by then, so the record lies before that place, and a replica that has replayed up to it has it. The push's own commit lies after that place; it does
//! not matter, since the push, its legs and its pages are always read from the primary. Whoever registers between the insert and its commit does so at the same
//! time as the push, and may be meant or not.
//!
//! A push that is scheduled for later means whoever is registered when it is due, which its acceptance says nothing of: it is read from the primary. So are explicit targets,
//! since their owner must be the one of this moment, and what is read again because it was not to be trusted any more.

use std::sync::Arc;

use bugle_model::PushKey;
use futures_util::future::BoxFuture;
use sqlx::PgConnection;

use crate::Result;
use crate::postgres::shared::Shared;

/// Places in the log that a replica must have replayed before it may be asked; `None` = one of the pushes must be read on the primary, or there is no replica.
pub(super) async fn places(
    shared: &Shared,
    conn: &mut PgConnection,
    pushes: &[PushKey],
) -> Result<Option<Vec<String>>> {
    if shared.replica.is_none() || pushes.is_empty() {
        return Ok(None);
    }
    let keys: Vec<i64> = pushes.iter().map(|push| push.0).collect();
    let places: Vec<String> =
        sqlx::query_scalar("SELECT accepted_at_lsn::text FROM pushes WHERE key = ANY($1) AND due <= created_at")
            .bind(keys)
            .fetch_all(conn)
            .await?;
    Ok((places.len() == pushes.len()).then_some(places))
}

/// Reads on the replica if it has replayed these places, else on the primary. If the replica does not answer, the primary does.
pub(super) async fn read<T, F>(shared: &Shared, places: Option<Vec<String>>, work: F) -> Result<T>
where
    T: Send,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    let work = Arc::new(work);
    if let Some(places) = places {
        let (places, work) = (Arc::new(places), Arc::clone(&work));
        let read = shared.read_replica(move |conn| {
            let (places, work) = (Arc::clone(&places), Arc::clone(&work));
            Box::pin(async move {
                if has_replayed(conn, &places).await? {
                    work(conn).await.map(Some)
                } else {
                    Ok(None)
                }
            })
        });
        if let Ok(Some(read)) = read.await {
            return Ok(read);
        }
    }
    shared
        .read(move |conn| {
            let work = Arc::clone(&work);
            Box::pin(async move { work(conn).await })
        })
        .await
}

/// Has this server replayed all of these places? A primary replays nothing.
async fn has_replayed(conn: &mut PgConnection, places: &[String]) -> Result<bool> {
    let replayed: Option<bool> = sqlx::query_scalar(
        "SELECT pg_last_wal_replay_lsn() >= (SELECT max(place::pg_lsn) FROM unnest($1::text[]) AS place)",
    )
    .bind(places)
    .fetch_one(conn)
    .await?;
    Ok(replayed.unwrap_or(false))
}
