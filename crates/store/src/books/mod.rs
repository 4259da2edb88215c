//! What both backends compute alike: no SQL, no rows.

pub(crate) mod left_over;
pub(crate) mod plan;
pub(crate) mod reports;

use std::time::Duration;

use bugle_model::{Counts, Flow, Progress, Provider, PushState, Route, Timestamp};

/// So many final answers, all of them about the payload, reject a leg.
pub(crate) const EVIDENCE: u64 = 100;

/// The providers that a push has a payload for: bit n = the provider with code n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Providers(pub(crate) i64);

impl Providers {
    pub(crate) fn of(providers: &[Provider]) -> Self {
        Self(providers.iter().fold(0, |bits, p| bits | 1 << p.code()))
    }

    pub(crate) fn bits(self) -> i64 {
        self.0
    }

    /// Is there a payload for what goes over this route?
    pub(crate) fn serve(self, route: Route) -> bool {
        route.provider.is_some_and(|p| self.0 & (1 << p.code()) != 0)
    }
}

/// May a push in this state be sent at this moment? `rejected` = no provider accepts it on this leg.
pub(crate) fn flow(state: PushState, expires_at: Timestamp, rejected: bool, now: Timestamp) -> Flow {
    match state {
        PushState::Cancelled => Flow::Cancelled,
        PushState::Expired => Flow::Expired,
        _ if rejected || state == PushState::Rejected => Flow::Rejected,
        _ if expires_at.since(now) == Duration::ZERO => Flow::Expired,
        PushState::Paused => Flow::Paused,
        _ => Flow::Running,
    }
}

/// The state of a push whose last page has ended at `now`.
pub(crate) fn end_state(state: PushState, expires_at: Timestamp, rejected: bool, now: Timestamp) -> PushState {
    match state {
        PushState::Cancelled | PushState::Expired => state,
        _ if expires_at <= now => PushState::Expired,
        _ if rejected => PushState::Rejected,
        _ => PushState::Done,
    }
}

/// How many targets a page stands for while it is in work: those that were expected, or more if more turned up. A device with an old key may
/// subscribe after the walk, so that more are found than were expected.
pub(crate) fn targeted(expected: u64, progress: &Progress) -> u64 {
    let found = progress.ended() + (progress.open.len() + progress.left_over.len()) as u64;
    expected.max(found)
}

/// Do these answers reject a leg?
pub(crate) fn is_refused(answered: u64, payload: u64) -> bool {
    answered >= EVIDENCE && payload >= answered
}

/// What changes in a leg.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Change {
    pub(crate) targeted: i64,
    pub(crate) outstanding: i64,
    pub(crate) counts: Counts,
    pub(crate) answered: u64,
    pub(crate) payload: u64,
}
