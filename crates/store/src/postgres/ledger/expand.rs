//! Reads on in the audiences of legs, and writes down what was read as pages.
//!
//! Walks are read by several statements, of which the first reads the cursors. Whatever changes in between, what is written down is right: an expansion changes
//! nothing unless the leg still is where the walk began, and two that began at the same place wait for each other on the leg's row, where the second finds
//! the cursor moved.

use std::collections::BTreeMap;
use std::sync::Arc;

use bugle_model::{AppId, DeviceKey, Flow, PageRef, PushKey, Route, Timestamp};
use sqlx::{PgConnection, Row};

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
    let rows = sqlx::query(
        "SELECT p.key, p.app, p.state, p.lane, p.providers, p.due, p.expires_at, p.ended_at IS NOT NULL, p.channels,
                l.route, l.cursor, coalesce(l.bound, (SELECT key FROM devices ORDER BY key DESC LIMIT 1), 0)
           FROM legs l JOIN pushes p ON p.key = l.push WHERE l.push = $1 AND l.route = ANY($2) AND NOT l.closed",
    )
    .bind(key.0)
    .bind(routes)
    .fetch_all(&mut *conn)
    .await?;
    let Some(push) = rows.first().map(Push::from_row).transpose()? else {
        return Ok(None);
    };
    if push.flow(false, now) != Flow::Running {
        return Ok(None);
    }
    let mut walks = Vec::with_capacity(rows.len());
    for row in &rows {
        let leg = route(row.try_get(9)?)?;
        if let Some((_, targets)) = legs.iter().find(|(route, _)| *route == leg) {
            let walk = Walk::begin(key, leg, row.try_get(10)?, row.try_get(11)?);
            walks.push((walk, walk::most(*targets)));
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
    let pushes = if walks.iter().any(|walk| walk.closed) {
        Push::lock_many(tx.conn(), &[first.push.0]).await?
    } else {
        Push::read_many(tx.conn(), &[first.push.0]).await?
    };
    let push = pushes.get(&first.push).map(|(push, _)| push);
    let Some(push) = push.filter(|push| push.flow(false, now) == Flow::Running) else {
        return Ok(answers);
    };
    let (mut books, mut new) = (Books::new(now), Vec::new());
    let moved = move_cursors(tx.conn(), first.push, walks).await?;
    for (walk, answer) in walks.iter().zip(&mut answers) {
        if let Some(first_seq) = moved.get(&i16::from(walk.route.code())) {
            new.extend((*first_seq..).zip(&walk.ranges).map(|(seq, range)| NewPage {
                range: Some((range.after, range.upto)),
                expected: u64::from(range.count),
                ..NewPage::of(push, walk.route, seq, now)
            }));
            if walk.closed {
                books.accounts.touch_leg(walk.push, walk.route);
            }
            *answer = Expansion::Done;
        }
    }
    insert_pages(tx, shared, push, new).await?;
    books.enter(tx, shared, &pushes).await?;
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

/// Moves each leg from where its walk began to where it got; returns the numbers of their first pages, by route. What is missing is not there any more.
async fn move_cursors(conn: &mut PgConnection, push: PushKey, walks: &[Walk]) -> Result<BTreeMap<i16, i64>> {
    // Legs are locked in the order of their keys.
    let mut walks: Vec<&Walk> = walks.iter().collect();
    walks.sort_unstable_by_key(|walk| walk.route.code());
    let of = |value: fn(&Walk) -> i64| walks.iter().map(|walk| value(walk)).collect::<Vec<_>>();
    let moved: Vec<(i16, i64)> = sqlx::query_as(
        "UPDATE legs l SET cursor = w.upto, bound = w.bound, closed = w.closed, next_seq = l.next_seq + w.pages,
                           targeted = l.targeted + w.targets, outstanding = l.outstanding + w.targets
           FROM (SELECT unnest($2::smallint[]) AS route, unnest($3::bigint[]) AS after, unnest($4::bigint[]) AS upto, unnest($5::bigint[]) AS bound,
                        unnest($6::boolean[]) AS closed, unnest($7::bigint[]) AS pages, unnest($8::bigint[]) AS targets) AS w
          WHERE l.push = $1 AND l.route = w.route AND NOT l.closed AND l.cursor = w.after AND coalesce(l.bound, w.bound) = w.bound
         RETURNING l.route, l.next_seq - w.pages",
    )
    .bind(push.0)
    .bind(walks.iter().map(|walk| i16::from(walk.route.code())).collect::<Vec<_>>())
    .bind(of(|walk| walk.from.0))
    .bind(of(|walk| walk.to.0))
    .bind(of(|walk| walk.bound.0))
    .bind(walks.iter().map(|walk| walk.closed).collect::<Vec<_>>())
    .bind(of(|walk| int(walk.ranges.len() as u64)))
    .bind(of(|walk| int(walk.count())))
    .fetch_all(conn)
    .await?;
    Ok(moved.into_iter().collect())
}
