//! Takes pages.
//!
//! A page is taken by one statement that locks, compares and writes: a free row gets a new epoch and a lease on the database's clock; a row that somebody is writing
//! just now is passed over. Its targets are read after that has been committed, so what is read is at least as new as the lease. A lease whose taker goes away expires.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bugle_model::{AppId, Flow, PageId, Progress, PushKey, Taken, Target, Timestamp};
use sqlx::{PgConnection, Row};

use super::extend::{Names, micros};
use super::legs::{self, Leg, LegKey};
use super::replica;
use super::rows::{Content, OwnPage, Page, Push, Pushes, int, own_page};
use super::targets::{self, Explicit};
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

/// What is read of leased pages.
struct Context {
    pushes: Pushes,
    legs: BTreeMap<LegKey, Leg>,
    targets: HashMap<PageId, Vec<Target>>,
    apps: HashMap<i32, AppId>,
    /// What a replica must know to serve the ranges.
    places: Option<Vec<String>>,
}

async fn read(shared: &Arc<Shared>, leased: &Arc<Leased>, now: Timestamp) -> Result<Vec<Taken>> {
    let (own, rows) = (Arc::clone(shared), Arc::clone(leased));
    let context = shared.read(move |conn| {
        let (shared, leased) = (Arc::clone(&own), Arc::clone(&rows));
        Box::pin(async move { read_context(conn, &shared, &leased).await })
    });
    let mut context = context.await?;
    if leased.pages.iter().any(|page| page.content != Content::Explicit) {
        let (pushes, rows) = (Arc::new(context.pushes.clone()), Arc::clone(leased));
        let ranges = replica::read(shared, context.places.take(), move |conn| {
            let (pushes, leased) = (Arc::clone(&pushes), Arc::clone(&rows));
            Box::pin(async move { read_ranges(conn, &pushes, &leased.pages).await })
        });
        context.targets.extend(ranges.await?);
    }
    Ok(context.taken(leased, now))
}

impl Context {
    /// The pages as their takers get them.
    fn taken(mut self, leased: &Leased, now: Timestamp) -> Vec<Taken> {
        let mut taken = Vec::with_capacity(leased.own.len() + leased.pages.len());
        for lease in &leased.own {
            let page = self.page(own_page(lease.push.key), &lease.push, &lease.own.progress);
            taken.extend(page.map(|page| Taken {
                epoch: lease.own.epoch,
                flow: lease.push.flow(false, now),
                body: lease.body.clone(),
                ..page
            }));
        }
        for page in &leased.pages {
            // A push that is forgotten has no pages.
            let Some((push, _)) = self.pushes.get(&page.id.push).cloned() else {
                continue;
            };
            let rejected = self
                .legs
                .get(&(page.id.push, page.leg.code()))
                .is_some_and(|leg| leg.rejected);
            let flow = push.flow(rejected, now);
            let epoch = page.epoch;
            taken.extend(
                self.page(page.id, &push, &page.progress)
                    .map(|page| Taken { epoch, flow, ..page }),
            );
        }
        taken
    }

    fn page(&mut self, id: PageId, push: &Push, progress: &Progress) -> Option<Taken> {
        Some(Taken {
            id,
            epoch: 0,
            app: self.apps.get(&push.app)?.clone(),
            lane: push.lane,
            expires_at: push.expires_at,
            flow: Flow::Paused,
            progress: progress.clone(),
            targets: self.targets.remove(&id).unwrap_or_default(),
            body: None,
        })
    }
}

async fn read_context(conn: &mut PgConnection, shared: &Shared, leased: &Leased) -> Result<Context> {
    let (mut pushes, mut of_legs) = (Pushes::new(), BTreeMap::new());
    if !leased.pages.is_empty() {
        let keys: BTreeSet<LegKey> = leased
            .pages
            .iter()
            .map(|page| (page.id.push, page.leg.code()))
            .collect();
        of_legs = legs::read(conn, &keys.iter().copied().collect::<Vec<_>>()).await?;
        let keys: BTreeSet<i64> = keys.iter().map(|(push, _)| push.0).collect();
        pushes = Push::read_many(conn, &keys.into_iter().collect::<Vec<_>>()).await?;
    }
    let targets = read_explicit(conn, leased, &pushes).await?;
    let mut apps = HashMap::new();
    for push in leased
        .own
        .iter()
        .map(|lease| &lease.push)
        .chain(pushes.values().map(|(push, _)| push))
    {
        apps.insert(push.app, shared.apps.name(conn, push.app).await?);
    }
    let ranges = leased.pages.iter().filter(|page| page.content != Content::Explicit);
    let walked: BTreeSet<PushKey> = ranges.map(|page| page.id.push).collect();
    let places = replica::places(shared, conn, &walked.into_iter().collect::<Vec<_>>()).await?;
    Ok(Context {
        pushes,
        legs: of_legs,
        targets,
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
    let listed: Vec<&Page> = leased
        .pages
        .iter()
        .filter(|page| page.content == Content::Explicit)
        .collect();
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
        let Some((push, _)) = pushes.get(&page.id.push) else {
            continue;
        };
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
