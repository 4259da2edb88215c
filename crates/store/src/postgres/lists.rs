//! Lists of devices and subscriptions: filters, order, pages.
//!
//! A list is walked by whatever names the fewest rows: ids, tokens, users, a channel's members if they are few, else the index that has the list's order. Which one is
//! decided here, not by the planner: an expression in the place of a column (`d.id || ''`) keeps it from an index, `OFFSET 0` from turning a subquery into a join.
//! Statements are put together from fixed pieces, whatever comes from outside is bound. They are planned each time.

mod devices;
mod query;
mod subscriptions;
#[cfg(test)]
mod tests;

use sqlx::PgConnection;

pub(super) use self::devices::{devices, lock_to_remove};
pub(super) use self::subscriptions::subscriptions;
use crate::{Error, Result};

/// Audiences of at most so many subscriptions are read whole and sorted. Larger ones are met often enough on a walk in the list's order.
pub(super) const FEW: i64 = 20_000;

/// All statements from here on see one moment.
async fn begin(conn: &mut PgConnection) -> Result<()> {
    sqlx::query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .execute(conn)
        .await?;
    Ok(())
}

/// Ends what [`begin`] has begun. After an error of the server nobody uses the connection again.
async fn end<T>(conn: &mut PgConnection, done: Result<T>) -> Result<T> {
    if !matches!(done, Err(Error::Unavailable(_))) {
        sqlx::query("COMMIT").execute(conn).await?;
    }
    done
}
