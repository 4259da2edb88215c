//! The ledger in PostgreSQL. `docs/decisions/0001-ledger.md` gives the tables, and what each index is walked for.
//!
//! | file | does |
//! |---|---|
//! | `accept`, `own`, `kept` | writes pushes down; keeps those that are sent here |
//! | `expand`, `ranges`, `audience` | walks audiences, makes pages of them |
//! | `due` | finds pages that wait |
//! | `take`, `extend`, `targets`, `reread` | leases pages, reads their targets |
//! | `report`, `settle`, `leftovers`, `pages` | progress, give back, settle; the accounts; who ends |
//! | `sweep`, `ending` | cancel, expire, end what nobody sends |
//! | `status`, `holds`, `forget` | the account; routes on hold; what is old |
//! | `wake` | tells other processes of legs |
//! | `rows`, `legs` | rows as values |
//!
//! What follows from them is in `crate::books`, for both backends.
//!
//! Invariants: every target that was handed out is in its leg's account or in a page; a leg's `outstanding` is the sum of what its pages expected; a page row that
//! is gone never comes back under the same name; rows are locked in the order push, leg, page, device, each by key.

mod accept;
mod audience;
mod due;
mod ending;
mod expand;
mod extend;
mod forget;
mod holds;
pub(super) mod kept;
mod leftovers;
mod legs;
pub(super) mod own;
mod pages;
mod quota;
mod ranges;
mod replica;
mod report;
mod reread;
mod rows;
mod settle;
mod status;
mod sweep;
mod take;
mod targets;
pub(super) mod wake;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bugle_model::{
    Accepted, AppId, Flow, Hold, HoldReason, Lane, NewPush, PageId, PageRef, Provider, PushKey, PushStatus, PushUid,
    Report, Route, Taken, Target, Timestamp, Verdict,
};

use super::Store;
use crate::Result;
use crate::ledger::{Expansion, Ledger, OpenLeg, Swept, Walk};
use crate::quota::{Draw, Grant};

#[async_trait]
impl Ledger for Store {
    async fn accept(&self, push: NewPush) -> Result<Accepted> {
        let (shared, accepts) = (Arc::clone(&self.shared), Arc::clone(&self.accepts));
        self.run(async move { accept::accept(&shared, &accepts, push).await })
            .await
    }

    async fn status(&self, app: &AppId, uid: &PushUid) -> Result<Option<PushStatus>> {
        let (shared, app, uid, now) = (
            Arc::clone(&self.shared),
            app.clone(),
            uid.clone(),
            self.shared.clock.now(),
        );
        self.run(async move { status::status(&shared, &app, &uid, now).await })
            .await
    }

    async fn cancel(&self, app: &AppId, uid: &PushUid, now: Timestamp) -> Result<bool> {
        let (shared, app, uid) = (Arc::clone(&self.shared), app.clone(), uid.clone());
        self.run(async move {
            kept::give_up(&shared, shared.kept.remove(&app, &uid)).await?;
            sweep::cancel(&shared, &app, &uid, now).await
        })
        .await
    }

    async fn body(&self, push: PushKey) -> Result<Option<Arc<[u8]>>> {
        let shared = Arc::clone(&self.shared);
        self.run(async move { reread::body(&shared, push).await }).await
    }

    async fn open_legs(&self, now: Timestamp, limit: u32) -> Result<Vec<OpenLeg>> {
        let shared = Arc::clone(&self.shared);
        self.run(async move { expand::open_legs(&shared, now, limit).await })
            .await
    }

    async fn outstanding(&self) -> Result<Vec<(AppId, Route, u64)>> {
        let shared = Arc::clone(&self.shared);
        self.run(async move { expand::outstanding(&shared).await }).await
    }

    async fn walk(&self, push: PushKey, legs: &[(Route, u32)]) -> Result<Vec<Walk>> {
        let (shared, legs, now) = (Arc::clone(&self.shared), legs.to_vec(), self.shared.clock.now());
        self.run(async move { expand::walk(&shared, push, legs, now).await })
            .await
    }

    async fn expand(&self, walks: Vec<Walk>, now: Timestamp) -> Result<Vec<Expansion>> {
        let shared = Arc::clone(&self.shared);
        self.run(async move { expand::expand(&shared, walks, now).await }).await
    }

    async fn due_pages(&self, lane: Lane, before: Timestamp, limit: u32) -> Result<Vec<PageRef>> {
        let shared = Arc::clone(&self.shared);
        self.run(async move {
            kept::give_up(&shared, shared.kept.remove_forgotten()).await?;
            due::due_pages(&shared, lane, before, limit).await
        })
        .await
    }

    async fn waiting_page(&self, app: &AppId, route: Route) -> Result<Option<PageRef>> {
        let (shared, app, now) = (Arc::clone(&self.shared), app.clone(), self.shared.clock.now());
        self.run(async move { due::waiting_page(&shared, &app, route, now).await })
            .await
    }

    async fn take(&self, pages: &[PageId], lease: Duration) -> Result<Vec<Taken>> {
        let (shared, now) = (Arc::clone(&self.shared), self.shared.clock.now());
        let picked = shared.kept.pick(pages, lease);
        if picked.ready.len() == pages.len() {
            return Ok(picked.ready.into_iter().map(|push| push.taken(now)).collect());
        }
        let pages = pages.to_vec();
        self.run(async move { take::take(&shared, &pages, picked, lease, now).await })
            .await
    }

    async fn reread(&self, page: PageId, after: i64) -> Result<Vec<Target>> {
        let shared = Arc::clone(&self.shared);
        self.run(async move { reread::reread(&shared, page, after).await })
            .await
    }

    async fn extend(&self, pages: &[(PageId, u64)], lease: Duration) -> Result<Vec<Verdict>> {
        let (shared, pages, now) = (Arc::clone(&self.shared), pages.to_vec(), self.shared.clock.now());
        self.run(async move { extend::extend(&shared, &pages, lease, now).await })
            .await
    }

    async fn report(&self, reports: Vec<Report>, now: Timestamp) -> Result<Vec<Verdict>> {
        let shared = Arc::clone(&self.shared);
        self.run(async move { report::report(&shared, reports, now).await })
            .await
    }

    async fn set_hold(&self, app: &AppId, route: Route, reason: Option<HoldReason>, now: Timestamp) -> Result<Hold> {
        let (shared, app) = (Arc::clone(&self.shared), app.clone());
        self.run(async move { holds::set(&shared, &app, route, reason, now).await })
            .await
    }

    async fn holds(&self) -> Result<Vec<Hold>> {
        let shared = Arc::clone(&self.shared);
        self.run(async move { holds::all(&shared).await }).await
    }

    async fn draw(&self, app: &AppId, provider: Provider, draw: Draw) -> Result<Grant> {
        let (shared, app) = (Arc::clone(&self.shared), app.clone());
        self.run(async move { quota::draw(&shared, &app, provider, draw).await })
            .await
    }

    async fn sweep(&self, now: Timestamp) -> Result<Swept> {
        let shared = Arc::clone(&self.shared);
        self.run(async move { sweep::sweep(&shared, now).await }).await
    }

    async fn forget(&self, pushes_before: Timestamp, gone_before: Timestamp) -> Result<u64> {
        let shared = Arc::clone(&self.shared);
        self.run(async move { forget::step(&shared, pushes_before, gone_before).await })
            .await
    }

    async fn close(&self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        self.run(async move { kept::give_up(&shared, shared.kept.drain()).await })
            .await
    }

    async fn flow(&self, push: PushKey, now: Timestamp) -> Result<Option<Flow>> {
        let shared = Arc::clone(&self.shared);
        self.run(async move { extend::flow(&shared, push, now).await }).await
    }
}
