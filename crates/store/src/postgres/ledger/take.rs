//! Takes pages.
//!
//! A push that this process has accepted a moment ago is leased already, and is here (`kept`). Any other page is taken by one statement that locks, compares and writes: a
//! free row gets a new epoch and a lease on the database's clock; a row that somebody is writing just now is passed over. Its targets are read after that has been committed, so what is read is at least as new as the lease. A lease whose taker goes away expires.
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
use super::kept::{self, KeptPush, Picked};
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

/// Pages that were leased just now.
#[derive(Default)]
struct Leased {
    own: Vec<OwnLease>,
    pages: Vec<Page>,
}

/// A push's own page, with all that is needed of it.
struct OwnLease {
    push: Push,
    own: OwnPage,
    stored: Vec<Stored>,
    body: Option<Vec<u8>>,
}

/// Takes pages of which some may have been picked from those that are kept.
pub(super) async fn take(
    shared: &Arc<Shared>,
    pages: &[PageId],
    picked: Picked,
    lease: Duration,
    now: Timestamp,
) -> Result<Vec<Taken>> {
    let ready: BTreeSet<PageId> = picked.ready.iter().map(KeptPush::id).collect();
    let others: Vec<PageId> = pages.iter().copied().filter(|page| !ready.contains(page)).collect();
    let taken = match kept::give_up(shared, picked.stale).await {
        Ok(()) => take_free(shared, &others, lease, now).await,
        Err(error) => Err(error),
    };
    match taken {
        Ok(taken) => Ok(in_order(
            pages,
            picked.ready.into_iter().map(|push| push.taken(now)).chain(taken),
        )),
        Err(error) => {
            // These are leased still, and nobody else could take them.
            shared.keep(picked.ready);
            Err(error)
        }
    }
}

/// As they were asked for.
fn in_order(pages: &[PageId], taken: impl Iterator<Item = Taken>) -> Vec<Taken> {
    let order: HashMap<PageId, usize> = pages.iter().enumerate().rev().map(|(at, page)| (*page, at)).collect();
    let mut taken: Vec<Taken> = taken.collect();
    taken.sort_unstable_by_key(|page| order.get(&page.id).copied());
    taken
}

async fn take_free(shared: &Arc<Shared>, pages: &[PageId], lease: Duration, now: Timestamp) -> Result<Vec<Taken>> {
    let names: BTreeSet<PageId> = pages.iter().copied().collect();
    let own = names.iter().filter(|page| page.leg.is_none()).map(|page| page.push.0);
    let wanted = Arc::new(Wanted {
        own: own.collect(),
        pages: Names::of(names.iter().copied()),
        lease,
        taker: random()?,
        tried: AtomicBool::new(false),
    });
    match lease_and_read(shared, &wanted, now).await {
        Ok(taken) => Ok(taken),
        Err(error) => {
            if wanted.tried.load(Ordering::Relaxed) {
                // Nobody was told: they need not wait for their leases to expire.
                let _ = shared.read(|conn| release(conn, Arc::clone(&wanted))).await;
            }
            Err(error)
        }
    }
}

async fn lease_and_read(shared: &Arc<Shared>, wanted: &Arc<Wanted>, now: Timestamp) -> Result<Vec<Taken>> {
    let leased = shared.read(|conn| lease(conn, Arc::clone(wanted))).await?;
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

async fn lease_own(conn: &mut PgConnection, wanted: &Wanted) -> Result<Vec<OwnLease>> {
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
            Ok(OwnLease {
                push,
                own,
                stored: stored.map_or_else(|| Ok(Vec::new()), |blob| decode(blob, "pushes.targets"))?,
                body: row.try_get(19)?,
            })
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
            SELECT p.id FROM (SELECT unnest($1::bigint[]) AS push, unnest($2::smallint[]) AS route, unnest($3::bigint[]) AS seq) AS w
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
                SELECT p.id, p.taker FROM (SELECT unnest($1::bigint[]) AS push, unnest($2::smallint[]) AS route, unnest($3::bigint[]) AS seq) AS w
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
