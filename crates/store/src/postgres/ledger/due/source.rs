//! The pages of one lane, app and route that are due: a range of an index, read in chunks.

use std::collections::VecDeque;

use bugle_model::{Lane, PageId, PageRef, PushKey, Route, Timestamp};
use sqlx::PgConnection;

use crate::Result;
use crate::books::page::{Place, own_page};
use crate::postgres::ledger::rows;
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

/// Rows of one route that are read at once.
pub(super) const CHUNK: std::ops::RangeInclusive<usize> = 16..=1_000;

pub(super) fn chunk(limit: usize, sources: usize) -> usize {
    (limit / sources.max(1)).clamp(*CHUNK.start(), *CHUNK.end())
}

/// Where pages wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Pages,
    Own,
}

/// Free pages of one lane, app and route that are due, in order, read in chunks.
pub(super) struct Source {
    table: Table,
    pub(super) lane: Lane,
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

impl Source {
    pub(super) fn new(table: Table, lane: Lane, (app, route): (i32, Route), before: Timestamp, chunk: usize) -> Self {
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

    pub(super) async fn next(&mut self, conn: &mut PgConnection) -> Result<Option<Place>> {
        if self.read.is_empty() && !self.exhausted {
            self.read_on(conn).await?;
        }
        Ok(self.pop())
    }

    /// The next one of those that were read.
    pub(super) fn pop(&mut self) -> Option<Place> {
        let (due, push, seq) = self.read.pop_front()?;
        let push = PushKey(push);
        let id = match self.table {
            Table::Own => own_page(push),
            Table::Pages => PageId {
                push,
                leg: Some(self.route),
                seq,
            },
        };
        Some((Timestamp(due), id))
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

    pub(super) async fn reference(
        &self,
        conn: &mut PgConnection,
        shared: &Shared,
        (due, id): Place,
    ) -> Result<PageRef> {
        Ok(PageRef {
            id,
            app: shared.apps.name(conn, self.app).await?,
            lane: self.lane,
            due,
        })
    }
}

pub(super) async fn routes(conn: &mut PgConnection, table: Table, lane: Lane) -> Result<Vec<(Table, (i32, Route))>> {
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
