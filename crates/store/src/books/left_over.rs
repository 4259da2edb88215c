//! Targets to be tried again, gathered into the pages that they will be: when those are due, and how many they are.

use std::collections::BTreeMap;

use bugle_model::{LeftOver, MAX_PAGE, PageId, PushKey, Route, Timestamp};

use crate::codec::targets::{Stored, What};

/// Shorter waits are rounded up to half a second, others to the second.
const SHORT_MS: i64 = 2_000;

/// What makes targets fit on one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group {
    pub(crate) push: PushKey,
    /// The route's code.
    pub(crate) leg: u8,
    pub(crate) due: Timestamp,
}

impl Group {
    /// Names a page of it; `leg` is its route.
    pub(crate) fn page(&self, leg: Route, seq: i64) -> PageId {
        PageId {
            push: self.push,
            leg: Some(leg),
            seq,
        }
    }
}

/// Left-overs of the pages that a transaction settles.
pub(crate) struct LeftOvers {
    pub(crate) now: Timestamp,
    pub(crate) groups: BTreeMap<Group, Vec<Stored>>,
}

impl LeftOvers {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            now,
            groups: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, push: PushKey, left: &LeftOver, what: What) {
        let group = Group {
            push,
            leg: left.route.code(),
            due: due(left.due, self.now),
        };
        self.groups.entry(group).or_default().push(Stored {
            what,
            attempts: left.attempts,
            first_try: left.first_try,
            suspect: left.suspect,
        });
    }
}

/// The end of the second (of its half, for short waits), so that none of a page's targets goes before its time; what is due already is due now.
fn due(due: Timestamp, now: Timestamp) -> Timestamp {
    let wait = due.0.saturating_sub(now.0);
    if wait <= 0 {
        return now;
    }
    let grain = if wait < SHORT_MS { 500 } else { 1_000 };
    Timestamp(due.0.saturating_add(grain - 1).div_euclid(grain).saturating_mul(grain))
}

/// Cuts off what does not fit on a page beside the targets that it has.
pub(crate) fn split_off_rest(stored: &mut Vec<Stored>, there: usize) -> Vec<Stored> {
    stored.split_off(stored.len().min(MAX_PAGE.saturating_sub(there)))
}

/// Into how many pages these fall, at most.
pub(super) fn pages(left_over: &[LeftOver]) -> usize {
    let mut groups: Vec<(u8, i64)> = (left_over.iter())
        .map(|l| (l.route.code(), l.due.0.div_euclid(500)))
        .collect();
    groups.sort_unstable();
    groups.dedup();
    // One that waited already and was full.
    groups.len() + 1 + left_over.len() / MAX_PAGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_before_its_time_and_short_waits_are_rounded_less() {
        let now = Timestamp(10_000);
        for (asked, rounded) in [
            (9_000, 10_000),
            (10_000, 10_000),
            (10_001, 10_500),
            (10_500, 10_500),
            (11_999, 12_000),
            (12_000, 12_000),
            (12_001, 13_000),
        ] {
            assert_eq!(due(Timestamp(asked), now), Timestamp(rounded), "{asked}");
        }
        assert!(due(Timestamp(i64::MAX), now).0 > i64::MAX - 1_000);
    }
}
