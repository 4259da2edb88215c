//! Which pages wait.
//!
//! Both indexes of waiting pages begin with (lane, app, route): a route on hold is passed over by one seek, whatever waits behind it. Each other route is one
//! range of an index, read in chunks that go on where the last one ended; the ranges are merged by (due, push, route, number) in code. What is held in memory
//! is a chunk per route, whatever waits.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::sync::Arc;

use bugle_model::{AppId, Lane, PageId, PageRef, PushKey, Route, Timestamp};
use sqlx::PgConnection;

use super::rows::{self, own_page};
use crate::Result;
use crate::postgres::shared::Shared;

/// Every (app, route) that has a page in the lane: one seek each, whatever they have.
const ROUTES: &str = "WITH RECURSIVE found AS (
        (SELECT app, route FROM pages WHERE lane = $1 ORDER BY app, route LIMIT 1)
        UNION ALL
        SELECT next.app, next.route FROM found CROSS JOIN LATERAL
            (SELECT app, route FROM pages WHERE lane = $1 AND (app, route) > (found.app, found.route)
              ORDER BY app, route LIMIT 1) next)
    SELECT app, route FROM found";

/// The same of pushes' own pages.
const OWN_ROUTES: &str = "WITH RECURSIVE found AS (
        (SELECT app, route FROM pushes WHERE page_due IS NOT NULL AND lane = $1 ORDER BY app, route LIMIT 1)
        UNION ALL
        SELECT next.app, next.route FROM found CROSS JOIN LATERAL
            (SELECT app, route FROM pushes
              WHERE page_due IS NOT NULL AND lane = $1 AND (app, route) > (found.app, found.route)
              ORDER BY app, route LIMIT 1) next)
    SELECT app, route FROM found";

/// Free pages of one lane, app and route, from after a place on.
const WAITING: &str = "SELECT due, push, seq FROM pages
     WHERE lane = $1 AND app = $2 AND route = $3 AND due <= $4 AND (due, push, seq) > ($5, $6, $7)
       AND (lease_until IS NULL OR lease_until < clock_timestamp())
     ORDER BY due, push, seq LIMIT $8";

/// The same of pushes' own pages.
const OWN_WAITING: &str = "SELECT page_due, key, 0::bigint FROM pushes
     WHERE page_due IS NOT NULL AND lane = $1 AND app = $2 AND route = $3 AND page_due <= $4 AND (page_due, key) > ($5, $6)
       AND (lease_until IS NULL OR lease_until < clock_timestamp())
     ORDER BY page_due, key LIMIT $7";

/// Which of some pushes a probe may take pages of: not those that are scheduled for later, or no longer run.
const SENDABLE: &str =
    "SELECT key FROM pushes WHERE key = ANY($1) AND state = 'running' AND due <= $2 AND expires_at > $2";

/// Rows of one route that are read at once.
const CHUNK: std::ops::RangeInclusive<usize> = 16..=1_000;

/// Where pages wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Pages,
    Own,
}

/// Free pages of one lane, app and route that are due, in order, read in chunks.
struct Source {
    table: Table,
    lane: Lane,
    app: i32,
    route: Route,
    before: Timestamp,
    chunk: usize,
    /// Due, push, number: read and not visited.
    read: VecDeque<(i64, i64, i64)>,
    /// The last one that was read.
    last: (i64, i64, i64),
    exhausted: bool,
}

/// The place of a page in the order of all that wait: due, push, a push's own page first, route, number.
type Place = (i64, i64, bool, u8, i64);

impl Source {
    fn new(table: Table, lane: Lane, (app, route): (i32, Route), before: Timestamp, chunk: usize) -> Self {
        Self {
            table,
            lane,
            app,
            route,
            before,
            chunk,
            read: VecDeque::new(),
            last: (i64::MIN, i64::MIN, i64::MIN),
            exhausted: false,
        }
    }

    async fn next(&mut self, conn: &mut PgConnection) -> Result<Option<Place>> {
        if self.read.is_empty() && !self.exhausted {
            self.read_on(conn).await?;
        }
        let place = self.read.pop_front();
        Ok(place.map(|(due, push, seq)| (due, push, self.table == Table::Pages, self.route.code(), seq)))
    }

    async fn read_on(&mut self, conn: &mut PgConnection) -> Result<()> {
        let (due, push, seq) = self.last;
        let limit = i64::try_from(self.chunk).unwrap_or(i64::MAX);
        let statement = match self.table {
            Table::Pages => sqlx::query_as(WAITING),
            Table::Own => sqlx::query_as(OWN_WAITING),
        };
        let statement = statement
            .bind(i16::from(self.lane.code()))
            .bind(self.app)
            .bind(i16::from(self.route.code()))
            .bind(self.before.0)
            .bind(due)
            .bind(push);
        let found: Vec<(i64, i64, i64)> = match self.table {
            Table::Pages => statement.bind(seq).bind(limit),
            Table::Own => statement.bind(limit),
        }
        .fetch_all(conn)
        .await?;
        self.exhausted = found.len() < self.chunk;
        self.last = found.last().copied().unwrap_or(self.last);
        self.read = found.into();
        Ok(())
    }

    fn page(&self, place: Place) -> PageId {
        let push = PushKey(place.1);
        match self.table {
            Table::Own => own_page(push),
            Table::Pages => PageId {
                push,
                leg: Some(self.route),
                seq: place.4,
            },
        }
    }

    async fn reference(&self, conn: &mut PgConnection, shared: &Shared, place: Place) -> Result<PageRef> {
        Ok(PageRef {
            id: self.page(place),
            app: shared.apps.name(conn, self.app).await?,
            lane: self.lane,
            due: Timestamp(place.0),
        })
    }
}

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

fn chunk(limit: usize, sources: usize) -> usize {
    (limit / sources.max(1)).clamp(*CHUNK.start(), *CHUNK.end())
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
        while !source.read.is_empty() {
            chunk.extend(source.next(conn).await?);
        }
        let mut pushes: Vec<i64> = chunk.iter().map(|place| place.1).collect();
        pushes.sort_unstable();
        pushes.dedup();
        let sendable: Vec<i64> = sqlx::query_scalar(SENDABLE)
            .bind(pushes)
            .bind(now.0)
            .fetch_all(&mut *conn)
            .await?;
        let sendable: HashSet<i64> = sendable.into_iter().collect();
        if let Some(place) = chunk.into_iter().find(|place| sendable.contains(&place.1)) {
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

async fn routes(conn: &mut PgConnection, table: Table, lane: Lane) -> Result<Vec<(Table, (i32, Route))>> {
    let statement = match table {
        Table::Pages => sqlx::query_as(ROUTES),
        Table::Own => sqlx::query_as(OWN_ROUTES),
    };
    let found: Vec<(i32, i16)> = statement.bind(i16::from(lane.code())).fetch_all(conn).await?;
    found
        .into_iter()
        .map(|(app, code)| Ok((table, (app, rows::route(code)?))))
        .collect()
}
