//! Prolongs leases, and says under what flow pages and pushes are.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bugle_model::{Flow, PageId, PushKey, Timestamp, Verdict};
use sqlx::PgConnection;

use super::legs;
use super::rows::{self, Push, int};
use crate::Result;
use crate::books::account::LegKey;
use crate::books::page::own_page;
use crate::books::{codes, push};
use crate::postgres::shared::Shared;

/// Longer than any lease that makes sense.
const LONGEST: Duration = Duration::from_hours(365 * 24);

/// Names of page rows, as columns.
#[derive(Default)]
pub(super) struct Names {
    pub(super) pushes: Vec<i64>,
    pub(super) routes: Vec<i16>,
    pub(super) seqs: Vec<i64>,
}

impl Names {
    pub(super) fn of(pages: impl IntoIterator<Item = PageId>) -> Self {
        let mut names = Self::default();
        for page in pages {
            let Some(leg) = page.leg else { continue };
            names.pushes.push(page.push.0);
            names.routes.push(i16::from(leg.code()));
            names.seqs.push(page.seq);
        }
        names
    }
}

/// A lease as the database adds it to its clock.
pub(super) fn micros(lease: Duration) -> i64 {
    i64::try_from(lease.min(LONGEST).as_micros()).unwrap_or(i64::MAX)
}

/// Flows of pages whose leases were prolonged, by page and epoch.
type Prolonged = HashMap<(PageId, u64), Flow>;

pub(super) async fn extend(
    shared: &Arc<Shared>,
    pages: &[(PageId, u64)],
    lease: Duration,
    now: Timestamp,
) -> Result<Vec<Verdict>> {
    let asked: Arc<[(PageId, u64)]> = Arc::from(pages);
    shared
        .read(move |conn| {
            let asked = Arc::clone(&asked);
            Box::pin(async move {
                let mut flows = extend_own(conn, &asked, lease, now).await?;
                flows.extend(extend_pages(conn, &asked, lease, now).await?);
                let verdict = |page| flows.get(page).map_or(Verdict::Lost, |flow| Verdict::Written(*flow));
                Ok(asked.iter().map(verdict).collect())
            })
        })
        .await
}

async fn extend_own(
    conn: &mut PgConnection,
    asked: &[(PageId, u64)],
    lease: Duration,
    now: Timestamp,
) -> Result<Prolonged> {
    let (keys, epochs): (Vec<i64>, Vec<i64>) = (asked.iter().filter(|(page, _)| page.leg.is_none()))
        .map(|(page, epoch)| (page.push.0, int(*epoch)))
        .unzip();
    if keys.is_empty() {
        return Ok(Prolonged::new());
    }
    let rows: Vec<(i64, i64, String, i64)> = sqlx::query_as(
        "WITH held AS MATERIALIZED (
            SELECT p.key FROM (SELECT unnest($1::bigint[]) AS key, unnest($2::bigint[]) AS epoch) AS w JOIN pushes p ON p.key = w.key
             WHERE p.epoch = w.epoch AND p.lease_until IS NOT NULL AND p.page_due IS NOT NULL
             ORDER BY p.key FOR UPDATE OF p)
         UPDATE pushes p SET lease_until = greatest(p.lease_until, clock_timestamp() + $3 * interval '1 microsecond')
           FROM held WHERE p.key = held.key
         RETURNING p.key, p.epoch, p.state, p.expires_at",
    )
    .bind(keys)
    .bind(epochs)
    .bind(micros(lease))
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(key, epoch, state, expires_at)| {
            let flow = push::flow(codes::state(&state)?, Timestamp(expires_at), false, now);
            Ok(((own_page(PushKey(key)), rows::count(epoch)), flow))
        })
        .collect()
}

async fn extend_pages(
    conn: &mut PgConnection,
    asked: &[(PageId, u64)],
    lease: Duration,
    now: Timestamp,
) -> Result<Prolonged> {
    let pages: Vec<&(PageId, u64)> = asked.iter().filter(|(page, _)| page.leg.is_some()).collect();
    if pages.is_empty() {
        return Ok(Prolonged::new());
    }
    let names = Names::of(pages.iter().map(|(page, _)| *page));
    let found: Vec<(i64, i16, i64, i64)> = sqlx::query_as(
        "WITH held AS MATERIALIZED (
            SELECT p.id FROM (SELECT unnest($1::bigint[]) AS push, unnest($2::smallint[]) AS route, unnest($3::bigint[]) AS seq, unnest($4::bigint[]) AS epoch) AS w
              JOIN pages p ON p.push = w.push AND p.route = w.route AND p.seq = w.seq
             WHERE p.epoch = w.epoch AND p.lease_until IS NOT NULL
             ORDER BY p.id FOR UPDATE OF p)
         UPDATE pages p SET lease_until = greatest(p.lease_until, clock_timestamp() + $5 * interval '1 microsecond')
           FROM held WHERE p.id = held.id
         RETURNING p.push, p.route, p.seq, p.epoch",
    )
    .bind(names.pushes)
    .bind(names.routes)
    .bind(names.seqs)
    .bind(pages.iter().map(|(_, epoch)| int(*epoch)).collect::<Vec<_>>())
    .bind(micros(lease))
    .fetch_all(&mut *conn)
    .await?;
    let mut extended = Vec::with_capacity(found.len());
    for (push, code, seq, epoch) in found {
        extended.push((PushKey(push), rows::route(code)?, seq, rows::count(epoch)));
    }
    let keys: BTreeSet<LegKey> = extended.iter().map(|(push, leg, ..)| (*push, leg.code())).collect();
    let of: BTreeSet<i64> = keys.iter().map(|(push, _)| push.0).collect();
    let pushes = Push::read_many(conn, &of.into_iter().collect::<Vec<_>>()).await?;
    let legs = legs::read(conn, &keys.into_iter().collect::<Vec<_>>()).await?;
    let flows = extended.into_iter().filter_map(|(push, leg, seq, epoch)| {
        let rejected = legs.get(&(push, leg.code())).is_some_and(|leg| leg.rejected);
        let flow = pushes.get(&push)?.0.flow(rejected, now);
        let id = PageId {
            push,
            leg: Some(leg),
            seq,
        };
        Some(((id, epoch), flow))
    });
    Ok(flows.collect())
}

/// The flow of a push; `None` = unknown, or ended.
pub(super) async fn flow(shared: &Arc<Shared>, push: PushKey, now: Timestamp) -> Result<Option<Flow>> {
    let push = shared
        .read(move |conn| Box::pin(async move { Push::read(conn, push).await }))
        .await?;
    Ok(push.filter(|push| !push.ended).map(|push| push.flow(false, now)))
}
