//! How a route goes on hold, and comes back.

use bugle_model::{AppId, Hold, HoldReason, Route, Timestamp};

/// When a hold ends, so many pages are handed over at once; the queue finds the rest when it reads on.
pub(crate) const WAKE: usize = 1_000;

/// What has to be done when a hold was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is not on hold, as before.
    Nothing,
    /// The row is written.
    Write,
    /// Its pages may go, and its legs be expanded; then the row is written.
    Release,
}

/// A route that was never on hold.
pub(crate) fn never(app: AppId, route: Route, now: Timestamp) -> Hold {
    Hold {
        app,
        route,
        reason: None,
        since: now,
        paused_ms: 0,
    }
}

/// Puts the route on hold, or, without a reason, takes it off.
pub(crate) fn turn(hold: &mut Hold, reason: Option<HoldReason>, now: Timestamp) -> Turn {
    let before = std::mem::replace(&mut hold.reason, reason);
    match (before, reason) {
        (None, None) => return Turn::Nothing,
        // It goes on for another reason: the clock has stood still since the first.
        (Some(_), Some(_)) => {}
        (None, Some(_)) => hold.since = now,
        (Some(_), None) => {
            hold.paused_ms = hold.paused_ms.saturating_add(now.0.saturating_sub(hold.since.0).max(0));
            return Turn::Release;
        }
    }
    Turn::Write
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_stands_still_from_the_first_reason_to_the_end_of_the_last() {
        let mut hold = never(AppId::default_app(), Route::UNKNOWN, Timestamp(0));
        assert_eq!(turn(&mut hold, None, Timestamp(5)), Turn::Nothing);
        assert_eq!(turn(&mut hold, Some(HoldReason::Outage), Timestamp(10)), Turn::Write);
        assert_eq!(
            turn(&mut hold, Some(HoldReason::Credential), Timestamp(20)),
            Turn::Write
        );
        assert_eq!(hold.since, Timestamp(10));
        assert_eq!(turn(&mut hold, None, Timestamp(40)), Turn::Release);
        assert_eq!((hold.reason, hold.paused_ms), (None, 30));
    }
}
