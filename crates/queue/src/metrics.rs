//! Names of this crate's metrics.

/// Gauge: references that wait, by `lane`.
pub(crate) const WAITING: &str = "bugle_queue_waiting_pages";
/// Counter: references dropped for lack of room, to be read from the ledger later, by `lane`.
pub(crate) const DROPPED: &str = "bugle_queue_dropped_pages_total";
