//! Finds what nobody sends: pushes that were called off or have expired, and legs that no provider accepts; `ending` ends their free pages.
//!
//! What is in somebody's hands is left to its holder, and what another process has locked, to that. Every transaction locks its pushes, then all their legs, then
//! pages: at most 500 of those.

use std::sync::Arc;

use bugle_model::{AppId, PushKey, PushState, PushUid, Timestamp};

use super::ending::{Done, Step};
use super::rows::{self, Page, Push};
use crate::Result;
use crate::books::MAX_STEP;
use crate::books::ending::{Bucket, EXPIRING};
use crate::ledger::Swept;
use crate::postgres::shared::{Shared, Tx};

/// So many pushes are looked at in one transaction.
const PUSHES: usize = EXPIRING as usize;

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
            step.turn(tx.conn(), &[key.0], PushState::Cancelled).await?;
        }
        PushState::Cancelled if !push.ended => drop(step.lock_legs(tx.conn(), &[key.0]).await?),
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
