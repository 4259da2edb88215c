//! Devices by their keys, or one by its id: locked, deleted.

use bugle_model::{DeviceId, DeviceKey, Route};
use sqlx::PgConnection;

use super::rows::small;
use crate::Result;
use crate::registry::record;

/// Locks the device of that id; answers its key and the route of its subscriptions.
pub(super) async fn lock(conn: &mut PgConnection, app: i32, id: &DeviceId) -> Result<Option<(DeviceKey, Route)>> {
    let found: Option<(i64, i16, i16)> =
        sqlx::query_as("SELECT key, provider, platform FROM devices WHERE app = $1 AND id = $2 FOR UPDATE")
            .bind(app)
            .bind(id.as_str())
            .fetch_optional(conn)
            .await?;
    let Some((key, provider, platform)) = found else {
        return Ok(None);
    };
    let route = record::route(small(provider), small(platform))?;
    Ok(Some((DeviceKey(key), route)))
}

/// Deletes devices that are locked, and their subscriptions.
pub(super) async fn delete(conn: &mut PgConnection, keys: &[i64]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    sqlx::query("DELETE FROM subscriptions WHERE key = ANY($1)")
        .bind(keys)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM devices WHERE key = ANY($1)")
        .bind(keys)
        .execute(conn)
        .await?;
    Ok(())
}
