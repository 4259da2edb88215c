//! What the takers of leased pages get with them: read after the leases are committed, so that it is at least as new.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bugle_model::{AppId, Flow, PageId, Progress, PushKey, Taken, Target, Timestamp};
use sqlx::PgConnection;

use super::Leased;
use crate::Result;
use crate::books::account::LegKey;
use crate::books::codes;
use crate::books::page::{Content, own_page};
use crate::postgres::ledger::legs::{self, Leg};
use crate::postgres::ledger::replica;
use crate::postgres::ledger::rows::{Page, Push, Pushes};
use crate::postgres::ledger::targets::{self, Explicit};
use crate::postgres::shared::Shared;

/// What is read of leased pages.
struct Context {
    pushes: Pushes,
    legs: BTreeMap<LegKey, Leg>,
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
            age: Duration::ZERO,
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
            stored: stored.remove(&page.row).ok_or_else(codes::without_targets)?,
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
