//! Names of this crate's metrics.

/// Counter: targets handed out in pages.
pub(crate) const EXPANDED: &str = "bugle_fanout_expanded_targets_total";
/// Counter: pages that were ended without having been sent.
pub(crate) const SWEPT_PAGES: &str = "bugle_fanout_swept_pages_total";
/// Counter: rounds of a loop that failed for lack of the store, by `loop`.
pub(crate) const FAILED_ROUNDS: &str = "bugle_fanout_failed_rounds_total";
/// Counter: devices that were removed because they had not registered for `devices.max_inactive`.
pub(crate) const INACTIVE_DEVICES: &str = "bugle_fanout_inactive_devices_total";
