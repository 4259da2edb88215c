//! The account of a push while it is in work: what its legs' rows have, and what settling its pages now would add (see `account`).

use std::collections::BTreeMap;

use bugle_model::{Counts, HoldReason, LegStatus, Progress, Route};

use super::codes;
use super::page::targeted;
use crate::Result;

/// What is known of a route so far.
#[derive(Default)]
pub(crate) struct Sum {
    pub(crate) targeted: u64,
    pub(crate) counts: Counts,
    pub(crate) ended: bool,
}

/// The same of all routes, by their codes. Legs come first, then pages.
#[derive(Default)]
pub(crate) struct Sums(BTreeMap<u8, Sum>);

impl Sums {
    /// What a leg's row has.
    pub(crate) fn leg(&mut self, code: u8, sum: Sum) {
        self.0.insert(code, sum);
    }

    /// A leg's page in work.
    pub(crate) fn page(&mut self, leg: Route, expected: u64, progress: &Progress) {
        let waiting = targeted(expected, progress) - progress.ended();
        let leg = self.0.entry(leg.code()).or_default();
        leg.targeted = (leg.targeted + waiting).saturating_sub(expected);
        self.counts(&progress.counts);
    }

    /// What has ended of a page, settled or not.
    pub(crate) fn counts(&mut self, counts: &[(Route, Counts)]) {
        for (route, counts) in counts.iter().filter(|(_, counts)| counts.total() > 0) {
            let sum = self.0.entry(route.code()).or_default();
            sum.targeted += counts.total();
            sum.counts += *counts;
            sum.ended = false;
        }
    }

    /// What still waits of a push's own page.
    pub(crate) fn waiting(&mut self, waiting: &[(Route, u64)]) {
        for (route, targets) in waiting {
            self.0.entry(route.code()).or_default().targeted += targets;
        }
    }

    /// As callers see them. `held` says why a route is on hold, and is asked of legs that have not ended.
    pub(crate) fn legs(self, mut held: impl FnMut(Route) -> Result<Option<HoldReason>>) -> Result<Vec<LegStatus>> {
        let leg = |(code, sum): (u8, Sum)| {
            let route = codes::route(code)?;
            Ok(LegStatus {
                route,
                targeted: sum.targeted,
                counts: sum.counts,
                held: if sum.ended { None } else { held(route)? },
            })
        };
        self.0.into_iter().map(leg).collect()
    }
}
