//! Ends what nobody sends: pushes that were called off or have expired, and legs that no provider accepts.
//!
//! Free pages end by what they expected and had not counted, left-overs included; they are locked first, so that nobody takes a page that is just being settled.
//! What is in somebody's hands is left to its holder, and what another process has locked, to that. Every transaction locks its pushes, then all their legs, then
//! pages: at most 500 of those.

use std::sync::Arc;

use bugle_model::{AppId, Counts, Progress, PushKey, PushState, PushUid, Route, Timestamp};
use sqlx::PgConnection;

use super::rows::{self, OwnPage, Page, Push, Pushes};
use super::settle::Books;
use super::{MAX_STEP, targets};
use crate::Result;
use crate::ledger::Swept;
use crate::postgres::shared::{Shared, Tx};

/// So many pushes expire in one step, and are looked at in one transaction.
const PUSHES: usize = 100;

/// What targets end as that are not sent to.
#[derive(Clone, Copy)]
enum Bucket {
    Cancelled,
    Expired,
    Failed,
}

impl Bucket {
    fn of(state: PushState) -> Self {
        match state {
            PushState::Cancelled => Self::Cancelled,
            _ => Self::Expired,
        }
    }

    fn add(self, counts: &mut Counts, targets: u64) {
        match self {
            Self::Cancelled => counts.cancelled += targets,
            Self::Expired => counts.expired += targets,
            Self::Failed => counts.failed += targets,
        }
    }
}

/// A transaction of a sweep: its books, and how much more it may do.
struct Step {
    books: Books,
    room: u64,
    pages: u64,
}

/// What a transaction of a sweep did.
#[derive(Default)]
struct Done {
    pages: u64,
    pushes: u64,
    /// Room that is left; 0 = there may be more.
    room: u64,
}

impl Step {
    fn new(now: Timestamp, room: u64) -> Self {
        Self {
            books: Books::new(now),
            room,
            pages: 0,
        }
    }

    /// Locks the legs of these pushes; all may end by what is done.
    async fn lock_legs(&mut self, conn: &mut PgConnection, pushes: &[i64]) -> Result<()> {
        let legs: Vec<(i64, i16)> = sqlx::query_as(
            "SELECT push, route FROM legs WHERE push = ANY($1) AND ended_at IS NULL ORDER BY push, route FOR UPDATE",
        )
        .bind(pushes)
        .fetch_all(conn)
        .await?;
        for (push, leg) in legs {
            self.books.touch_leg(PushKey(push), rows::route(leg)?);
        }
        for push in pushes {
            self.books.touch_push(PushKey(*push));
        }
        Ok(())
    }

    /// Puts pushes that are locked, with their legs, into a state in which they run no more.
    async fn turn(&mut self, conn: &mut PgConnection, pushes: &[i64], state: PushState) -> Result<()> {
        sqlx::query("UPDATE pushes SET state = $2 WHERE key = ANY($1)")
            .bind(pushes)
            .bind(state.as_str())
            .execute(&mut *conn)
            .await?;
        sqlx::query("UPDATE legs SET closed = true WHERE push = ANY($1) AND NOT closed")
            .bind(pushes)
            .execute(conn)
            .await?;
        Ok(())
    }

    /// Ends free pages of pushes that are locked, with their legs.
    async fn pushes(&mut self, conn: &mut PgConnection, pushes: &Pushes) -> Result<()> {
        for (push, own) in pushes.values() {
            if self.room > 0 && own.due.is_some() && own.free {
                self.own_page(conn, push, own).await?;
            }
        }
        if self.room == 0 {
            return Ok(());
        }
        let keys: Vec<i64> = pushes.keys().map(|key| key.0).collect();
        let free = sqlx::query(
            "SELECT id, push, route, seq, expected, after_key, upto_key, progress, epoch FROM pages
              WHERE push = ANY($1) AND (lease_until IS NULL OR lease_until < clock_timestamp())
              ORDER BY push, route, seq LIMIT $2 FOR UPDATE SKIP LOCKED",
        )
        .bind(&keys)
        .bind(rows::int(self.room))
        .fetch_all(&mut *conn)
        .await?;
        let free: Vec<Page> = free.iter().map(Page::from_row).collect::<Result<_>>()?;
        let bucket = |page: &Page| {
            let push = pushes.get(&page.id.push);
            push.map_or(Bucket::Expired, |(push, _)| Bucket::of(push.state))
        };
        self.settle(free, bucket);
        Ok(())
    }

    fn settle(&mut self, free: Vec<Page>, bucket: impl Fn(&Page) -> Bucket) {
        for page in free {
            let mut ended = page.progress.clone();
            let rest = page.targeted() - ended.ended();
            bucket(&page).add(ended.counts_mut(page.leg), rest);
            self.books.settle_page(&page, &ended.counts, &[], None);
            self.room = self.room.saturating_sub(1);
            self.pages += 1;
        }
    }

    async fn own_page(&mut self, conn: &mut PgConnection, push: &Push, own: &OwnPage) -> Result<()> {
        let mut ended = Progress {
            counts: own.progress.counts.clone(),
            ..Progress::default()
        };
        for (route, targets) in waiting_by_route(conn, push, own).await? {
            Bucket::of(push.state).add(ended.counts_mut(route), targets);
        }
        self.books.settle_own_page(push, own, ended.counts, &[], &[]);
        self.pages += 1;
        // Its targets had to be looked up.
        self.room = self.room.saturating_sub(1 + own.expected / 10);
        Ok(())
    }

    async fn finish(self, tx: &mut Tx, shared: &Shared) -> Result<Done> {
        Ok(Done {
            pages: self.pages,
            room: self.room,
            pushes: self.books.close(tx, shared).await?,
        })
    }
}

/// The targets of an unsettled own page that have not ended, by the route that they would go over now.
pub(super) async fn waiting_by_route(
    conn: &mut PgConnection,
    push: &Push,
    own: &OwnPage,
) -> Result<Vec<(Route, u64)>> {
    let mut waiting: Vec<(Route, u64)> = Vec::new();
    let mut add = |route: Route, targets: u64| match waiting.iter_mut().find(|(r, _)| *r == route) {
        Some((_, sum)) => *sum += targets,
        None => waiting.push((route, targets)),
    };
    let targets = targets::of_own_page(conn, push, own).await?;
    let left_over = own.progress.left_over.iter().map(|left| left.route);
    for route in targets.iter().map(|target| target.route).chain(left_over) {
        add(route, 1);
    }
    let found = (targets.len() + own.progress.left_over.len()) as u64;
    // Every target is open, left over, above the position, or counted. Should one be none of it, it still waits.
    let missing = (own.targeted() - own.progress.ended()).saturating_sub(found);
    if missing > 0 {
        add(own.route, missing);
    }
    Ok(waiting)
}

/// Marks a push as called off, and ends its free pages step by step. `false` = unknown.
pub(super) async fn cancel(shared: &Arc<Shared>, app: &AppId, uid: &PushUid, now: Timestamp) -> Result<bool> {
    let mut known = false;
    loop {
        let context = (Arc::clone(shared), app.clone(), uid.clone());
        let step = shared.write(move |tx| {
            let (shared, app, uid) = context.clone();
            Box::pin(async move {
                match shared.apps.find(tx.conn(), &app).await? {
                    Some(app) => cancel_step(tx, &shared, app, uid.as_str(), now).await,
                    None => Ok(None),
                }
            })
        });
        match step.await? {
            None => return Ok(known),
            Some(false) => return Ok(true),
            Some(true) => known = true,
        }
    }
}

/// `None` = unknown, else whether there is more to end.
async fn cancel_step(tx: &mut Tx, shared: &Shared, app: i32, uid: &str, now: Timestamp) -> Result<Option<bool>> {
    let Some(key) = rows::push_key(tx.conn(), app, uid).await? else {
        return Ok(None);
    };
    let mut pushes = Push::lock_many(tx.conn(), &[key.0]).await?;
    let Some((push, _)) = pushes.get_mut(&key) else {
        return Ok(None);
    };
    let mut step = Step::new(now, u64::from(MAX_STEP));
    match push.state {
        PushState::Running | PushState::Paused => {
            push.state = PushState::Cancelled;
            step.lock_legs(tx.conn(), &[key.0]).await?;
            step.turn(tx.conn(), &[key.0], PushState::Cancelled).await?;
        }
        PushState::Cancelled if !push.ended => step.lock_legs(tx.conn(), &[key.0]).await?,
        _ => return Ok(Some(false)),
    }
    step.pushes(tx.conn(), &pushes).await?;
    let done = step.finish(tx, shared).await?;
    Ok(Some(done.room == 0))
}

/// One bounded step over everything, in as many transactions as there are kinds and hundreds of pushes.
pub(super) async fn sweep(shared: &Arc<Shared>, now: Timestamp) -> Result<Swept> {
    let (expired, ended) = expire(shared, now).await?;
    let mut swept = Swept {
        pages: 0,
        pushes: ended,
        more: expired == PUSHES,
    };
    let mut room = u64::from(MAX_STEP);
    let mut after = Some(0);
    while let Some(from) = after
        && room > 0
    {
        let done;
        (done, after) = end_closing(shared, from, room, now).await?;
        room = swept.add(&done);
    }
    let mut after = (0, -1);
    while room > 0
        && let Some(leg) = next_rejected(shared, after).await?
    {
        let done = end_rejected(shared, leg, room, now).await?;
        room = swept.add(&done);
        after = leg;
    }
    swept.more |= room == 0;
    Ok(swept)
}

impl Swept {
    /// Answers the room that is left.
    fn add(&mut self, done: &Done) -> u64 {
        self.pages += done.pages;
        self.pushes += done.pushes;
        done.room
    }
}

/// Pushes whose time is over run no more. Answers how many those were, and how many of them ended, having no page.
async fn expire(shared: &Arc<Shared>, now: Timestamp) -> Result<(usize, u64)> {
    let context = Arc::clone(shared);
    shared
        .write(move |tx| {
            let shared = Arc::clone(&context);
            Box::pin(async move {
                let keys: Vec<i64> = sqlx::query_scalar(
                    "SELECT key FROM pushes WHERE ended_at IS NULL AND state IN ('running', 'paused') AND expires_at <= $1
                      ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED",
                )
                .bind(now.0)
                .fetch_all(tx.conn())
                .await?;
                if keys.is_empty() {
                    return Ok((0, 0));
                }
                let mut step = Step::new(now, 0);
                step.lock_legs(tx.conn(), &keys).await?;
                step.turn(tx.conn(), &keys, PushState::Expired).await?;
                let done = step.finish(tx, &shared).await?;
                Ok((keys.len(), done.pushes))
            })
        })
        .await
}

/// Ends free pages of pushes that run no more, from after a key on; answers where to go on, too.
async fn end_closing(shared: &Arc<Shared>, after: i64, room: u64, now: Timestamp) -> Result<(Done, Option<i64>)> {
    let context = Arc::clone(shared);
    shared
        .write(move |tx| {
            let shared = Arc::clone(&context);
            Box::pin(async move {
                let keys: Vec<i64> = sqlx::query_scalar(
                    "SELECT key FROM pushes WHERE ended_at IS NULL AND state IN ('cancelled', 'expired') AND key > $1
                      ORDER BY key LIMIT 100 FOR UPDATE SKIP LOCKED",
                )
                .bind(after)
                .fetch_all(tx.conn())
                .await?;
                let mut step = Step::new(now, room);
                if !keys.is_empty() {
                    let pushes = Push::read_many(tx.conn(), &keys).await?;
                    step.lock_legs(tx.conn(), &keys).await?;
                    step.pushes(tx.conn(), &pushes).await?;
                }
                let next = keys.get(PUSHES - 1).copied();
                Ok((step.finish(tx, &shared).await?, next))
            })
        })
        .await
}

async fn next_rejected(shared: &Shared, after: (i64, i16)) -> Result<Option<(i64, i16)>> {
    shared
        .read(move |conn| {
            Box::pin(async move {
                let next = sqlx::query_as(
                    "SELECT push, route FROM legs WHERE rejected AND ended_at IS NULL AND (push, route) > ($1, $2)
                      ORDER BY push, route LIMIT 1",
                )
                .bind(after.0)
                .bind(after.1)
                .fetch_optional(conn)
                .await?;
                Ok(next)
            })
        })
        .await
}

/// Ends free pages of a leg that no provider accepts.
async fn end_rejected(shared: &Arc<Shared>, (push, leg): (i64, i16), room: u64, now: Timestamp) -> Result<Done> {
    let context = Arc::clone(shared);
    shared
        .write(move |tx| {
            let shared = Arc::clone(&context);
            Box::pin(async move {
                let mut step = Step::new(now, room);
                if Push::lock(tx.conn(), PushKey(push)).await?.is_some() {
                    step.lock_legs(tx.conn(), &[push]).await?;
                    let code = rows::route(leg)?.code();
                    let free = Page::lock_free(tx.conn(), PushKey(push), code..=code, room).await?;
                    step.settle(free, |_| Bucket::Failed);
                }
                step.finish(tx, &shared).await
            })
        })
        .await
}
