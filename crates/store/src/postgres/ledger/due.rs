//! Which pages wait.
//!
//! Both indexes of waiting pages begin with (lane, app, route): a route on hold is passed over by one seek, whatever waits behind it. Each other route is one
//! range of an index, read in chunks that go on where the last one ended; the ranges are merged by (due, push, route, number) in code. What is held in memory
//! is a chunk per route, whatever waits.

mod source;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

use bugle_model::{AppId, Lane, PageRef, Route, Timestamp};
use sqlx::PgConnection;

use self::source::{CHUNK, Source, Table, chunk, routes};
use super::rows;
use crate::Result;
use crate::books::page::Place;
use crate::postgres::shared::Shared;

/// Which of some pushes a probe may take pages of: not those that are scheduled for later, or no longer run.
const SENDABLE: &str =
    "SELECT key FROM pushes WHERE key = ANY($1) AND state = 'running' AND due <= $2 AND expires_at > $2";

pub(super) async fn due_pages(shared: &Arc<Shared>, lane: Lane, before: Timestamp, limit: u32) -> Result<Vec<PageRef>> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let context = Arc::clone(shared);
    shared
        .read(move |conn| {
            let shared = Arc::clone(&context);
            Box::pin(async move {
                let held = held(conn).await?;
                let mut waiting = routes(conn, Table::Pages, lane).await?;
                waiting.extend(routes(conn, Table::Own, lane).await?);
                waiting.retain(|(_, route)| !held.contains(route));
                let chunk = chunk(limit, waiting.len());
                let sources = waiting
                    .into_iter()
                    .map(|(table, route)| Source::new(table, lane, route, before, chunk));
                merge(conn, &shared, sources.collect(), limit).await
            })
        })
        .await
}

/// Free pages of a route that are due, the urgent ones first.
pub(super) async fn due_on_route(
    conn: &mut PgConnection,
    shared: &Shared,
    route: (i32, Route),
    now: Timestamp,
    limit: usize,
) -> Result<Vec<PageRef>> {
    let mut due = Vec::new();
    for lane in [Lane::Urgent, Lane::Bulk] {
        let room = limit - due.len();
        let sources = [Table::Pages, Table::Own].map(|table| Source::new(table, lane, route, now, chunk(room, 2)));
        due.extend(merge(conn, shared, sources.into(), room).await?);
    }
    Ok(due)
}

/// The first pages of all these sources together.
async fn merge(
    conn: &mut PgConnection,
    shared: &Shared,
    mut sources: Vec<Source>,
    limit: usize,
) -> Result<Vec<PageRef>> {
    let mut due = Vec::new();
    if limit == 0 {
        return Ok(due);
    }
    let mut heads = BinaryHeap::with_capacity(sources.len());
    for (at, source) in sources.iter_mut().enumerate() {
        if let Some(place) = source.next(conn).await? {
            heads.push(Reverse((place, at)));
        }
    }
    while let Some(Reverse((place, at))) = heads.pop() {
        due.push(sources[at].reference(conn, shared, place).await?);
        if due.len() == limit {
            break;
        }
        if let Some(next) = sources[at].next(conn).await? {
            heads.push(Reverse((next, at)));
        }
    }
    Ok(due)
}

pub(super) async fn waiting_page(
    shared: &Arc<Shared>,
    app: &AppId,
    route: Route,
    now: Timestamp,
) -> Result<Option<PageRef>> {
    let (context, app) = (Arc::clone(shared), app.clone());
    shared
        .read(move |conn| {
            let (shared, app) = (Arc::clone(&context), app.clone());
            Box::pin(async move {
                match shared.apps.find(conn, &app).await? {
                    Some(key) => find_waiting(conn, &shared, (key, route), now).await,
                    None => Ok(None),
                }
            })
        })
        .await
}

async fn find_waiting(
    conn: &mut PgConnection,
    shared: &Shared,
    route: (i32, Route),
    now: Timestamp,
) -> Result<Option<PageRef>> {
    let mut first: Option<(Place, Source)> = None;
    for lane in [Lane::Urgent, Lane::Bulk] {
        for table in [Table::Pages, Table::Own] {
            let mut source = Source::new(table, lane, route, Timestamp(i64::MAX), *CHUNK.end() / 4);
            let Some(place) = first_sendable(conn, &mut source, now).await? else {
                continue;
            };
            let comes_first = match &first {
                None => true,
                Some((best, of)) if of.lane == lane => place < *best,
                // Of two that are due at the same moment the urgent one.
                Some((best, _)) => place.0 < best.0,
            };
            if comes_first {
                first = Some((place, source));
            }
        }
    }
    match first {
        Some((place, source)) => source.reference(conn, shared, place).await.map(Some),
        None => Ok(None),
    }
}

/// The first page whose push may be sent now.
async fn first_sendable(conn: &mut PgConnection, source: &mut Source, now: Timestamp) -> Result<Option<Place>> {
    while let Some(place) = source.next(conn).await? {
        let mut chunk = vec![place];
        chunk.extend(std::iter::from_fn(|| source.pop()));
        let mut pushes: Vec<i64> = chunk.iter().map(|(_, id)| id.push.0).collect();
        pushes.sort_unstable();
        pushes.dedup();
        let sendable: Vec<i64> = sqlx::query_scalar(SENDABLE)
            .bind(pushes)
            .bind(now.0)
            .fetch_all(&mut *conn)
            .await?;
        let sendable: HashSet<i64> = sendable.into_iter().collect();
        if let Some(place) = chunk.into_iter().find(|(_, id)| sendable.contains(&id.push.0)) {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

async fn held(conn: &mut PgConnection) -> Result<HashSet<(i32, Route)>> {
    let held: Vec<(i32, i16)> = sqlx::query_as("SELECT app, route FROM holds WHERE reason IS NOT NULL")
        .fetch_all(conn)
        .await?;
    held.into_iter()
        .map(|(app, code)| Ok((app, rows::route(code)?)))
        .collect()
}
