//! Reads audiences on the replica, where that is safe.
//!
//! A replica may be behind by any time. It may serve the audience of a push once it knows everybody who was registered when the push was asked for. The push's row keeps
//! where the write-ahead log stood when it was inserted (`accepted_at_lsn`). A registration that was answered before the push was asked for had written
//! its commit record by then, so the record lies before that place, and a replica that has replayed up to it has it. The push's own commit lies after that place; it does
//! not matter, since the push, its legs and its pages are always read from the primary. Whoever registers between the insert and its commit does so at the same
//! time as the push, and may be meant or not.
//!
//! The targets of a range are then as old as the replica is: who has been removed or has unsubscribed since, or has a new token, may still be sent to what it knows, for as
//! long as it is behind. Reports still name what was sent to, so no newer token is ever removed for an older one's sake.
//!
//! A push that is scheduled for later means whoever is registered when it is due, which its acceptance says nothing of: it is read from the primary. So are explicit targets,
//! since their owner must be the one of this moment, and what is read again because it was not to be trusted any more.

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
    let Some(replica) = &shared.replica else {
        return Ok(None);
    };
    if pushes.is_empty() {
        return Ok(None);
    }
    let keys: Vec<i64> = pushes.iter().map(|push| push.0).collect();
    let mut places: Vec<String> =
        sqlx::query_scalar("SELECT accepted_at_lsn::text FROM pushes WHERE key = ANY($1) AND due <= created_at")
            .bind(keys)
            .fetch_all(conn)
            .await?;
    if places.len() < pushes.len() {
        return Ok(None);
    }
    places.push(replica.floor().to_owned());
    Ok(Some(places))
}

/// Reads on the replica if it has replayed these places, else on the primary. If the replica does not answer, the primary does.
pub(super) async fn read<T, F>(shared: &Shared, places: Option<Vec<String>>, work: F) -> Result<T>
where
    T: Send,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync,
{
    if let (Some(replica), Some(places)) = (&shared.replica, places)
        && let Some(read) = replica.read(&places, &work).await
    {
        return Ok(read);
    }
    shared.read(work).await
}
