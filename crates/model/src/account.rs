//! The exact account of a push.

use std::ops::AddAssign;

use crate::{HoldReason, PushUid, Route, Timestamp};

/// How targets ended. The sum of the six, and what still waits, is what was targeted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Accepted by the provider.
    pub sent: u64,
    /// Refused for good, or given up.
    pub failed: u64,
    /// Dead tokens.
    pub invalid: u64,
    /// Unknown, no longer matching, or without a payload for the provider.
    pub skipped: u64,
    /// Reached too late.
    pub expired: u64,
    /// Called off.
    pub cancelled: u64,
}

impl Counts {
    /// All that have ended.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sent + self.failed + self.invalid + self.skipped + self.expired + self.cancelled
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.failed += other.failed;
        self.invalid += other.invalid;
        self.skipped += other.skipped;
        self.expired += other.expired;
        self.cancelled += other.cancelled;
    }
}

/// How far a push is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PushState {
    /// Its time has not come.
    Scheduled,
    /// Being sent.
    Running,
    /// Stopped for the moment by its owner.
    Paused,
    /// Ended by itself.
    Done,
    /// Ended because no provider accepts it in this form.
    Rejected,
    /// Called off by its owner.
    Cancelled,
    /// Ended because its time was over.
    Expired,
}

impl PushState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Scheduled,
        Self::Running,
        Self::Paused,
        Self::Done,
        Self::Rejected,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The name on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }
}

/// The account of one leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegStatus {
    /// The provider and the platform.
    pub route: Route,
    /// Targets handed out so far.
    pub targeted: u64,
    /// How those ended that have ended.
    pub counts: Counts,
    /// Why the route is on hold now, if it is and the leg has not ended.
    pub held: Option<HoldReason>,
}

impl LegStatus {
    /// Targeted and not ended yet.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.targeted.saturating_sub(self.counts.total())
    }
}

/// The account of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushStatus {
    /// The push.
    pub uid: PushUid,
    /// How far it is.
    pub state: PushState,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its last leg ended.
    pub ended_at: Option<Timestamp>,
    /// One account per leg, in the order of the route's code. The push's own account is their sum.
    pub legs: Vec<LegStatus>,
}
