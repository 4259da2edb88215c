//! Pages: the pieces of work that senders take, and what they report of them.
//!
//! A page's targets are numbered by **position**: in a range of an audience it is the device's key, in a list of explicit targets
//! the index counted from 1. Targets are started in the order of their positions, so "everything up to here, but these"
//! describes exactly what has been started ([`Progress`]).

use std::time::Duration;

use crate::{AppId, Counts, DeviceKey, PushKey, Route, Timestamp, Token};

/// How soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Few explicit targets, or asked for.
    Urgent,
    /// Broadcasts.
    Bulk,
}

impl Lane {
    /// The number that stands for it in the database.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Urgent => 0,
            Self::Bulk => 1,
        }
    }

    /// The lane of that number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Urgent, Self::Bulk].into_iter().find(|l| l.code() == code)
    }

    /// The name in requests and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Bulk => "bulk",
        }
    }

    /// The lane of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Urgent, Self::Bulk]
            .into_iter()
            .find(|lane| lane.as_str() == name)
    }
}

/// Names a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageId {
    /// The push.
    pub push: PushKey,
    /// The leg; `None` = the push's own row, which is its only page and may have targets of several routes.
    pub leg: Option<Route>,
    /// Counts the pages of a leg from 1; 0 for the push's own row.
    pub seq: i64,
}

/// A hint that a page waits. It may be lost, come twice or come too late: the ledger decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRef {
    /// The page.
    pub id: PageId,
    /// Whose it is, for the fair share.
    pub app: AppId,
    /// How soon.
    pub lane: Lane,
    /// Not to be taken before this.
    pub due: Timestamp,
}

/// May a page's targets be sent now, and if not, as what do they end?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flow {
    /// Yes.
    Running,
    /// Not now.
    Paused,
    /// Called off: what is left ends as cancelled.
    Cancelled,
    /// Too late: what is left ends as expired.
    Expired,
    /// No provider accepts it: what is left ends as failed.
    Rejected,
}

/// Where one message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetKind {
    /// To one token.
    Token(Token),
    /// To a topic of the provider's own.
    Topic(Box<str>),
    /// To a condition of the provider's own.
    Condition(Box<str>),
    /// Nowhere; it is only counted.
    Skip(Skip),
}

/// Why a target is not sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skip {
    /// No such device.
    Unknown,
    /// The device's owner or subscriptions no longer match what the push asks for.
    NoLongerMatches,
    /// The push has no payload for the device's provider.
    NoPayload,
}

/// One target, read when its page was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its place in the page.
    pub position: i64,
    /// The provider and the platform it goes over, and is counted under.
    pub route: Route,
    /// Where it goes.
    pub kind: TargetKind,
    /// The registered device behind the token; `None` for raw tokens and topics.
    pub device: Option<DeviceKey>,
    /// Tries that were used up before.
    pub attempts: u8,
    /// When it was first tried, on its route's clock ([`crate::Hold::route_clock`]); 0 = never yet.
    pub first_try: i64,
    /// It failed while the provider accepted others: its failures say nothing of the provider.
    pub suspect: bool,
}

/// A target that was started and must be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOver {
    /// Its place in the page.
    pub position: i64,
    /// The provider and the platform it goes over.
    pub route: Route,
    /// Not before this.
    pub due: Timestamp,
    /// Tries used up.
    pub attempts: u8,
    /// When it was first tried, on its route's clock; 0 = never yet.
    pub first_try: i64,
    /// See [`Target::suspect`].
    pub suspect: bool,
}

/// What has become of a page so far: the whole of it, not a change.
///
/// Every started target is in exactly one of `open`, `counts` and `left_over`; those with a position above `position` have not been started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// The highest position started; 0 = none.
    pub position: i64,
    /// Positions of started targets without an outcome, ascending. Whoever takes the page next sends them again.
    pub open: Vec<i64>,
    /// How many ended how, by route.
    pub counts: Vec<(Route, Counts)>,
    /// Those to be tried again. They become pages of their own when this one is settled.
    pub left_over: Vec<LeftOver>,
}

impl Progress {
    /// The counts of a route, to be added to.
    pub fn counts_mut(&mut self, route: Route) -> &mut Counts {
        let at = self.counts.iter().position(|(r, _)| *r == route).unwrap_or_else(|| {
            self.counts.push((route, Counts::default()));
            self.counts.len() - 1
        });
        &mut self.counts[at].1
    }

    /// All that have ended, over all routes.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.counts.iter().map(|(_, counts)| counts.total()).sum()
    }
}

/// A page that was taken under a lease, with everything needed to send it.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The page.
    pub id: PageId,
    /// The fence: reports that name another epoch change nothing.
    pub epoch: u64,
    /// The app.
    pub app: AppId,
    /// How soon.
    pub lane: Lane,
    /// The push's expiry.
    pub expires_at: Timestamp,
    /// May it be sent?
    pub flow: Flow,
    /// What earlier holders achieved; the reports of this one go on from here.
    pub progress: Progress,
    /// What is still to be sent, in the order of positions: those that were open, and all above `progress.position`.
    pub targets: Vec<Target>,
    /// How long ago the targets were read.
    pub age: Duration,
    /// The push's body, where it came along at no cost; otherwise ask for it by the push's key.
    pub body: Option<Vec<u8>>,
}

/// A token that a provider declared dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// The provider and the platform.
    pub route: Route,
    /// The token; the device is removed only if it still has it.
    pub token: Token,
    /// The provider's word.
    pub reason: &'static str,
    /// Only if its latest registration is before this; `None` = whenever it was.
    pub registered_before: Option<Timestamp>,
}

/// What happens to a page after a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The holder goes on with it.
    Continue,
    /// The lease ends, the page waits until then.
    GiveBack(Timestamp),
    /// Every target has ended or is a left-over: the page ends.
    Settle,
}

/// What a holder reports of a page.
#[derive(Debug, Clone)]
pub struct Report {
    /// The page.
    pub id: PageId,
    /// The fence.
    pub epoch: u64,
    /// What has become of it so far, all of it.
    pub progress: Progress,
    /// Providers' final answers (accepted, device, payload, mismatch) since the last report, …
    pub answered: u32,
    /// … and how many of those were of scope payload. A leg whose first 100 are all so is rejected.
    pub payload: u32,
    /// Tokens that were found dead since the last report, at most 256; they are in `progress.counts` as invalid.
    pub dead: Vec<Dead>,
    /// What happens next.
    pub next: Next,
}

/// What the ledger said to a report or an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is written; go on under this flow.
    Written(Flow),
    /// Somebody else has the page, or it is settled: nothing was written, stop.
    Lost,
}

/// The longest wait that a left-over may be given: no clock or provider can push a target beyond a day.
pub const MAX_WAIT: Duration = Duration::from_hours(24);
