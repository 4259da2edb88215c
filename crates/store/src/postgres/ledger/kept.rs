//! Pushes that this process has accepted and is about to send itself.
//!
//! Most pushes to few targets are sent by the process that accepts them, a moment later. Their rows are inserted with this process's lease, their targets are read
//! meanwhile, and what a taker needs of them is kept here: taking them asks the server nothing, so that such a push is written twice instead of three times, and goes
//! through no queue but this process's.
//!
//! Invariants: what is here is leased, by a taker's number that nobody else has, for longer than what it is kept for; it is taken at most once; there are at most
//! [`MOST`] pushes beside those that are being inserted. What is not taken in time, or called off, is given up: its lease ends, and it waits in the ledger like
//! any other. If the process dies, so do the leases, by their time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bugle_model::{AppId, PageId, PageRef, Progress, PushState, PushUid, Taken, Target, Timestamp};
use sqlx::PgConnection;

use crate::Result;
use crate::books::push;
use crate::postgres::shared::Shared;

/// So many pushes wait here to be taken. With more waiting, others had better help.
const MOST: usize = 256;
/// Bytes of targets and body: larger pushes are not kept.
const BYTES: usize = 8 << 10;
/// A push is taken from here this long after its acceptance at most. Later it is read anew: it may have been called off elsewhere.
const FRESH: Duration = Duration::from_secs(2);
/// Nobody asked for it in this time, so nobody will.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// A push that is kept: one that runs, at its first epoch, of which nothing has been sent.
pub(in crate::postgres) struct KeptPush {
    pub(super) page: PageRef,
    pub(super) uid: String,
    pub(super) expires_at: Timestamp,
    pub(super) body: Vec<u8>,
    pub(super) terms: Terms,
    /// Read since the push was asked for. `None` = they could not be.
    pub(super) targets: Option<Vec<Target>>,
}

impl KeptPush {
    pub(super) fn id(&self) -> PageId {
        self.page.id
    }

    /// Has a taker all that it needs, and the lease that it wants?
    fn is_ready(&self, lease: Duration) -> bool {
        self.targets.is_some() && self.terms.cover(lease)
    }

    pub(super) fn taken(self, now: Timestamp) -> Taken {
        Taken {
            id: self.page.id,
            epoch: 1,
            app: self.page.app,
            lane: self.page.lane,
            expires_at: self.expires_at,
            flow: push::flow(PushState::Running, self.expires_at, false, now),
            progress: Progress::default(),
            targets: self.targets.unwrap_or_default(),
            age: self.terms.since.elapsed(),
            body: Some(self.body),
        }
    }
}

/// Kept pushes that somebody wants to take.
#[derive(Default)]
pub(super) struct Picked {
    /// They can be taken as they are.
    pub(super) ready: Vec<KeptPush>,
    /// They have been kept for too long, or their targets could not be read: to be given up, and taken like others.
    pub(super) stale: Vec<KeptPush>,
}

/// Under what lease pushes that are accepted together are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Of the lease in the row.
    pub(super) lease: Duration,
    /// What the lease is found by.
    pub(super) taker: i64,
    /// Before the row was written.
    since: Instant,
}

impl Terms {
    /// For a process that takes pages for `lease`.
    pub(super) fn new(lease: Duration, taker: i64) -> Self {
        Self {
            lease: lease + FRESH,
            taker,
            since: Instant::now(),
        }
    }

    /// Does the lease last for another `lease`?
    fn cover(&self, lease: Duration) -> bool {
        self.since.elapsed() + lease <= self.lease
    }
}

/// The pushes that are kept.
#[derive(Default)]
pub(in crate::postgres) struct Kept {
    pushes: Mutex<HashMap<PageId, KeptPush>>,
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, HashMap<PageId, KeptPush>> {
        // What a panic could leave behind are leases, which expire.
        self.pushes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many more may be kept.
    pub(super) fn room(&self) -> usize {
        MOST.saturating_sub(self.lock().len())
    }

    /// May a push of this size be kept?
    pub(super) fn takes(bytes: usize) -> bool {
        bytes <= BYTES
    }

    /// Keeps pushes that have just become durable. Answers their references.
    pub(in crate::postgres) fn put(&self, pushes: Vec<KeptPush>) -> Vec<PageRef> {
        let mut kept = self.lock();
        let references = pushes.iter().map(|push| push.page.clone()).collect();
        kept.extend(pushes.into_iter().map(|push| (push.page.id, push)));
        references
    }

    /// Takes those of the pages that are kept, each once, to be worked for `lease`.
    pub(super) fn pick(&self, pages: &[PageId], lease: Duration) -> Picked {
        let mut kept = self.lock();
        let mut picked = Picked::default();
        for push in pages.iter().filter_map(|page| kept.remove(page)) {
            if push.is_ready(lease) {
                picked.ready.push(push);
            } else {
                picked.stale.push(push);
            }
        }
        picked
    }

    /// Takes a push that somebody wants to call off.
    pub(super) fn remove(&self, app: &AppId, uid: &PushUid) -> Vec<KeptPush> {
        self.remove_if(|push| push.uid == uid.as_str() && push.page.app == *app)
    }

    /// Takes those that nobody has asked for.
    pub(super) fn remove_forgotten(&self) -> Vec<KeptPush> {
        self.remove_if(|push| push.terms.since.elapsed() > FORGOTTEN)
    }

    /// Takes all.
    pub(super) fn drain(&self) -> Vec<KeptPush> {
        self.remove_if(|_| true)
    }

    fn remove_if(&self, mut which: impl FnMut(&KeptPush) -> bool) -> Vec<KeptPush> {
        let mut kept = self.lock();
        kept.extract_if(|_, push| which(push)).map(|(_, push)| push).collect()
    }
}

/// Ends the leases of pushes that were kept. They are free for everybody then.
///
/// After an error nobody knows whether they are: they are kept on, never to be taken without another try.
pub(super) async fn give_up(shared: &Shared, mut pushes: Vec<KeptPush>) -> Result<()> {
    if pushes.is_empty() {
        return Ok(());
    }
    let (keys, takers): (Vec<i64>, Vec<i64>) = pushes
        .iter()
        .map(|push| (push.page.id.push.0, push.terms.taker))
        .unzip();
    let released = shared.read(move |conn| {
        let (keys, takers) = (keys.clone(), takers.clone());
        Box::pin(async move { release(conn, keys, takers).await })
    });
    let released = released.await;
    if released.is_err() {
        for push in &mut pushes {
            push.terms.lease = Duration::ZERO;
        }
        shared.keep(pushes);
    }
    released
}

async fn release(conn: &mut PgConnection, keys: Vec<i64>, takers: Vec<i64>) -> Result<()> {
    sqlx::query(
        "WITH kept AS MATERIALIZED (
            SELECT p.key FROM (SELECT unnest($1::bigint[]) AS key, unnest($2::bigint[]) AS taker) AS w JOIN pushes p ON p.key = w.key
             WHERE p.taker = w.taker ORDER BY p.key FOR UPDATE OF p)
         UPDATE pushes p SET lease_until = NULL FROM kept WHERE p.key = kept.key",
    )
    .bind(keys)
    .bind(takers)
    .execute(conn)
    .await?;
    Ok(())
}
