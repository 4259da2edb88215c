//! The ledger in `SQLite`. `docs/decisions/0001-ledger.md` gives the statements, and what each of them walks.
//!
//! | file | does |
//! |---|---|
//! | `accept` | writes pushes down |
//! | `expand`, `ranges`, `audience` | walks audiences, makes pages of them |
//! | `due` | finds pages that wait |
//! | `take`, `targets`, `leases` | leases pages, reads their targets |
//! | `report`, `settle`, `leftovers`, `pages` | progress, give back, settle; the accounts; who ends |
//! | `sweep` | cancel, expire, end what nobody sends |
//! | `status`, `holds`, `forget` | the account; routes on hold; what is old |
//! | `rows` | rows as values |
//!
//! What follows from them is in `crate::books`, for both backends.
//!
//! Invariants: every target that was handed out is in its leg's account or in a page; a leg's `outstanding` is the sum of what its
//! pages expected; a page row that is gone never comes back under the same name.

mod accept;
mod audience;
mod due;
mod expand;
mod forget;
mod holds;
mod leases;
mod leftovers;
mod pages;
mod quota;
mod ranges;
mod report;
mod rows;
mod settle;
mod status;
mod sweep;
mod take;
mod targets;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bugle_model::{
    Accepted, AppId, Flow, Hold, HoldReason, Lane, NewPush, PageId, PageRef, Provider, PushKey, PushStatus, PushUid,
    Recipient, Report, Route, Taken, Target, Timestamp, Verdict,
};

pub(super) use self::leases::Leases;
pub(super) use self::quota::Quotas;
use super::Store;
use super::apps::Apps;
use super::writer::{Cost, Tx};
use crate::Result;
use crate::books::plan::Plan;
use crate::books::reports::{Repeats, chunks};
use crate::books::{MAX_REMOVALS, MAX_STEP};
use crate::ledger::{Expansion, Ledger, OpenLeg, Swept, Walk};
use crate::quota::{Draw, Grant};

/// What jobs need beside their connection.
#[derive(Clone)]
struct Context {
    apps: Apps,
    leases: Leases,
}

impl Store {
    fn context(&self) -> Context {
        Context {
            apps: self.apps.clone(),
            leases: self.leases.clone(),
        }
    }
}

#[async_trait]
impl Ledger for Store {
    async fn accept(&self, push: NewPush) -> Result<Accepted> {
        let cx = self.context();
        let (push, plan) = match (Plan::of(&push.recipient)?, push) {
            (Some(plan), push) => (push, plan),
            (None, push) => {
                let apps = self.apps.clone();
                let look_up = move |conn: &rusqlite::Connection| {
                    let Recipient::Devices(ids) = &push.recipient else {
                        return Ok((push, Plan::Split(Vec::new())));
                    };
                    let plan = accept::split(conn, apps.find(conn, &push.app)?, ids, &push.providers)?;
                    Ok((push, plan))
                };
                self.readers.run(look_up).await?
            }
        };
        let (urgent, cost) = (plan.is_urgent(push.lane), plan.cost());
        self.writer
            .run(urgent, cost, move |tx| accept::accept(tx, &cx, &push, &plan))
            .await
    }

    async fn status(&self, app: &AppId, uid: &PushUid) -> Result<Option<PushStatus>> {
        let (apps, app, uid, now) = (self.apps.clone(), app.clone(), uid.clone(), self.clock.now());
        self.readers
            .run(move |conn| match apps.find(conn, &app)? {
                Some(app) => status::status(conn, app, &uid, now),
                None => Ok(None),
            })
            .await
    }

    async fn cancel(&self, app: &AppId, uid: &PushUid, now: Timestamp) -> Result<bool> {
        let mut known = false;
        loop {
            let (cx, app, uid) = (self.context(), app.clone(), uid.clone());
            let step = move |tx: &Tx<'_>| match cx.apps.find(tx.conn(), &app)? {
                Some(app) => sweep::cancel(tx, &cx, app, uid.as_str(), now),
                None => Ok(None),
            };
            match self.writer.run(false, Cost::rows(MAX_STEP as usize), step).await? {
                None => return Ok(known),
                Some(false) => return Ok(true),
                Some(true) => known = true,
            }
        }
    }

    async fn body(&self, push: PushKey) -> Result<Option<Arc<[u8]>>> {
        let body = self.readers.run(move |conn| take::body(conn, push)).await?;
        Ok(body.map(Arc::from))
    }

    async fn open_legs(&self, now: Timestamp, limit: u32) -> Result<Vec<OpenLeg>> {
        let cx = self.context();
        self.readers
            .run(move |conn| expand::open_legs(conn, &cx, now, limit))
            .await
    }

    async fn outstanding(&self) -> Result<Vec<(AppId, Route, u64)>> {
        let cx = self.context();
        self.readers.run(move |conn| expand::outstanding(conn, &cx)).await
    }

    async fn walk(&self, push: PushKey, legs: &[(Route, u32)]) -> Result<Vec<Walk>> {
        let (legs, now) = (legs.to_vec(), self.clock.now());
        self.readers.run(move |conn| expand::walk(conn, push, &legs, now)).await
    }

    async fn expand(&self, walks: Vec<Walk>, now: Timestamp) -> Result<Vec<Expansion>> {
        let cx = self.context();
        let cost = Cost::rows(walks.iter().map(|walk| 2 + walk.ranges.len()).sum());
        self.writer
            .run(false, cost, move |tx| expand::expand(tx, &cx, &walks, now))
            .await
    }

    async fn due_pages(&self, lane: Lane, before: Timestamp, limit: u32) -> Result<Vec<PageRef>> {
        let cx = self.context();
        self.readers
            .run(move |conn| due::due_pages(conn, &cx, lane, before, limit))
            .await
    }

    async fn waiting_page(&self, app: &AppId, route: Route) -> Result<Option<PageRef>> {
        let (cx, app, now) = (self.context(), app.clone(), self.clock.now());
        self.readers
            .run(move |conn| match cx.apps.find(conn, &app)? {
                Some(app) => due::waiting_page(conn, &cx, app, route, now),
                None => Ok(None),
            })
            .await
    }

    async fn take(&self, pages: &[PageId], lease: Duration) -> Result<Vec<Taken>> {
        let (cx, now) = (self.context(), self.clock.now());
        let grants = take::lease(&cx, pages, lease);
        if grants.is_empty() {
            return Ok(Vec::new());
        }
        let read = self.readers.run(move |conn| take::read(conn, &cx, grants, now)).await?;
        let told = read.into_iter().map(|(grant, taken)| {
            grant.keep();
            taken
        });
        Ok(told.collect())
    }

    async fn reread(&self, page: PageId, after: i64) -> Result<Vec<Target>> {
        self.readers.run(move |conn| take::reread(conn, page, after)).await
    }

    async fn extend(&self, pages: &[(PageId, u64)], lease: Duration) -> Result<Vec<Verdict>> {
        let extended: Vec<Option<PageId>> = pages
            .iter()
            .map(|&(page, epoch)| self.leases.extend(page, epoch, lease).then_some(page))
            .collect();
        let now = self.clock.now();
        self.readers.run(move |conn| take::flows(conn, &extended, now)).await
    }

    async fn report(&self, reports: Vec<Report>, now: Timestamp) -> Result<Vec<Verdict>> {
        let mut verdicts = Vec::with_capacity(reports.len());
        for chunk in chunks(reports, Repeats::Together) {
            let (cx, cost) = (self.context(), report::cost(&chunk));
            let job = move |tx: &Tx<'_>| report::write(tx, &cx, &chunk.reports, now);
            verdicts.extend(self.writer.run(false, cost, job).await?);
        }
        Ok(verdicts)
    }

    async fn set_hold(&self, app: &AppId, route: Route, reason: Option<HoldReason>, now: Timestamp) -> Result<Hold> {
        let (cx, app) = (self.context(), app.clone());
        self.writer
            .run(false, Cost::rows(1), move |tx| {
                holds::set(tx, &cx, &app, route, reason, now)
            })
            .await
    }

    async fn holds(&self) -> Result<Vec<Hold>> {
        let cx = self.context();
        self.readers.run(move |conn| holds::all(conn, &cx)).await
    }

    async fn draw(&self, app: &AppId, provider: Provider, draw: Draw) -> Result<Grant> {
        Ok(self.quotas.draw(app, provider, &draw))
    }

    async fn sweep(&self, now: Timestamp) -> Result<Swept> {
        let cx = self.context();
        let cost = Cost::rows(2 * MAX_STEP as usize);
        self.writer.run(false, cost, move |tx| sweep::sweep(tx, &cx, now)).await
    }

    async fn forget(&self, pushes_before: Timestamp, gone_before: Timestamp) -> Result<u64> {
        let cost = Cost::removals(MAX_REMOVALS as usize);
        self.writer
            .run(false, cost, move |tx| {
                forget::step(tx.conn(), pushes_before, gone_before)
            })
            .await
    }

    async fn flow(&self, push: PushKey, now: Timestamp) -> Result<Option<Flow>> {
        self.readers.run(move |conn| take::flow(conn, push, now)).await
    }
}
