//! A database that does nothing it is asked to.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bugle_model::{
    Accepted, AppId, Channel, DeviceDetails, DeviceFilter, DeviceId, DeviceKey, DeviceSelector, Flow, Hold, HoldReason,
    Lane, Listing, NewPush, PageId, PageRef, Paging, Provider, PushKey, PushStatus, PushUid, Registration, Report,
    Route, Subscription, SubscriptionFilter, Taken, Target, Timestamp, Verdict,
};
use bugle_store::{Draw, Error, Expansion, Grant, Ledger, OpenLeg, Registered, Registry, Result, Swept, Walk};

/// Every call fails as on a full disk.
pub(crate) struct Broken;

fn full<T>() -> Result<T> {
    Err(Error::Unavailable("disk full: SECRET PATH".into()))
}

#[async_trait]
impl Registry for Broken {
    async fn register(&self, _: &AppId, _: Registration, _: Timestamp) -> Result<Registered> {
        full()
    }
    async fn remove(&self, _: &AppId, _: &DeviceSelector) -> Result<u64> {
        full()
    }
    async fn devices(&self, _: &AppId, _: &DeviceFilter, _: &Paging, _: bool) -> Result<Listing<DeviceDetails>> {
        full()
    }
    async fn subscribe(&self, _: &AppId, _: &DeviceId, _: &[Channel], _: Timestamp) -> Result<bool> {
        full()
    }
    async fn unsubscribe(&self, _: &AppId, _: &DeviceId, _: &[Channel]) -> Result<bool> {
        panic!("as a bug would");
    }
    async fn subscriptions(&self, _: &AppId, _: &SubscriptionFilter, _: &Paging) -> Result<Listing<Subscription>> {
        full()
    }
    async fn restore(&self, _: &AppId, _: Timestamp) -> Result<u64> {
        full()
    }
    async fn remove_inactive(&self, _: DeviceKey, _: Timestamp, _: Timestamp) -> Result<(u64, Option<DeviceKey>)> {
        full()
    }
    async fn ping(&self) -> Result<()> {
        full()
    }
}

#[async_trait]
impl Ledger for Broken {
    async fn accept(&self, _: NewPush) -> Result<Accepted> {
        full()
    }
    async fn status(&self, _: &AppId, _: &PushUid) -> Result<Option<PushStatus>> {
        full()
    }
    async fn cancel(&self, _: &AppId, _: &PushUid, _: Timestamp) -> Result<bool> {
        full()
    }
    async fn body(&self, _: PushKey) -> Result<Option<Arc<[u8]>>> {
        full()
    }
    async fn open_legs(&self, _: Timestamp, _: u32) -> Result<Vec<OpenLeg>> {
        full()
    }
    async fn outstanding(&self) -> Result<Vec<(AppId, Route, u64)>> {
        full()
    }
    async fn walk(&self, _: PushKey, _: &[(Route, u32)]) -> Result<Vec<Walk>> {
        full()
    }
    async fn expand(&self, _: Vec<Walk>, _: Timestamp) -> Result<Vec<Expansion>> {
        full()
    }
    async fn due_pages(&self, _: Lane, _: Timestamp, _: u32) -> Result<Vec<PageRef>> {
        full()
    }
    async fn waiting_page(&self, _: &AppId, _: Route) -> Result<Option<PageRef>> {
        full()
    }
    async fn take(&self, _: &[PageId], _: Duration) -> Result<Vec<Taken>> {
        full()
    }
    async fn reread(&self, _: PageId, _: i64) -> Result<Vec<Target>> {
        full()
    }
    async fn extend(&self, _: &[(PageId, u64)], _: Duration) -> Result<Vec<Verdict>> {
        full()
    }
    async fn report(&self, _: Vec<Report>, _: Timestamp) -> Result<Vec<Verdict>> {
        full()
    }
    async fn set_hold(&self, _: &AppId, _: Route, _: Option<HoldReason>, _: Timestamp) -> Result<Hold> {
        full()
    }
    async fn holds(&self) -> Result<Vec<Hold>> {
        full()
    }
    async fn draw(&self, _: &AppId, _: Provider, _: Draw) -> Result<Grant> {
        full()
    }
    async fn sweep(&self, _: Timestamp) -> Result<Swept> {
        full()
    }
    async fn forget(&self, _: Timestamp, _: Timestamp) -> Result<u64> {
        full()
    }
    async fn flow(&self, _: PushKey, _: Timestamp) -> Result<Option<Flow>> {
        full()
    }
}
