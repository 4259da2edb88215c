//! What one process has to tell Redis about one lane.

use std::collections::{BTreeMap, HashSet, VecDeque};

use bugle_model::{PageId, PageRef, Timestamp};

use super::HORIZON;
use super::hands::Entry;
use super::keys::{Keys, Stream};

/// References that leave together at most.
const BATCH: usize = 500;
/// Acknowledgements that leave together at most.
const ACKS: usize = 2_000;
/// Acknowledgements that wait at most; what is dropped beyond is claimed later, and refused by the ledger.
const MAX_ACKS: usize = 100_000;

/// A page's place in the order in which the ledger reads.
pub(super) type Place = (Timestamp, PageId);

pub(super) fn place(page: &PageRef) -> Place {
    (page.due, page.id)
}

/// The next place.
pub(super) fn after((due, id): Place) -> Place {
    let seq = id.seq.saturating_add(1);
    (due, PageId { seq, ..id })
}

/// What leaves together.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) pages: Vec<(Stream, PageRef)>,
    pub(super) acks: Vec<Entry>,
    /// To be marked as the gap, if there is none yet.
    pub(super) gap: Option<Place>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.acks.is_empty() && self.gap.is_none()
    }
}

/// References and acknowledgements that wait, and what is known of the lane.
pub(super) struct Outbox {
    references: usize,
    ready: VecDeque<(Stream, PageRef)>,
    later: BTreeMap<Place, (Stream, PageRef)>,
    queued: HashSet<PageId>,
    acks: Vec<Entry>,
    /// A batch is on its way.
    busy: bool,
    /// Undelivered entries as last seen, and those added here since.
    undelivered: usize,
    /// From here on the streams lack references.
    gap: Option<Place>,
    /// The gap was found here and is not marked yet.
    unmarked: bool,
    last_dropped: Option<Place>,
}

impl Outbox {
    pub(super) fn new(references: usize) -> Self {
        Self {
            references,
            ready: VecDeque::new(),
            later: BTreeMap::new(),
            queued: HashSet::new(),
            acks: Vec::new(),
            busy: false,
            undelivered: 0,
            gap: None,
            unmarked: false,
            last_dropped: None,
        }
    }

    pub(super) fn has(&self, page: PageId) -> bool {
        self.queued.contains(&page)
    }

    /// Takes a reference. `false` = it was dropped.
    pub(super) fn offer(&mut self, keys: &Keys, page: PageRef, now: Timestamp) -> bool {
        let Some(stream) = keys.stream_of(&page) else {
            return false;
        };
        if self.queued.contains(&page.id) {
            return true;
        }
        if page.due <= now {
            return self.push(stream, page);
        }
        // The ledger knows it, and is read in time.
        if page.due.since(now) <= HORIZON && self.later.len() < self.references {
            self.queued.insert(page.id);
            self.later.insert(place(&page), (stream, page));
        }
        true
    }

    fn push(&mut self, stream: Stream, page: PageRef) -> bool {
        let full = self.undelivered + self.ready.len() >= self.references;
        if self.gap.is_some() || full {
            self.last_dropped = self.last_dropped.max(Some(place(&page)));
            if self.gap.is_none() {
                self.gap = Some(place(&page));
                self.unmarked = true;
            }
            return false;
        }
        self.queued.insert(page.id);
        self.ready.push_back((stream, page));
        true
    }

    /// Takes references whatever waits already, also those that are not due: another process keeps them until then.
    pub(super) fn give_back(&mut self, keys: &Keys, pages: Vec<PageRef>) {
        self.ready.extend(std::mem::take(&mut self.later).into_values());
        let known = pages
            .into_iter()
            .filter_map(|page| Some((keys.stream_of(&page)?, page)));
        self.ready.extend(known);
    }

    pub(super) fn acknowledge(&mut self, entries: Vec<Entry>) {
        let room = MAX_ACKS - self.acks.len().min(MAX_ACKS);
        self.acks.extend(entries.into_iter().take(room));
    }

    /// What is to leave now.
    pub(super) fn next_batch(&mut self, now: Timestamp) -> Batch {
        while let Some(first) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            let (stream, page) = first.remove();
            self.queued.remove(&page.id);
            self.push(stream, page);
        }
        let pages: Vec<_> = self.ready.drain(..self.ready.len().min(BATCH)).collect();
        for (_, page) in &pages {
            self.queued.remove(&page.id);
        }
        let acks = self.acks.drain(..self.acks.len().min(ACKS)).collect();
        let gap = self.gap.filter(|_| std::mem::take(&mut self.unmarked));
        let batch = Batch { pages, acks, gap };
        self.busy = !batch.is_empty();
        batch
    }

    /// The batch has arrived.
    pub(super) fn sent(&mut self, pages: usize) {
        self.busy = false;
        self.undelivered += pages;
    }

    /// The batch may not have arrived: it will leave again.
    pub(super) fn put_back(&mut self, batch: Batch) {
        self.busy = false;
        self.unmarked |= batch.gap.is_some();
        self.acks.extend(batch.acks);
        for (stream, page) in batch.pages.into_iter().rev() {
            if self.queued.insert(page.id) {
                self.ready.push_front((stream, page));
            }
        }
    }

    /// Is there nothing on its way, or about to be?
    pub(super) fn is_flushed(&self) -> bool {
        !self.busy && self.ready.is_empty() && self.acks.is_empty()
    }

    /// Is there something to be sent now?
    pub(super) fn is_pressing(&self) -> bool {
        !self.ready.is_empty() || !self.acks.is_empty() || self.unmarked
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.later.first_key_value().map(|((due, _), _)| *due)
    }

    /// May the lane be full by now, for all that is known here?
    pub(super) fn is_crowded(&self) -> bool {
        self.undelivered * 2 >= self.references
    }

    /// How many more references the lane takes.
    pub(super) fn room(&self, undelivered: usize) -> usize {
        self.references.saturating_sub(undelivered + self.ready.len())
    }

    /// Redis was looked at: so many entries are undelivered; the gap that is marked; how far the ledger was last read.
    pub(super) fn looked(&mut self, undelivered: usize, gap: Option<Place>, read: Option<Place>) {
        self.undelivered = undelivered;
        if self.unmarked {
            return;
        }
        self.gap = gap;
        if gap.is_some() {
            return;
        }
        // The gap was closed. What was dropped here after the ledger had been read for that is a new one.
        if let (Some(dropped), Some(read)) = (self.last_dropped.take(), read)
            && dropped > read
        {
            self.gap = Some(after(read));
            self.unmarked = true;
        }
    }

    /// This process has refilled, from the gap that it knew of.
    pub(super) fn refilled(&mut self, undelivered: usize, gap: Option<Place>, read: Option<Place>) {
        self.unmarked = false;
        self.looked(undelivered, gap, read);
    }

    /// From here on the streams lack references, as far as is known here.
    pub(super) fn gap(&self) -> Option<Place> {
        self.gap
    }

    /// Does the ledger know of references that were dropped?
    pub(super) fn is_behind(&self) -> bool {
        self.gap.is_some()
    }
}
