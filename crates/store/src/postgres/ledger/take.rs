//! Takes pages.
//!
//! A push that this process has accepted itself a moment ago is leased already (`kept`). Any other page is taken by one statement that locks, compares and writes: a free row gets a new epoch and a lease on the database's clock; a row that somebody is writing
//! just now is passed over. Its targets are read after that has been committed, so what is read is at least as new as the lease. A lease whose taker goes away expires.
//!
//! Where the answer of that statement is lost nobody knows what it has leased. So each take writes a number of its own beside the lease: by it what was leased in vain
//! is found and given back, before the statement is tried again and when the take fails.

mod read;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bugle_model::{PageId, Taken, Timestamp};
use futures_util::future::BoxFuture;
use sqlx::{PgConnection, Row};

use super::extend::{Names, micros};
use super::kept::{self, KeptPush};
use super::rows::{OwnPage, Page, Push};
use crate::Result;
use crate::codec::targets::{Stored, decode};
use crate::postgres::shared::{Shared, random};

/// What is to be leased.
struct Wanted {
    /// Pushes whose own pages are wanted.
    own: Vec<i64>,
    pages: Names,
    lease: Duration,
    /// What the leases of this take are found by.
    taker: i64,
    /// It has been tried, so there may be leases.
    tried: AtomicBool,
}

impl Wanted {
    fn is_empty(&self) -> bool {
        self.own.is_empty() && self.pages.pushes.is_empty()
    }
}

/// Pages that were leased just now.
#[derive(Default)]
struct Leased {
    own: Vec<Arc<OwnLease>>,
    pages: Vec<Page>,
}

/// A push's own page, with all that is needed of it.
pub(super) struct OwnLease {
    pub(super) push: Push,
    pub(super) own: OwnPage,
    pub(super) stored: Vec<Stored>,
    pub(super) body: Option<Vec<u8>>,
}

pub(super) async fn take(
    shared: &Arc<Shared>,
    pages: &[PageId],
    lease: Duration,
    now: Timestamp,
) -> Result<Vec<Taken>> {
    let mut names: BTreeSet<PageId> = pages.iter().copied().collect();
    let (kept, stale) = shared.kept.take(&names, lease);
    if let Err(error) = kept::give_up(shared, stale).await {
        shared.keep(kept);
        return Err(error);
    }
    for push in &kept {
        names.remove(&push.page.id);
    }
    let own = names.iter().filter(|page| page.leg.is_none()).map(|page| page.push.0);
    let wanted = Arc::new(Wanted {
        own: own.collect(),
        pages: Names::of(names.iter().copied()),
        lease,
        taker: random()?,
        tried: AtomicBool::new(false),
    });
    match lease_and_read(shared, &wanted, &kept, now).await {
        Ok(mut taken) => {
            let order: HashMap<PageId, usize> = pages.iter().enumerate().rev().map(|(at, page)| (*page, at)).collect();
            taken.sort_unstable_by_key(|page| order.get(&page.id).copied());
            Ok(taken)
        }
        Err(error) => {
            if wanted.tried.load(Ordering::Relaxed) {
                // Nobody was told: they need not wait for their leases to expire.
                let _ = shared.read(|conn| release(conn, Arc::clone(&wanted))).await;
            }
            // These are leased still, and nobody else could take them.
            shared.keep(kept);
            Err(error)
        }
    }
}

async fn lease_and_read(
    shared: &Arc<Shared>,
    wanted: &Arc<Wanted>,
    kept: &[KeptPush],
    now: Timestamp,
) -> Result<Vec<Taken>> {
    let mut leased = Leased::default();
    if !wanted.is_empty() {
        leased = shared.read(|conn| lease(conn, Arc::clone(wanted))).await?;
    }
    leased.own.extend(kept.iter().map(|push| Arc::clone(&push.lease)));
    read::read(shared, &Arc::new(leased), now).await
}

/// Leases what is free.
fn lease(conn: &mut PgConnection, wanted: Arc<Wanted>) -> BoxFuture<'_, Result<Leased>> {
    Box::pin(async move {
        if wanted.tried.swap(true, Ordering::Relaxed) {
            release(conn, Arc::clone(&wanted)).await?;
        }
        Ok(Leased {
            own: lease_own(conn, &wanted).await?,
            pages: lease_pages(conn, &wanted).await?,
        })
    })
}

async fn lease_own(conn: &mut PgConnection, wanted: &Wanted) -> Result<Vec<Arc<OwnLease>>> {
    if wanted.own.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "WITH free AS MATERIALIZED (
            SELECT key FROM pushes
             WHERE key = ANY($1) AND page_due IS NOT NULL AND (lease_until IS NULL OR lease_until < clock_timestamp())
             ORDER BY key FOR UPDATE SKIP LOCKED)
         UPDATE pushes p SET epoch = p.epoch + 1, lease_until = clock_timestamp() + $2 * interval '1 microsecond', taker = $3
           FROM free WHERE p.key = free.key
         RETURNING p.key, p.app, p.state, p.lane, p.providers, p.due, p.expires_at, p.ended_at IS NOT NULL, p.channels,
                   p.page_due, p.route, p.expected, p.answered, p.payload, p.progress, p.epoch, true, false, p.targets, p.body",
    )
    .bind(&wanted.own)
    .bind(micros(wanted.lease))
    .bind(wanted.taker)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let (_, (push, own)) = Push::with_own_page(row)?;
            let stored: Option<&[u8]> = row.try_get(18)?;
            Ok(Arc::new(OwnLease {
                push,
                own,
                stored: stored.map_or_else(|| Ok(Vec::new()), |blob| decode(blob, "pushes.targets"))?,
                body: row.try_get(19)?,
            }))
        })
        .collect()
}

async fn lease_pages(conn: &mut PgConnection, wanted: &Wanted) -> Result<Vec<Page>> {
    let names = &wanted.pages;
    if names.pushes.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "WITH free AS MATERIALIZED (
            SELECT p.id FROM unnest($1::bigint[], $2::smallint[], $3::bigint[]) AS w(push, route, seq)
              JOIN pages p ON p.push = w.push AND p.route = w.route AND p.seq = w.seq
             WHERE p.lease_until IS NULL OR p.lease_until < clock_timestamp()
             ORDER BY p.id FOR UPDATE OF p SKIP LOCKED)
         UPDATE pages p SET epoch = p.epoch + 1, lease_until = clock_timestamp() + $4 * interval '1 microsecond', taker = $5
           FROM free WHERE p.id = free.id
         RETURNING p.id, p.push, p.route, p.seq, p.expected, p.after_key, p.upto_key, p.progress, p.epoch",
    )
    .bind(&names.pushes)
    .bind(&names.routes)
    .bind(&names.seqs)
    .bind(micros(wanted.lease))
    .bind(wanted.taker)
    .fetch_all(conn)
    .await?;
    rows.iter().map(Page::from_row).collect()
}

/// Ends the leases that this take has got. Waits for its own statement, should the server still be at it: the rows are looked at when they are locked.
fn release(conn: &mut PgConnection, wanted: Arc<Wanted>) -> BoxFuture<'_, Result<()>> {
    Box::pin(async move {
        sqlx::query(
            "WITH asked AS MATERIALIZED (SELECT key, taker FROM pushes WHERE key = ANY($1) ORDER BY key FOR UPDATE)
             UPDATE pushes p SET lease_until = NULL FROM asked WHERE p.key = asked.key AND asked.taker = $2",
        )
        .bind(&wanted.own)
        .bind(wanted.taker)
        .execute(&mut *conn)
        .await?;
        sqlx::query(
            "WITH asked AS MATERIALIZED (
                SELECT p.id, p.taker FROM unnest($1::bigint[], $2::smallint[], $3::bigint[]) AS w(push, route, seq)
                  JOIN pages p ON p.push = w.push AND p.route = w.route AND p.seq = w.seq
                 ORDER BY p.id FOR UPDATE OF p)
             UPDATE pages p SET lease_until = NULL FROM asked WHERE p.id = asked.id AND asked.taker = $4",
        )
        .bind(&wanted.pages.pushes)
        .bind(&wanted.pages.routes)
        .bind(&wanted.pages.seqs)
        .bind(wanted.taker)
        .execute(conn)
        .await?;
        Ok(())
    })
}
