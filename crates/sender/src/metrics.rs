//! Names of this crate's metrics.

/// Counter: targets that ended or must be tried again, by `provider`, `platform` and `outcome`.
pub(crate) const OUTCOMES: &str = "bugle_sender_outcomes_total";
/// Gauge: pages in work.
pub(crate) const PAGES: &str = "bugle_sender_pages_in_work";
/// Gauge: 1 while a route is on hold, by `app`, `provider`, `platform`.
pub(crate) const HELD: &str = "bugle_sender_route_held";
/// Counter: answers that belonged to a page which somebody else had taken over meanwhile.
pub(crate) const LOST_PAGES: &str = "bugle_sender_lost_pages_total";
/// Counter: reports that the store could not write and that are repeated.
pub(crate) const FAILED_REPORTS: &str = "bugle_sender_failed_reports_total";
