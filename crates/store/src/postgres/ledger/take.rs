//! Takes pages.
//!
//! A page is taken by one statement that locks, compares and writes: a free row gets a new epoch and a lease on the database's clock; a row that somebody is writing
//! just now is passed over. Its targets are read after that has been committed, so what is read is at least as new as the lease. A lease whose taker goes away expires.

mod read;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bugle_model::{PageId, Taken, Timestamp};
use sqlx::{PgConnection, Row};

use super::extend::{Names, micros};
use super::rows::{OwnPage, Page, Push, int};
use crate::Result;
use crate::codec::targets::{Stored, decode};
use crate::postgres::shared::Shared;

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

fn own_keys(pages: &[PageId]) -> Vec<i64> {
    let keys: BTreeSet<i64> = pages
        .iter()
        .filter(|page| page.leg.is_none())
        .map(|page| page.push.0)
        .collect();
    keys.into_iter().collect()
}

pub(super) async fn take(
    shared: &Arc<Shared>,
    pages: &[PageId],
    lease: Duration,
    now: Timestamp,
) -> Result<Vec<Taken>> {
    let own = own_keys(pages);
    let names: BTreeSet<PageId> = pages.iter().copied().collect();
    let leased = shared
        .read(move |conn| {
            let (own, names) = (own.clone(), Names::of(names.iter().copied()));
            Box::pin(async move {
                Ok(Leased {
                    own: lease_own(conn, &own, lease).await?,
                    pages: lease_pages(conn, &names, lease).await?,
                })
            })
        })
        .await?;
    let leased = Arc::new(leased);
    match read::read(shared, &leased, now).await {
        Ok(mut taken) => {
            let order: HashMap<PageId, usize> = pages.iter().enumerate().rev().map(|(at, page)| (*page, at)).collect();
            taken.sort_unstable_by_key(|page| order.get(&page.id).copied());
            Ok(taken)
        }
        Err(error) => {
            // Nobody was told: they need not wait for their leases to expire.
            let _ = release(shared, &leased).await;
            Err(error)
        }
    }
}

async fn lease_own(conn: &mut PgConnection, keys: &[i64], lease: Duration) -> Result<Vec<OwnLease>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "WITH free AS MATERIALIZED (
            SELECT key FROM pushes
             WHERE key = ANY($1) AND page_due IS NOT NULL AND (lease_until IS NULL OR lease_until < clock_timestamp())
             ORDER BY key FOR UPDATE SKIP LOCKED)
         UPDATE pushes p SET epoch = p.epoch + 1, lease_until = clock_timestamp() + $2 * interval '1 microsecond'
           FROM free WHERE p.key = free.key
         RETURNING p.key, p.app, p.state, p.lane, p.providers, p.due, p.expires_at, p.ended_at IS NOT NULL, p.channels,
                   p.page_due, p.route, p.expected, p.answered, p.payload, p.progress, p.epoch, true, false, p.targets, p.body",
    )
    .bind(keys)
    .bind(micros(lease))
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

async fn lease_pages(conn: &mut PgConnection, names: &Names, lease: Duration) -> Result<Vec<Page>> {
    if names.pushes.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "WITH free AS MATERIALIZED (
            SELECT p.id FROM unnest($1::bigint[], $2::smallint[], $3::bigint[]) AS w(push, route, seq)
              JOIN pages p ON p.push = w.push AND p.route = w.route AND p.seq = w.seq
             WHERE p.lease_until IS NULL OR p.lease_until < clock_timestamp()
             ORDER BY p.id FOR UPDATE OF p SKIP LOCKED)
         UPDATE pages p SET epoch = p.epoch + 1, lease_until = clock_timestamp() + $4 * interval '1 microsecond'
           FROM free WHERE p.id = free.id
         RETURNING p.id, p.push, p.route, p.seq, p.expected, p.after_key, p.upto_key, p.progress, p.epoch",
    )
    .bind(&names.pushes)
    .bind(&names.routes)
    .bind(&names.seqs)
    .bind(micros(lease))
    .fetch_all(conn)
    .await?;
    rows.iter().map(Page::from_row).collect()
}

async fn release(shared: &Arc<Shared>, leased: &Arc<Leased>) -> Result<()> {
    let leased = Arc::clone(leased);
    shared
        .read(move |conn| {
            let leased = Arc::clone(&leased);
            Box::pin(async move {
                sqlx::query(
                    "UPDATE pushes p SET lease_until = NULL FROM unnest($1::bigint[], $2::bigint[]) AS w(key, epoch)
                      WHERE p.key = w.key AND p.epoch = w.epoch",
                )
                .bind(leased.own.iter().map(|l| l.push.key.0).collect::<Vec<_>>())
                .bind(leased.own.iter().map(|l| int(l.own.epoch)).collect::<Vec<_>>())
                .execute(&mut *conn)
                .await?;
                sqlx::query(
                    "UPDATE pages p SET lease_until = NULL FROM unnest($1::bigint[], $2::bigint[]) AS w(id, epoch)
                      WHERE p.id = w.id AND p.epoch = w.epoch",
                )
                .bind(leased.pages.iter().map(|page| page.row).collect::<Vec<_>>())
                .bind(leased.pages.iter().map(|page| int(page.epoch)).collect::<Vec<_>>())
                .execute(conn)
                .await?;
                Ok(())
            })
        })
        .await
}
