//! When left-overs are due, and into how many pages they fall.

use bugle_model::{LeftOver, MAX_PAGE, Timestamp};

/// Shorter waits are rounded up to half a second, others to the second.
const SHORT_MS: i64 = 2_000;

/// The end of the second (of its half, for short waits), so that none of a page's targets goes before its time; what is due already is due now.
pub(crate) fn due(due: Timestamp, now: Timestamp) -> Timestamp {
    let wait = due.0.saturating_sub(now.0);
    if wait <= 0 {
        return now;
    }
    let grain = if wait < SHORT_MS { 500 } else { 1_000 };
    Timestamp(due.0.saturating_add(grain - 1).div_euclid(grain).saturating_mul(grain))
}

/// Into how many pages these fall, at most.
pub(crate) fn groups(left_over: &[LeftOver]) -> usize {
    let mut groups: Vec<(u8, i64)> = (left_over.iter())
        .map(|l| (l.route.code(), l.due.0.div_euclid(500)))
        .collect();
    groups.sort_unstable();
    groups.dedup();
    // One that waited already and was full.
    groups.len() + 1 + left_over.len() / MAX_PAGE
}
