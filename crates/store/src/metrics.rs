//! The store's metrics.

use std::time::Duration;

/// Writes that shared one commit.
pub const GROUP_JOBS: &str = "bugle_store_group_jobs";
/// How long commits take, in seconds.
pub const COMMIT_SECONDS: &str = "bugle_store_commit_seconds";
/// Length of the write-ahead log's file, in bytes.
pub const WAL_BYTES: &str = "bugle_store_wal_bytes";

/// A group was committed.
#[expect(clippy::cast_precision_loss, reason = "a group has at most some thousand jobs")]
pub(crate) fn committed(jobs: usize, took: Duration) {
    metrics::histogram!(GROUP_JOBS).record(jobs as f64);
    metrics::histogram!(COMMIT_SECONDS).record(took.as_secs_f64());
}

/// The write-ahead log was measured.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 bytes")]
pub(crate) fn wal(bytes: u64) {
    metrics::gauge!(WAL_BYTES).set(bytes as f64);
}
