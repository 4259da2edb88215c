//! The open streams, found by their id.
//!
//! Ids ascend, so that a ring is enough: a stream's place is the lower bits of its id. What is opened one after the other lies side by side, and finding a stream touches the
//! cache lines of that stream alone. A stream that is still open when the ring has come round to its place moves to a map, where few ever are. Both grow with the streams
//! that are open at once, never with ids: one stream that stays open for a day costs nothing.

use std::collections::HashMap;

/// The id of a stream that we opened: odd, ascending (RFC 9113, 5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(pub(crate) u32);

/// One open stream. In the order that answers come in, each is found cold: so it begins where a cache line does.
#[repr(align(64))]
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
    /// A power of two long, at least twice as long as streams are open.
    ring: Vec<Option<Stream<T>>>,
    /// Whose place in the ring a later one has.
    old: HashMap<u32, Stream<T>>,
    open: usize,
}

/// The least length of the ring.
const LEAST: usize = 64;

fn ring<T>(length: usize) -> Vec<Option<Stream<T>>> {
    std::iter::repeat_with(|| None).take(length).collect()
}

impl<T> Streams<T> {
    pub(super) fn new() -> Self {
        Self {
            ring: ring(LEAST),
            old: HashMap::new(),
            open: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open
    }

    #[inline]
    fn place(&self, id: u32) -> usize {
        (id >> 1) as usize & (self.ring.len() - 1)
    }

    /// The place of a stream that is in the ring.
    #[inline]
    fn in_ring(&self, id: u32) -> Option<usize> {
        let place = self.place(id);
        let found = self.ring[place].as_ref().is_some_and(|stream| stream.id == id);
        found.then_some(place)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Stream<T>> {
        match self.in_ring(id) {
            Some(place) => self.ring[place].as_mut(),
            None if self.old.is_empty() => None,
            None => self.old.get_mut(&id),
        }
    }

    /// The owner of a stream that will be needed soon, if it is there. Asked for some one after the other, all are fetched at once; later each would be waited for.
    #[inline]
    pub(super) fn ahead(&self, id: u32) -> Option<&T> {
        self.ring[self.place(id)].as_ref().map(|stream| &stream.owner)
    }

    /// Adds a stream, whose id is higher than all before.
    #[inline]
    pub(super) fn insert(&mut self, stream: Stream<T>) {
        self.open += 1;
        if self.open * 2 > self.ring.len() {
            self.grow();
        }
        self.enter(stream);
    }

    #[inline]
    fn enter(&mut self, stream: Stream<T>) {
        let place = self.place(stream.id);
        if let Some(older) = self.ring[place].replace(stream) {
            self.old.insert(older.id, older);
        }
    }

    fn grow(&mut self) {
        let longer = ring(self.ring.len() * 2);
        let shorter = std::mem::replace(&mut self.ring, longer);
        for stream in shorter.into_iter().flatten() {
            // No two of them share a place in the longer one.
            self.enter(stream);
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, id: u32) -> Option<Stream<T>> {
        let removed = match self.in_ring(id) {
            Some(place) => self.ring[place].take(),
            None if self.old.is_empty() => None,
            None => self.old.remove(&id),
        };
        self.open -= usize::from(removed.is_some());
        removed
    }

    /// The ids of all streams that a condition picks, ascending.
    pub(super) fn ids(&self, mut which: impl FnMut(&Stream<T>) -> bool) -> Vec<u32> {
        let mut ids: Vec<u32> = (self.ring.iter().flatten())
            .chain(self.old.values())
            .filter(|stream| which(stream))
            .map(|stream| stream.id)
            .collect();
        ids.sort_unstable();
        ids
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream<T>> {
        self.ring.iter_mut().flatten().chain(self.old.values_mut())
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
            prop_assert!(streams.ring.len() <= LEAST.max(most * 4));
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
        assert_eq!((streams.ring.len(), streams.old.len(), streams.len()), (LEAST, 1, 1));
        assert!(streams.get_mut(1).is_some());
    }
}
