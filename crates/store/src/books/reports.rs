//! Reports, before they are written: what they cost, and whether they add up.

use bugle_model::{Next, Progress, Report};

use super::left_over;

/// No transaction has more rows than this, unless a single report needs them …
pub(crate) const MAX_ROWS: usize = 1_000;
/// … or removes more devices.
pub(crate) const MAX_REMOVALS: usize = 256;

/// How many rows it writes, at most.
pub(crate) fn rows(report: &Report) -> usize {
    let left_over = &report.progress.left_over;
    match report.next {
        // A push's own page is the push's row, and nothing else where nothing is left over.
        Next::Settle if report.id.leg.is_none() && left_over.is_empty() => 1,
        Next::Settle if left_over.is_empty() => 2 + report.progress.counts.len(),
        // Each new page is a row, its targets, and its number.
        Next::Settle => 3 + 3 * left_over::groups(left_over) + report.progress.counts.len(),
        Next::Continue | Next::GiveBack(_) => 2,
    }
}

/// A settled page has no target that is neither counted nor left over. The books stay right if one has; it was lost, though.
pub(crate) fn all_accounted(report: &Report, expected: u64, exactly: bool) {
    let Progress { open, left_over, .. } = &report.progress;
    let found = report.progress.ended() + left_over.len() as u64;
    if !open.is_empty() || (exactly && found != expected) {
        tracing::error!(page = ?report.id, expected, found, open = open.len(), "a page was settled with targets unaccounted for");
    }
}
