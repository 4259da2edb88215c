//! Counts outcomes in the thread, and hands them to the metrics in batches: a metric's look-up per push would cost more than the push's own bookkeeping.

use std::cell::RefCell;

use bugle_model::Route;

use crate::metrics as names;

/// One thread's outcomes since the last flush.
#[derive(Default)]
pub(crate) struct Tally(RefCell<Vec<(Route, &'static str, u64)>>);

impl Tally {
    pub(crate) fn count(&self, route: Route, outcome: &'static str) {
        let mut counts = self.0.borrow_mut();
        match counts
            .iter_mut()
            .find(|(r, o, _)| *r == route && std::ptr::eq(*o, outcome))
        {
            Some((_, _, n)) => *n += 1,
            None => counts.push((route, outcome, 1)),
        }
    }

    pub(crate) fn flush(&self) {
        for (route, outcome, n) in self.0.borrow_mut().drain(..) {
            metrics::counter!(names::OUTCOMES, "provider" => route.provider_str(), "platform" => route.platform_str(), "outcome" => outcome).increment(n);
        }
    }
}
