//! Reads what belongs to a push or a taken page once more.

use std::sync::Arc;

use bugle_model::{PageId, PushKey, Route, Target};
use sqlx::PgConnection;

use super::rows::{Page, Push};
use super::targets::{self, Explicit, Range};
use crate::Result;
use crate::postgres::shared::Shared;

/// The body of a push; `None` = unknown, or it has ended.
pub(super) async fn body(shared: &Arc<Shared>, push: PushKey) -> Result<Option<Arc<[u8]>>> {
    let body: Option<Option<Vec<u8>>> = shared
        .read(move |conn| {
            Box::pin(async move {
                let body = sqlx::query_scalar("SELECT body FROM pushes WHERE key = $1").bind(push.0);
                Ok(body.fetch_optional(conn).await?)
            })
        })
        .await?;
    Ok(body.flatten().map(Arc::from))
}

/// Always on the primary: what was read before is too old to be trusted.
pub(super) async fn reread(shared: &Arc<Shared>, id: PageId, after: i64) -> Result<Vec<Target>> {
    shared
        .read(move |conn| Box::pin(async move { read_again(conn, id, after).await }))
        .await
}

async fn read_again(conn: &mut PgConnection, id: PageId, after: i64) -> Result<Vec<Target>> {
    match id.leg {
        Some(leg) => read_page_again(conn, (id.push, leg, id.seq), after).await,
        None => read_own_page_again(conn, id.push, after).await,
    }
}

async fn read_own_page_again(conn: &mut PgConnection, push: PushKey, after: i64) -> Result<Vec<Target>> {
    let read = Push::read_many(conn, &[push.0]).await?.remove(&push);
    let Some((push, mut own)) = read.filter(|(_, own)| own.due.is_some()) else {
        return Ok(Vec::new());
    };
    (own.progress.position, own.progress.open) = (after, Vec::new());
    targets::of_own_page(conn, &push, &own).await
}

async fn read_page_again(
    conn: &mut PgConnection,
    (push, leg, seq): (PushKey, Route, i64),
    after: i64,
) -> Result<Vec<Target>> {
    let Some((mut page, push)) = Page::with_push(conn, push, leg, seq).await? else {
        return Ok(Vec::new());
    };
    (page.progress.position, page.progress.open) = (after, Vec::new());
    if let Some(range) = Range::of(&push, &page) {
        return Ok(targets::ranges(conn, &[range]).await?.remove(0));
    }
    let stored = Page::targets_of(conn, &[page.row])
        .await?
        .remove(&page.row)
        .unwrap_or_default();
    let wanted = Explicit {
        push: &push,
        route: leg,
        stored,
        progress: &page.progress,
    };
    Ok(targets::explicit(conn, &[wanted]).await?.remove(0))
}
