//! Names of this crate's metrics.

/// Gauge: references that wait, by `lane`.
pub(crate) const WAITING: &str = "bugle_queue_waiting_pages";
/// Counter: references dropped for lack of room, to be read from the ledger later, by `lane`.
pub(crate) const DROPPED: &str = "bugle_queue_dropped_pages_total";
/// Counter: references that were announced to other processes.
pub(crate) const ANNOUNCED: &str = "bugle_queue_announced_pages_total";
/// Counter: references that other processes announced.
pub(crate) const HEARD: &str = "bugle_queue_heard_pages_total";
/// Counter: connections that were lost and made again, or tried to, by `connection`.
pub(crate) const RECONNECTS: &str = "bugle_queue_reconnects_total";
/// Counter: entries of Redis that another process had read and not acknowledged in time, by `lane`.
pub(crate) const CLAIMED: &str = "bugle_queue_claimed_pages_total";
/// Counter: references that were added again because Redis may have lost them, by `lane`.
pub(crate) const RESCUED: &str = "bugle_queue_rescued_pages_total";
