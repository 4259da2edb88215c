//! Reads on in the audiences of legs, and writes down what was read as pages.
//!
//! Walks are read by several statements, of which the first reads the cursors. Whatever changes in between, what is written down is right: an expansion changes
//! nothing unless the leg still is where the walk began, and two that began at the same place wait for each other on the leg's row, where the second finds
//! the cursor moved.

use std::sync::Arc;

use bugle_model::{AppId, DeviceKey, Flow, PageRef, PushKey, Route, Timestamp};
use sqlx::PgConnection;

use super::audience::Audience;
use super::pages::{self, NewPage};
use super::ranges;
use super::replica;
use super::rows::{Push, count, int, route};
use super::settle::Books;
use crate::Result;
use crate::books::walk;
use crate::ledger::{Expansion, OpenLeg, Walk};
use crate::postgres::shared::{Shared, Tx};

/// Keys that are merged at once.
const STRIDE: usize = 16_384;

pub(super) async fn open_legs(shared: &Arc<Shared>, now: Timestamp, limit: u32) -> Result<Vec<OpenLeg>> {
    let context = Arc::clone(shared);
    shared
        .read(move |conn| {
            let shared = Arc::clone(&context);
            Box::pin(async move { read_open_legs(conn, &shared, now, limit).await })
        })
        .await
}

async fn read_open_legs(conn: &mut PgConnection, shared: &Shared, now: Timestamp, limit: u32) -> Result<Vec<OpenLeg>> {
    let rows: Vec<(i64, i16, i32, i64)> = sqlx::query_as(
        "SELECT l.push, l.route, l.app, l.outstanding FROM legs l JOIN pushes p ON p.key = l.push
          WHERE NOT l.closed AND l.due <= $1 AND p.expires_at > $1 AND p.state = 'running'
          ORDER BY l.due, l.push, l.route LIMIT $2",
    )
    .bind(now.0)
    .bind(i64::from(limit))
    .fetch_all(&mut *conn)
    .await?;
    let mut legs = Vec::with_capacity(rows.len());
    for (push, code, app, outstanding) in rows {
        legs.push(OpenLeg {
            push: PushKey(push),
            route: route(code)?,
            app: shared.apps.name(conn, app).await?,
            outstanding: count(outstanding),
        });
    }
    Ok(legs)
}

pub(super) async fn outstanding(shared: &Arc<Shared>) -> Result<Vec<(AppId, Route, u64)>> {
    let context = Arc::clone(shared);
    shared
        .read(move |conn| {
            let shared = Arc::clone(&context);
            Box::pin(async move { read_outstanding(conn, &shared).await })
        })
        .await
}

async fn read_outstanding(conn: &mut PgConnection, shared: &Shared) -> Result<Vec<(AppId, Route, u64)>> {
    let rows: Vec<(i32, i16, i64)> = sqlx::query_as(
        "SELECT app, route, sum(outstanding)::bigint FROM legs WHERE outstanding > 0 GROUP BY app, route ORDER BY app, route",
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut sums = Vec::with_capacity(rows.len());
    for (app, code, sum) in rows {
        sums.push((shared.apps.name(conn, app).await?, route(code)?, count(sum)));
    }
    Ok(sums)
}

/// What walks are read by: the push, the walks as they begin and of how many devices each, and what a replica must know for them.
struct Start {
    push: Push,
    walks: Vec<(Walk, u32)>,
    places: Option<Vec<String>>,
}

pub(super) async fn walk(
    shared: &Arc<Shared>,
    key: PushKey,
    legs: Vec<(Route, u32)>,
    now: Timestamp,
) -> Result<Vec<Walk>> {
    let (context, legs) = (Arc::clone(shared), Arc::new(legs));
    let start = shared
        .read(move |conn| {
            let (shared, legs) = (Arc::clone(&context), Arc::clone(&legs));
            Box::pin(async move { start(conn, &shared, key, &legs, now).await })
        })
        .await?;
    let Some(mut start) = start else {
        return Ok(Vec::new());
    };
    let places = start.places.take();
    let start = Arc::new(start);
    let read = replica::read(shared, places, move |conn| {
        let start = Arc::clone(&start);
        Box::pin(async move { read_walks(conn, &start).await })
    });
    read.await
}

async fn start(
    conn: &mut PgConnection,
    shared: &Shared,
    key: PushKey,
    legs: &[(Route, u32)],
    now: Timestamp,
) -> Result<Option<Start>> {
    let routes: Vec<i16> = legs.iter().map(|(route, _)| i16::from(route.code())).collect();
    let read: Vec<(i16, i64, i64)> = sqlx::query_as(
        "SELECT route, cursor, coalesce(bound, (SELECT key FROM devices ORDER BY key DESC LIMIT 1), 0)
           FROM legs WHERE push = $1 AND route = ANY($2) AND NOT closed",
    )
    .bind(key.0)
    .bind(routes)
    .fetch_all(&mut *conn)
    .await?;
    let Some(push) = Push::read(conn, key).await? else {
        return Ok(None);
    };
    if read.is_empty() || push.flow(false, now) != Flow::Running {
        return Ok(None);
    }
    let mut walks = Vec::with_capacity(read.len());
    for (route, targets) in legs {
        let leg = read.iter().find(|(code, ..)| *code == i16::from(route.code()));
        if let Some((_, cursor, bound)) = leg {
            walks.push((Walk::begin(key, *route, *cursor, *bound), walk::most(*targets)));
        }
    }
    let places = replica::places(shared, conn, &[key]).await?;
    Ok(Some(Start { push, walks, places }))
}

async fn read_walks(conn: &mut PgConnection, start: &Start) -> Result<Vec<Walk>> {
    let mut walks = start.walks.clone();
    if let Some([channel]) = start.push.channels.as_deref() {
        ranges::read(conn, (start.push.app, channel), &mut walks).await?;
    } else {
        for (walk, most) in &mut walks {
            merge_ranges(conn, &start.push, walk, *most).await?;
        }
    }
    Ok(walks.into_iter().map(|(walk, _)| walk).collect())
}

async fn merge_ranges(conn: &mut PgConnection, push: &Push, walk: &mut Walk, most: u32) -> Result<()> {
    let audience = Audience {
        app: push.app,
        channels: push.channels.as_deref().unwrap_or_default(),
        route: walk.route,
    };
    let mut left = usize::try_from(most).unwrap_or(usize::MAX);
    let mut keys = audience.keys((walk.from, walk.bound), left);
    let mut last = walk.from;
    loop {
        // One more than there is room for: the audience goes on behind it.
        let next = keys.next(conn, STRIDE.min(left + 1)).await?;
        if next.is_empty() {
            return Ok(());
        }
        for key in next {
            if left == 0 {
                walk.stop(last);
                return Ok(());
            }
            walk.append(last, DeviceKey(key));
            (last, left) = (DeviceKey(key), left - 1);
        }
    }
}

pub(super) async fn expand(shared: &Arc<Shared>, walks: Vec<Walk>, now: Timestamp) -> Result<Vec<Expansion>> {
    let (context, walks) = (Arc::clone(shared), Arc::new(walks));
    shared
        .write(move |tx| {
            let (shared, walks) = (Arc::clone(&context), Arc::clone(&walks));
            Box::pin(async move { write(tx, &shared, &walks, now).await })
        })
        .await
}

async fn write(tx: &mut Tx, shared: &Shared, walks: &[Walk], now: Timestamp) -> Result<Vec<Expansion>> {
    let mut answers = vec![Expansion::Stale; walks.len()];
    let Some(first) = walks.first() else {
        return Ok(answers);
    };
    // A leg that closes may end, and with it the push: that is locked first. Otherwise the legs' rows are enough: who calls the push off closes its legs.
    let push = if walks.iter().any(|walk| walk.closed) {
        Push::lock(tx.conn(), first.push).await?.map(|(push, _)| push)
    } else {
        Push::read(tx.conn(), first.push).await?
    };
    let Some(push) = push.filter(|push| push.flow(false, now) == Flow::Running) else {
        return Ok(answers);
    };
    let (mut books, mut new) = (Books::new(now), Vec::new());
    for (walk, answer) in walks.iter().zip(&mut answers) {
        if let Some(first_seq) = move_cursor(tx.conn(), walk).await? {
            new.extend((first_seq..).zip(&walk.ranges).map(|(seq, range)| NewPage {
                range: Some((range.after, range.upto)),
                expected: u64::from(range.count),
                ..NewPage::of(&push, walk.route, seq, now)
            }));
            if walk.closed {
                books.accounts.touch_leg(walk.push, walk.route);
            }
            *answer = Expansion::Done;
        }
    }
    insert_pages(tx, shared, &push, new).await?;
    books.close(tx, shared).await?;
    Ok(answers)
}

async fn insert_pages(tx: &mut Tx, shared: &Shared, push: &Push, new: Vec<NewPage>) -> Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    pages::insert(tx.conn(), &new).await?;
    let app = shared.apps.name(tx.conn(), push.app).await?;
    for page in new {
        tx.hand_over(PageRef {
            id: page.id,
            app: app.clone(),
            lane: push.lane,
            due: page.due,
        });
    }
    Ok(())
}

/// Moves the leg from where the walk began to where it got; returns the number of its first page. `None` = it is not there any more.
async fn move_cursor(conn: &mut PgConnection, walk: &Walk) -> Result<Option<i64>> {
    let first_seq = sqlx::query_scalar(
        "UPDATE legs SET cursor = $1, bound = $2, closed = $3, next_seq = next_seq + $4,
                         targeted = targeted + $5, outstanding = outstanding + $5
          WHERE push = $6 AND route = $7 AND NOT closed AND cursor = $8 AND coalesce(bound, $2) = $2
         RETURNING next_seq - $4",
    )
    .bind(walk.to.0)
    .bind(walk.bound.0)
    .bind(walk.closed)
    .bind(int(walk.ranges.len() as u64))
    .bind(int(walk.count()))
    .bind(walk.push.0)
    .bind(i16::from(walk.route.code()))
    .bind(walk.from.0)
    .fetch_optional(conn)
    .await?;
    Ok(first_seq)
}
