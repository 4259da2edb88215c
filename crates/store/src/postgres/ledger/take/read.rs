//! What the takers of leased pages get with them: read after the leases are committed, so that it is at least as new.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bugle_model::{AppId, Flow, PageId, Progress, PushKey, Taken, Target, Timestamp};
use sqlx::{PgConnection, Row};

use super::Leased;
use crate::Result;
use crate::books::account::LegKey;
use crate::books::codes;
use crate::books::page::{Content, own_page};
use crate::postgres::ledger::replica;
use crate::postgres::ledger::rows::{Page, Push, route};
use crate::postgres::ledger::targets::{self, Explicit, Range};
use crate::postgres::shared::Shared;

/// What is read of leased pages.
struct Context {
    pushes: BTreeMap<PushKey, Push>,
    /// Legs that are rejected.
    rejected: BTreeSet<LegKey>,
    targets: HashMap<PageId, Vec<Target>>,
    apps: HashMap<i32, AppId>,
    /// What a replica must know to serve the ranges.
    places: Option<Vec<String>>,
}

pub(super) async fn read(shared: &Arc<Shared>, leased: &Arc<Leased>, now: Timestamp) -> Result<Vec<Taken>> {
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
            let Some(push) = self.pushes.get(&page.id.push).cloned() else {
                continue;
            };
            let flow = push.flow(self.rejected.contains(&(page.id.push, page.leg.code())), now);
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
            age: Duration::ZERO,
            body: None,
        })
    }
}

async fn read_context(conn: &mut PgConnection, shared: &Shared, leased: &Leased) -> Result<Context> {
    let (pushes, rejected) = read_pushes(conn, &leased.pages).await?;
    let targets = read_explicit(conn, leased, &pushes).await?;
    let mut apps = HashMap::new();
    for push in leased.own.iter().map(|lease| &lease.push).chain(pushes.values()) {
        apps.insert(push.app, shared.apps.name(conn, push.app).await?);
    }
    let ranges = leased.pages.iter().filter(|page| page.content != Content::Explicit);
    let walked: BTreeSet<PushKey> = ranges.map(|page| page.id.push).collect();
    let places = replica::places(shared, conn, &walked.into_iter().collect::<Vec<_>>()).await?;
    Ok(Context {
        pushes,
        rejected,
        targets,
        apps,
        places,
    })
}

/// The pushes of these pages, and which of their legs are rejected.
async fn read_pushes(conn: &mut PgConnection, pages: &[Page]) -> Result<(BTreeMap<PushKey, Push>, BTreeSet<LegKey>)> {
    let (mut pushes, mut rejected) = (BTreeMap::new(), BTreeSet::new());
    if pages.is_empty() {
        return Ok((pushes, rejected));
    }
    let legs: BTreeSet<LegKey> = pages.iter().map(|page| (page.id.push, page.leg.code())).collect();
    let rows = sqlx::query(
        "SELECT p.key, p.app, p.state, p.lane, p.providers, p.due, p.expires_at, p.ended_at IS NOT NULL, p.channels, w.route, coalesce(l.rejected, false)
           FROM (SELECT unnest($1::bigint[]) AS push, unnest($2::smallint[]) AS route) AS w
           JOIN pushes p ON p.key = w.push LEFT JOIN legs l ON l.push = w.push AND l.route = w.route",
    )
    .bind(legs.iter().map(|(push, _)| push.0).collect::<Vec<_>>())
    .bind(legs.iter().map(|(_, code)| i16::from(*code)).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    for row in rows {
        let push = Push::from_row(&row)?;
        if row.try_get(10)? {
            rejected.insert((push.key, route(row.try_get(9)?)?.code()));
        }
        pushes.insert(push.key, push);
    }
    Ok((pushes, rejected))
}

/// The targets of all pages that are explicit, own ones and others, looked up together.
async fn read_explicit(
    conn: &mut PgConnection,
    leased: &Leased,
    pushes: &BTreeMap<PushKey, Push>,
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
        let Some(push) = pushes.get(&page.id.push) else {
            continue;
        };
        names.push(page.id);
        wanted.push(Explicit {
            push,
            route: page.leg,
            stored: stored.remove(&page.row).ok_or_else(codes::without_targets)?,
            progress: &page.progress,
        });
    }
    let targets = targets::explicit(conn, &wanted).await?;
    Ok(names.into_iter().zip(targets).collect())
}

/// The targets of all pages that are ranges, read together.
async fn read_ranges(
    conn: &mut PgConnection,
    pushes: &BTreeMap<PushKey, Push>,
    pages: &[Page],
) -> Result<HashMap<PageId, Vec<Target>>> {
    let (mut names, mut wanted) = (Vec::new(), Vec::new());
    for page in pages {
        if let Some(range) = pushes.get(&page.id.push).and_then(|push| Range::of(push, page)) {
            names.push(page.id);
            wanted.push(range);
        }
    }
    let targets = targets::ranges(conn, &wanted).await?;
    Ok(names.into_iter().zip(targets).collect())
}
