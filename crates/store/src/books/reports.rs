//! Reports, before they are written: what they cost, and whether they add up.

use std::collections::HashSet;

use bugle_model::{Flow, Next, PageId, Progress, Report, Route, Verdict};

use super::left_over;

/// No transaction has more rows than this, unless a single report needs them …
const MAX_ROWS: usize = 1_000;
/// … or removes more devices.
const MAX_REMOVALS: usize = 256;

/// Reports that are written in one transaction.
#[derive(Default)]
pub(crate) struct Chunk {
    pub(crate) reports: Vec<Report>,
    /// Rows inserted or updated, at most.
    pub(crate) rows: usize,
    /// Devices removed, at most.
    pub(crate) removals: usize,
}

/// May a page be reported on twice in one transaction?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// Reports are entered one after the other.
    Together,
    /// Rows are read before any report is entered, so the second one needs a transaction of its own.
    Apart,
}

/// Cuts reports into transactions, in order.
pub(crate) fn chunks(reports: Vec<Report>, repeats: Repeats) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut pages: HashSet<PageId> = HashSet::new();
    for report in reports {
        let (rows, removals) = (rows(&report), report.dead.len());
        let fits = (chunks.last())
            .is_some_and(|last| last.rows + rows <= MAX_ROWS && last.removals + removals <= MAX_REMOVALS)
            && !pages.contains(&report.id);
        if !fits {
            chunks.push(Chunk::default());
            pages.clear();
        }
        if repeats == Repeats::Apart {
            pages.insert(report.id);
        }
        if let Some(last) = chunks.last_mut() {
            last.rows += rows;
            last.removals += removals;
            last.reports.push(report);
        }
    }
    chunks
}

/// How many rows it writes, at most.
fn rows(report: &Report) -> usize {
    let left_over = &report.progress.left_over;
    match report.next {
        // A push's own page is the push's row, and nothing else where nothing is left over.
        Next::Settle if report.id.leg.is_none() && left_over.is_empty() => 1,
        Next::Settle if left_over.is_empty() => 2 + report.progress.counts.len(),
        // Each new page is a row, its targets, and its number.
        Next::Settle => 3 + 3 * left_over::pages(left_over) + report.progress.counts.len(),
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

/// The leg of a page that goes on to be sent, as far as its push's row can tell: its holder has to learn of the leg's rejection.
pub(crate) fn leg_that_goes_on(report: &Report, verdict: Verdict) -> Option<Route> {
    match (verdict, report.next) {
        (Verdict::Written(Flow::Running | Flow::Paused), Next::Continue | Next::GiveBack(_)) => report.id.leg,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bugle_model::PushKey;

    use super::*;

    /// A report of progress: two rows.
    fn progress(page: i64) -> Report {
        Report {
            id: PageId {
                push: PushKey(1),
                leg: Some(Route::UNKNOWN),
                seq: page,
            },
            epoch: 1,
            progress: Progress::default(),
            dead: Vec::new(),
            answered: 0,
            payload: 0,
            next: Next::Continue,
        }
    }

    fn sizes(pages: impl IntoIterator<Item = i64>, repeats: Repeats) -> Vec<usize> {
        let chunks = chunks(pages.into_iter().map(progress).collect(), repeats);
        chunks.iter().map(|chunk| chunk.reports.len()).collect()
    }

    #[test]
    fn transactions_are_filled_and_not_more() {
        assert_eq!(sizes(1..=1_001, Repeats::Together), [500, 500, 1]);
        assert_eq!(sizes([], Repeats::Together), [0; 0]);
    }

    #[test]
    fn a_page_is_reported_on_twice_in_two_transactions_where_rows_are_read_before() {
        assert_eq!(sizes([1, 2, 1, 1], Repeats::Together), [4]);
        assert_eq!(sizes([1, 2, 1, 1], Repeats::Apart), [2, 1, 1]);
    }
}
