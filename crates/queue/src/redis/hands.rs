//! Which entries are behind the pages that this process has.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bugle_model::{Lane, PageId};

use super::keys::Stream;

/// An entry of a lane's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) stream: Stream,
    /// As Redis writes it.
    pub(super) id: String,
}

/// By page, each lane's entries: mostly one.
#[derive(Default)]
pub(super) struct Hands {
    entries: Mutex<HashMap<(PageId, Lane), Vec<Entry>>>,
}

impl Hands {
    fn lock(&self) -> MutexGuard<'_, HashMap<(PageId, Lane), Vec<Entry>>> {
        // What a panic could leave behind is claimed by others later.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers an entry. `false` = it is known.
    pub(super) fn add(&self, lane: Lane, page: PageId, entry: Entry) -> bool {
        let mut all = self.lock();
        let entries = all.entry((page, lane)).or_default();
        let new = !entries.contains(&entry);
        if new {
            entries.push(entry);
        }
        new
    }

    /// Forgets pages; the entries that were behind them.
    pub(super) fn remove(&self, lane: Lane, pages: &[PageId]) -> Vec<Entry> {
        let mut all = self.lock();
        pages
            .iter()
            .filter_map(|page| all.remove(&(*page, lane)))
            .flatten()
            .collect()
    }
}
