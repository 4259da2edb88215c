//! What a push is for, whether it may be sent, and as what it ends.

use std::time::Duration;

use bugle_model::{Accepted, Flow, Provider, PushState, Route, Timestamp};

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

/// What a push that was not inserted is beside the one that has its uid: the hashes are of what was asked for.
pub(crate) fn compare(there: &[u8], new: &[u8]) -> Accepted {
    if there == new {
        Accepted::Repeated
    } else {
        Accepted::Conflict
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

/// The state that callers see: what stands in the row, and what has come to pass without anybody writing it down.
pub(crate) fn shown_state(state: PushState, due: Timestamp, expires_at: Timestamp, now: Timestamp) -> PushState {
    match state {
        PushState::Running | PushState::Paused if expires_at <= now => PushState::Expired,
        PushState::Running if now < due => PushState::Scheduled,
        state => state,
    }
}

/// The state of a push whose last page has ended at `now`. `rejected` = every leg that had targets is.
pub(crate) fn end_state(state: PushState, expires_at: Timestamp, rejected: bool, now: Timestamp) -> PushState {
    match state {
        PushState::Cancelled | PushState::Expired => state,
        _ if expires_at <= now => PushState::Expired,
        _ if rejected => PushState::Rejected,
        _ => PushState::Done,
    }
}
