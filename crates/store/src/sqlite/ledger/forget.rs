//! Forgets accounts and gone devices when they are old.

use bugle_model::Timestamp;
use rusqlite::Connection;

use crate::Result;
use crate::books::MAX_REMOVALS;
use crate::sqlite::gone;

/// One step. Returns how many pushes and devices were forgotten.
pub(super) fn step(conn: &Connection, pushes_before: Timestamp, gone_before: Timestamp) -> Result<u64> {
    let pushes = forget_pushes(conn, pushes_before)?;
    let room = MAX_REMOVALS.saturating_sub(u32::try_from(pushes).unwrap_or(u32::MAX));
    Ok(pushes + gone::purge(conn, gone_before, room)?)
}

fn forget_pushes(conn: &Connection, before: Timestamp) -> Result<u64> {
    let keys = conn
        .prepare_cached("SELECT key FROM pushes WHERE ended_at IS NOT NULL AND ended_at < ? ORDER BY ended_at LIMIT ?")?
        .query_map((before.0, MAX_REMOVALS), |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    let (mut pushes, mut rows) = (0, 0);
    for key in keys {
        rows += 1 + conn.prepare_cached("DELETE FROM legs WHERE push = ?")?.execute([key])?;
        conn.prepare_cached("DELETE FROM pushes WHERE key = ?")?
            .execute([key])?;
        pushes += 1;
        if rows >= MAX_REMOVALS as usize {
            break;
        }
    }
    Ok(pushes)
}
