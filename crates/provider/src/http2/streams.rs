//! The open streams, found by their id.
//!
//! Streams live in a slab, whose free places are used again, last freed first, so that the same few cache lines are in use. An open-addressing index maps an id to its
//! place. Both grow with the streams that are open at once, never with ids: one stream that stays open for a day costs nothing.

/// The id of a stream that we opened: odd, ascending (RFC 9113, 5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(pub(crate) u32);

/// One open stream.
pub(super) struct Stream<T> {
    pub(super) id: u32,
    pub(super) owner: T,
    /// What the peer lets us send; below zero after it has made `INITIAL_WINDOW_SIZE` smaller (RFC 9113, 6.9.2).
    pub(super) window: i64,
    /// Bytes of DATA frames received, padding included.
    pub(super) received: u32,
    /// Frames received that brought nothing: a few are normal, more are an attack.
    pub(super) empty_frames: u16,
    /// Of the final answer; 0 until its HEADERS are here.
    pub(super) status: u16,
    /// Is it in the queue for the connection's window?
    pub(super) queued: bool,
    /// What few streams have. Beside the others, which fit into a cache line, it would be half of what is touched for each.
    pub(super) parts: Option<Box<Parts>>,
}

/// What goes or comes in several pieces.
#[derive(Default)]
pub(super) struct Parts {
    /// The kept fields of the answer, then what there is of its body. Empty for answers in one piece.
    pub(super) held: Vec<u8>,
    pub(super) fields_len: usize,
    /// What is left of our body, from `sent` on. Empty: `END_STREAM` is out.
    pub(super) waiting: Vec<u8>,
    pub(super) sent: usize,
}

impl<T> Stream<T> {
    /// One that was just opened, with what the peer lets us send on it.
    pub(super) fn new(id: u32, owner: T, window: i64) -> Self {
        Self {
            id,
            owner,
            window,
            received: 0,
            empty_frames: 0,
            status: 0,
            queued: false,
            parts: None,
        }
    }

    pub(super) fn parts(&mut self) -> &mut Parts {
        self.parts.get_or_insert_default()
    }

    /// Does a part of our body wait for a window?
    pub(super) fn waits(&self) -> bool {
        self.parts.as_ref().is_some_and(|parts| !parts.waiting.is_empty())
    }

    /// How much of the answer's body is held.
    pub(super) fn held_body(&self) -> usize {
        self.parts
            .as_ref()
            .map_or(0, |parts| parts.held.len() - parts.fields_len)
    }
}

impl Parts {
    /// The kept fields of the answer, and what there is of its body.
    pub(super) fn answer(&self) -> (&[u8], &[u8]) {
        self.held.split_at(self.fields_len)
    }
}

pub(super) struct Streams<T> {
    slab: Vec<Option<Stream<T>>>,
    free: Vec<u32>,
    /// (id, place); id 0 is an empty slot. A power of two long, at most half full.
    index: Vec<(u32, u32)>,
    open: usize,
}

impl<T> Streams<T> {
    pub(super) fn new() -> Self {
        Self {
            slab: Vec::new(),
            free: Vec::new(),
            index: vec![(0, 0); 64],
            open: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open
    }

    /// Where the search for an id begins. Fibonacci hashing: ids are consecutive, so that the upper bits of the product spread evenly.
    #[inline]
    fn home(&self, id: u32) -> usize {
        let bits = self.index.len().trailing_zeros();
        ((id >> 1).wrapping_mul(0x9e37_79b9) >> (32 - bits)) as usize
    }

    /// The slot of an id in the index.
    #[inline]
    fn slot(&self, id: u32) -> Option<usize> {
        let mask = self.index.len() - 1;
        let mut slot = self.home(id);
        loop {
            match self.index[slot].0 {
                0 => return None,
                found if found == id => return Some(slot),
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Stream<T>> {
        // 0 marks an empty slot.
        let slot = self.slot(id).filter(|_| id != 0)?;
        self.slab[self.index[slot].1 as usize].as_mut()
    }

    /// Adds a stream, whose id is new.
    #[inline]
    pub(super) fn insert(&mut self, stream: Stream<T>) {
        if (self.open + 1) * 2 > self.index.len() {
            self.grow();
        }
        let id = stream.id;
        let place = if let Some(place) = self.free.pop() {
            self.slab[place as usize] = Some(stream);
            place
        } else {
            self.slab.push(Some(stream));
            #[expect(
                clippy::cast_possible_truncation,
                reason = "ids have 31 bits, and no two streams share one"
            )]
            let place = (self.slab.len() - 1) as u32;
            place
        };
        self.enter(id, place);
        self.open += 1;
    }

    fn enter(&mut self, id: u32, place: u32) {
        let mask = self.index.len() - 1;
        let mut slot = self.home(id);
        while self.index[slot].0 != 0 {
            slot = (slot + 1) & mask;
        }
        self.index[slot] = (id, place);
    }

    fn grow(&mut self) {
        let larger = vec![(0, 0); self.index.len() * 2];
        for (id, place) in std::mem::replace(&mut self.index, larger) {
            if id != 0 {
                self.enter(id, place);
            }
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, id: u32) -> Option<Stream<T>> {
        let slot = self.slot(id).filter(|_| id != 0)?;
        let place = self.index[slot].1;
        self.close_gap(slot);
        self.free.push(place);
        self.open -= 1;
        self.slab[place as usize].take()
    }

    /// Empties a slot, and moves back what was pushed beyond it: no tombstones.
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.index.len() - 1;
        let mut slot = gap;
        loop {
            slot = (slot + 1) & mask;
            let (id, place) = self.index[slot];
            if id == 0 {
                break;
            }
            let from_home = slot.wrapping_sub(self.home(id)) & mask;
            if from_home >= (slot.wrapping_sub(gap) & mask) {
                self.index[gap] = (id, place);
                gap = slot;
            }
        }
        self.index[gap] = (0, 0);
    }

    /// The ids of all streams that a condition picks, ascending.
    pub(super) fn ids(&self, mut which: impl FnMut(&Stream<T>) -> bool) -> Vec<u32> {
        let mut ids: Vec<u32> = (self.slab.iter().flatten())
            .filter(|stream| which(stream))
            .map(|stream| stream.id)
            .collect();
        ids.sort_unstable();
        ids
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream<T>> {
        self.slab.iter_mut().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn stream(id: u32) -> Stream<u32> {
        Stream::new(id, id * 10, 0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn it_is_a_map_and_no_larger_than_what_is_open(steps in proptest::collection::vec((any::<bool>(), any::<proptest::sample::Index>()), 1..600)) {
            let (mut streams, mut model, mut next, mut most) = (Streams::new(), BTreeMap::new(), 1, 0);
            for (add, which) in steps {
                if add || model.is_empty() {
                    streams.insert(stream(next));
                    model.insert(next, next * 10);
                    next += 2;
                } else {
                    let id = *model.keys().nth(which.index(model.len())).unwrap();
                    prop_assert_eq!(streams.remove(id).map(|s| s.owner), model.remove(&id));
                    prop_assert!(streams.remove(id).is_none());
                }
                most = most.max(model.len());
                prop_assert_eq!(streams.len(), model.len());
            }
            prop_assert!(streams.get_mut(0).is_none());
            for id in 1..next {
                prop_assert_eq!(streams.get_mut(id).map(|s| s.owner), model.get(&id).copied());
            }
            prop_assert_eq!(streams.ids(|_| true), model.keys().copied().collect::<Vec<_>>());
            prop_assert_eq!(streams.slab.len(), most);
            prop_assert!(streams.index.len() <= 64.max(most * 4));
        }
    }

    #[test]
    fn one_old_stream_does_not_make_the_table_grow() {
        let mut streams = Streams::new();
        streams.insert(stream(1));
        for id in (3..2_000_001).step_by(2) {
            streams.insert(stream(id));
            assert_eq!(streams.remove(id).map(|s| s.id), Some(id));
        }
        assert_eq!((streams.slab.len(), streams.index.len(), streams.len()), (2, 64, 1));
        assert!(streams.get_mut(1).is_some());
    }
}
