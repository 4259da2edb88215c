//! Takes pages, prolongs leases, reads again.
//!
//! A page is taken by one statement that locks, compares and writes: a free row gets a new epoch and a lease on the database's clock; a row that somebody is writing
//! just now is passed over. Its targets are read after that has been committed, so what is read is at least as new as the lease. A lease whose taker goes away expires.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bugle_model::{Flow, PageId, PushKey, Taken, Target, Timestamp, Verdict};
use sqlx::{PgConnection, Row};

use super::legs::{self, Leg, LegKey};
use super::rows::{self, Content, OwnPage, Page, Push, Pushes, int, own_page};
use super::targets::{self, Explicit};
use super::replica;
use crate::Result;
use crate::codec::targets::{Stored, decode};
use crate::postgres::shared::Shared;

/// Longer than any lease that makes sense.
const LONGEST: Duration = Duration::from_hours(365 * 24);

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

/// Names of page rows, as columns.
#[derive(Default)]
struct Names {
    pushes: Vec<i64>,
    routes: Vec<i16>,
    seqs: Vec<i64>,
}

impl Names {
    fn of(pages: impl IntoIterator<Item = PageId>) -> Self {
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

fn own_keys(pages: &[PageId]) -> Vec<i64> {
    let keys: BTreeSet<i64> = pages.iter().filter(|page| page.leg.is_none()).map(|page| page.push.0).collect();
    keys.into_iter().collect()
}

fn micros(lease: Duration) -> i64 {
    i64::try_from(lease.min(LONGEST).as_micros()).unwrap_or(i64::MAX)
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
    match read(shared, &leased, now).await {
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

/// What is read of leased pages beside their ranges' targets.
struct Context {
    pushes: Pushes,
    legs: BTreeMap<LegKey, Leg>,
    explicit: HashMap<PageId, Vec<Target>>,
    apps: HashMap<i32, bugle_model::AppId>,
    /// What a replica must know to serve the ranges.
    places: Option<Vec<String>>,
}

async fn read(shared: &Arc<Shared>, leased: &Arc<Leased>, now: Timestamp) -> Result<Vec<Taken>> {
    let (context, rows) = (Arc::clone(shared), Arc::clone(leased));
    let mut context = shared
        .read(move |conn| {
            let (shared, leased) = (Arc::clone(&context), Arc::clone(&rows));
            Box::pin(async move { read_context(conn, &shared, &leased).await })
        })
        .await?;
    let (pushes, places) = (Arc::new(std::mem::take(&mut context.pushes)), context.places.take());
    let mut targets = std::mem::take(&mut context.explicit);
    if leased.pages.iter().any(|page| page.content != Content::Explicit) {
        let (pushes, leased) = (Arc::clone(&pushes), Arc::clone(leased));
        let ranges = replica::read(shared, places, move |conn| {
            let (pushes, leased) = (Arc::clone(&pushes), Arc::clone(&leased));
            Box::pin(async move { read_ranges(conn, &pushes, &leased.pages).await })
        });
        targets.extend(ranges.await?);
    }
    let mut taken = Vec::with_capacity(leased.own.len() + leased.pages.len());
    for lease in &leased.own {
        let Some(app) = context.apps.get(&lease.push.app) else { continue };
        let id = own_page(lease.push.key);
        taken.push(Taken {
            id,
            epoch: lease.own.epoch,
            app: app.clone(),
            lane: lease.push.lane,
            expires_at: lease.push.expires_at,
            flow: lease.push.flow(false, now),
            progress: lease.own.progress.clone(),
            targets: targets.remove(&id).unwrap_or_default(),
            body: lease.body.clone(),
        });
    }
    for page in &leased.pages {
        let Some((push, _)) = pushes.get(&page.id.push) else { continue };
        let Some(app) = context.apps.get(&push.app) else { continue };
        let rejected = context.legs.get(&(page.id.push, page.leg.code())).is_some_and(|leg| leg.rejected);
        taken.push(Taken {
            id: page.id,
            epoch: page.epoch,
            app: app.clone(),
            lane: push.lane,
            expires_at: push.expires_at,
            flow: push.flow(rejected, now),
            progress: page.progress.clone(),
            targets: targets.remove(&page.id).unwrap_or_default(),
            body: None,
        });
    }
    Ok(taken)
}

async fn read_context(conn: &mut PgConnection, shared: &Shared, leased: &Leased) -> Result<Context> {
    let (mut pushes, mut of_legs) = (Pushes::new(), BTreeMap::new());
    if !leased.pages.is_empty() {
        let keys: BTreeSet<LegKey> = leased.pages.iter().map(|page| (page.id.push, page.leg.code())).collect();
        of_legs = legs::read(conn, &keys.iter().copied().collect::<Vec<_>>()).await?;
        let keys: BTreeSet<i64> = keys.iter().map(|(push, _)| push.0).collect();
        pushes = Push::read_many(conn, &keys.into_iter().collect::<Vec<_>>()).await?;
    }
    let explicit = read_explicit(conn, leased, &pushes).await?;
    let mut apps = HashMap::new();
    for push in leased.own.iter().map(|lease| &lease.push).chain(pushes.values().map(|(push, _)| push)) {
        if !apps.contains_key(&push.app) {
            apps.insert(push.app, shared.apps.name(conn, push.app).await?);
        }
    }
    let ranges = leased.pages.iter().filter(|page| page.content != Content::Explicit);
    let walked: BTreeSet<PushKey> = ranges.map(|page| page.id.push).collect();
    let places = replica::places(shared, conn, &walked.into_iter().collect::<Vec<_>>()).await?;
    Ok(Context {
        pushes,
        legs: of_legs,
        explicit,
        apps,
        places,
    })
}

/// The targets of all pages that are explicit, own ones and others, looked up together.
async fn read_explicit(
    conn: &mut PgConnection,
    leased: &Leased,
    pushes: &Pushes,
) -> Result<HashMap<PageId, Vec<Target>>> {
    let listed: Vec<&Page> = leased.pages.iter().filter(|page| page.content == Content::Explicit).collect();
    let rows: Vec<i64> = listed.iter().map(|page| page.row).collect();
    let mut stored = Page::targets_of(conn, &rows).await?;
    let (mut names, mut wanted) = (Vec::new(), Vec::new());
    for lease in &leased.own {
        names.push(own_page(lease.push.key));
        wanted.push(Explicit {
            push: &lease.push,
            route: lease.own.route,
            stored: lease.stored.clone(),
            progress: &lease.own.progress,
        });
    }
    for page in listed {
        let Some((push, _)) = pushes.get(&page.id.push) else { continue };
        names.push(page.id);
        wanted.push(Explicit {
            push,
            route: page.leg,
            stored: stored.remove(&page.row).ok_or_else(|| crate::Error::Corrupt {
                place: "page_targets",
                detail: "a page without targets".to_owned(),
            })?,
            progress: &page.progress,
        });
    }
    let targets = targets::explicit(conn, &wanted).await?;
    Ok(names.into_iter().zip(targets).collect())
}

async fn read_ranges(conn: &mut PgConnection, pushes: &Pushes, pages: &[Page]) -> Result<HashMap<PageId, Vec<Target>>> {
    let mut all = HashMap::new();
    for page in pages {
        let (Content::Range(after, upto), Some((push, _))) = (page.content, pushes.get(&page.id.push)) else {
            continue;
        };
        let targets = targets::range(conn, push, page.leg, (after, upto), &page.progress).await?;
        all.insert(page.id, targets);
    }
    Ok(all)
}

pub(super) async fn body(shared: &Arc<Shared>, push: PushKey) -> Result<Option<Arc<[u8]>>> {
    let body: Option<Option<Vec<u8>>> = shared
        .read(move |conn| {
            Box::pin(async move {
                let body = sqlx::query_scalar("SELECT body FROM pushes WHERE key = $1").bind(push.0);
                Ok(body.fetch_optional(conn).await?)
            })
        })
        .await?;
    Ok(body.flatten().map(Arc::from))
}

/// Always on the primary: what was read before is too old to be trusted.
pub(super) async fn reread(shared: &Arc<Shared>, id: PageId, after: i64) -> Result<Vec<Target>> {
    shared
        .read(move |conn| Box::pin(async move { read_again(conn, id, after).await }))
        .await
}

async fn read_again(conn: &mut PgConnection, id: PageId, after: i64) -> Result<Vec<Target>> {
    let Some((push, mut own)) = Push::read_many(conn, &[id.push.0]).await?.remove(&id.push) else {
        return Ok(Vec::new());
    };
    let Some(leg) = id.leg else {
        if own.due.is_none() {
            return Ok(Vec::new());
        }
        (own.progress.position, own.progress.open) = (after, Vec::new());
        return targets::of_own_page(conn, &push, &own).await;
    };
    let Some(mut page) = Page::read(conn, id.push, leg, id.seq).await? else {
        return Ok(Vec::new());
    };
    (page.progress.position, page.progress.open) = (after, Vec::new());
    if let Content::Range(first, upto) = page.content {
        return targets::range(conn, &push, leg, (first, upto), &page.progress).await;
    }
    let stored = Page::targets_of(conn, &[page.row]).await?.remove(&page.row).unwrap_or_default();
    let wanted = Explicit {
        push: &push,
        route: leg,
        stored,
        progress: &page.progress,
    };
    Ok(targets::explicit(conn, &[wanted]).await?.remove(0))
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
            SELECT p.key FROM unnest($1::bigint[], $2::bigint[]) AS w(key, epoch) JOIN pushes p ON p.key = w.key
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
            let flow = crate::books::flow(rows::state(&state)?, Timestamp(expires_at), false, now);
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
            SELECT p.id FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[]) AS w(push, route, seq, epoch)
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
