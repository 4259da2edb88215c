//! What may be asked of the ledger.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bugle_model::{
    Accepted, AppId, DeviceKey, Flow, Hold, Lane, NewPush, PageId, PageRef, Provider, PushKey, PushStatus, PushUid,
    Report, Route, Taken, Target, Timestamp, Verdict,
};

use crate::Result;
use crate::quota::{Draw, Grant};

/// A leg whose audience has not been walked to its end.
#[derive(Debug, Clone)]
pub struct OpenLeg {
    /// The push.
    pub push: PushKey,
    /// The leg.
    pub route: Route,
    /// The app.
    pub app: AppId,
    /// Targets handed out and not ended yet: in pages, unsettled or left over.
    pub outstanding: u64,
}

/// A part of an audience: the devices after one key, up to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Not this one.
    pub after: DeviceKey,
    /// This one still.
    pub upto: DeviceKey,
    /// How many there were when it was walked.
    pub count: u32,
}

/// A walk over a leg's audience that has been read and not been written down.
#[derive(Debug, Clone)]
pub struct Walk {
    /// The push.
    pub push: PushKey,
    /// The leg.
    pub route: Route,
    /// The cursor that the walk started from.
    pub from: DeviceKey,
    /// Where it got to.
    pub to: DeviceKey,
    /// The newest key that is meant, fixed by the leg's first walk.
    pub bound: DeviceKey,
    /// The pages to be, in order, at most 1 000 devices each.
    pub ranges: Vec<Range>,
    /// The audience ends here.
    pub closed: bool,
}

/// What became of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expansion {
    /// Its pages are in the ledger and have been handed over.
    Done,
    /// Somebody else has moved the cursor, or the leg no longer runs: nothing was written.
    Stale,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Pages that were settled without having been sent.
    pub pages: u64,
    /// Pushes that ended.
    pub pushes: u64,
    /// There is more to sweep at once.
    pub more: bool,
}

/// Pushes, their legs and pages, and the holds.
///
/// The path of a push: [`accept`](Ledger::accept) → [`open_legs`](Ledger::open_legs), [`walk`](Ledger::walk), [`expand`](Ledger::expand) →
/// [`due_pages`](Ledger::due_pages) → [`take`](Ledger::take) → [`report`](Ledger::report) until settled. [`sweep`](Ledger::sweep) ends what nobody sends.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Writes a push down. Once this has returned [`Accepted::New`], no crash loses it.
    async fn accept(&self, push: NewPush) -> Result<Accepted>;

    /// The account of a push, exact at one moment. `None` = unknown.
    async fn status(&self, app: &AppId, uid: &PushUid) -> Result<Option<PushStatus>>;

    /// Calls a push off: its legs close, free pages end as cancelled. `false` = unknown; a push that has ended stays as it is.
    async fn cancel(&self, app: &AppId, uid: &PushUid, now: Timestamp) -> Result<bool>;

    /// The body of a push. `None` = unknown, or it has ended: bodies, targets and channels are erased then.
    async fn body(&self, push: PushKey) -> Result<Option<Arc<[u8]>>>;

    /// Legs that are due, run, and have audience left, the one due longest ago first; those on hold too.
    async fn open_legs(&self, now: Timestamp, limit: u32) -> Result<Vec<OpenLeg>>;

    /// Targets in unsettled pages, left-overs too, by app and route, over all legs that have not ended (closed ones as well): what fills the windows.
    async fn outstanding(&self) -> Result<Vec<(AppId, Route, u64)>>;

    /// Reads on in the audiences of a push's legs, in each for at most so many devices, cut into pages of at most 1 000. Writes nothing. Legs that are no
    /// longer open are left out.
    async fn walk(&self, push: PushKey, legs: &[(Route, u32)]) -> Result<Vec<Walk>>;

    /// Writes walks of one push down, each only if its leg's cursor still stands where the walk began: inserts the pages, moves the cursors, in one
    /// transaction. One answer per walk, in order.
    async fn expand(&self, walks: Vec<Walk>, now: Timestamp) -> Result<Vec<Expansion>>;

    /// Pages of a lane that are due at `before` or earlier, by (due, id), leaving out those of routes on hold and those in somebody's hands.
    async fn due_pages(&self, lane: Lane, before: Timestamp, limit: u32) -> Result<Vec<PageRef>>;

    /// One page that waits on this route, the one due longest ago, on hold or not, due or not: what a probe takes. None of a push that is scheduled
    /// for later or no longer runs, and none that is in somebody's hands.
    async fn waiting_page(&self, app: &AppId, route: Route) -> Result<Option<PageRef>>;

    /// Takes pages that are free: for each that still exists and is free a lease of `lease` and a new epoch; reads progress and targets.
    ///
    /// Pages that are settled, or in other hands, are left out. A page whose push no longer runs comes with that flow, so that it can be settled.
    async fn take(&self, pages: &[PageId], lease: Duration) -> Result<Vec<Taken>>;

    /// Reads targets of a taken page once more, from after position `after`, for those that were read too long ago to be trusted.
    async fn reread(&self, page: PageId, after: i64) -> Result<Vec<Target>>;

    /// Prolongs leases. One verdict per page, in order.
    async fn extend(&self, pages: &[(PageId, u64)], lease: Duration) -> Result<Vec<Verdict>>;

    /// Writes reports down, each fully or (when its epoch has moved on) not at all, the dead being forgotten in the same transaction as they are counted.
    /// One verdict per report, in order.
    ///
    /// Large batches are split over several transactions; an error says that some may not have been written: send them again, that is harmless.
    async fn report(&self, reports: Vec<Report>, now: Timestamp) -> Result<Vec<Verdict>>;

    /// Puts a route on hold, or ends its hold (`reason` = `None`). Returns the route's state, with its clock.
    async fn set_hold(
        &self,
        app: &AppId,
        route: Route,
        reason: Option<bugle_model::HoldReason>,
        now: Timestamp,
    ) -> Result<Hold>;

    /// Every route that is or was on hold.
    async fn holds(&self) -> Result<Vec<Hold>>;

    /// Draws from the quota that an app has with a provider, shared by all processes, and tells or hears of throttles, on the store's own clock.
    ///
    /// A hint that may be lost with a crash of the database: then the rate begins anew.
    async fn draw(&self, app: &AppId, provider: Provider, draw: Draw) -> Result<Grant>;

    /// Ends what nobody sends: expired pushes, and free pages of pushes that no longer run. Does a bounded step.
    async fn sweep(&self, now: Timestamp) -> Result<Swept>;

    /// Forgets accounts of pushes that ended before `pushes_before`, and gone devices from before `gone_before`. Does a bounded step; returns how many pushes and devices went.
    async fn forget(&self, pushes_before: Timestamp, gone_before: Timestamp) -> Result<u64>;

    /// This process takes no more pages: those that were leased for it when they were accepted are everybody's again.
    async fn close(&self) -> Result<()> {
        Ok(())
    }

    /// Under what flow is a push now? For a holder that wants to know between reports; [`Flow::Rejected`] is a leg's, and comes with verdicts only.
    /// `None` = unknown, or ended.
    async fn flow(&self, push: PushKey, now: Timestamp) -> Result<Option<Flow>>;
}
