//! Header blocks of requests.
//!
//! A [`Head`] is rendered once for each state of the peer's table and copied afterwards. The first request with a new access token puts it into the table
//! (about 1 000 bytes); the second renders the head anew, all indexes now; from then on a block is some ten bytes that are copied.
//!
//! A rendered head is valid while the table is as it was when it was rendered: `generation` counts the changes.

use std::ops::RangeInclusive;

use super::super::head::{Field, Head, Indexing};
use super::table::{Dynamic, Entry, OVERHEAD, STATIC};
use super::{huffman, integer};

/// More of the peer's table is not used, whatever it offers: it must hold a few bearers of 1 KiB or one of 4.
const TABLE_LIMIT: usize = 16 << 10;

/// Heads whose rendered form is remembered: one for each push that is being sent over the connection, where heads differ by push.
const REMEMBERED: usize = 32;

/// Of `:path` in the static table.
const PATH: usize = 4;

struct Inserted {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

impl Entry for Inserted {
    fn size(&self) -> usize {
        size_of_field(&self.name, &self.value)
    }
}

fn size_of_field(name: &[u8], value: &[u8]) -> usize {
    name.len() + value.len() + OVERHEAD
}

/// A head's block around its path's tail.
#[derive(Default)]
pub(crate) struct Rendered {
    head: u64,
    generation: u64,
    /// Up to the path.
    before: Vec<u8>,
    /// The path's prefix, if requests add a tail.
    prefix: Option<Box<[u8]>>,
    after: Vec<u8>,
}

impl Rendered {
    /// How long the block is with a tail.
    #[inline]
    pub(crate) fn len(&self, tail: &[u8]) -> usize {
        let path = self.prefix.as_ref().map_or(0, |prefix| {
            let length = prefix.len() + tail.len();
            1 + integer_len(length) + length
        });
        self.before.len() + path + self.after.len()
    }

    /// Appends the block. The tail is not coded: for what is different each time that costs more than it saves.
    #[inline]
    pub(crate) fn put(&self, tail: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.before);
        if let Some(prefix) = &self.prefix {
            integer::encode(out, 0x00, 4, PATH);
            integer::encode(out, 0x00, 7, prefix.len() + tail.len());
            out.extend_from_slice(prefix);
            out.extend_from_slice(tail);
        }
        out.extend_from_slice(&self.after);
    }
}

/// Bytes of an integer with a prefix of 7 bits.
#[inline]
fn integer_len(value: usize) -> usize {
    let Some(mut more) = value.checked_sub(127) else {
        return 1;
    };
    let mut length = 2;
    while more >= 0x80 {
        more >>= 7;
        length += 1;
    }
    length
}

/// The peer's decoder, as we drive it.
pub(crate) struct Encoder {
    table: Dynamic<Inserted>,
    generation: u64,
    rendered: Vec<Rendered>,
    /// The one that was used last.
    latest: usize,
    /// The one that is overwritten next.
    victim: usize,
    /// Size updates that the next block must begin with (RFC 7541, 4.2): the least, then the final one.
    updates: Option<(usize, usize)>,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self {
            table: Dynamic::new(4_096),
            generation: 0,
            rendered: Vec::new(),
            latest: 0,
            victim: 0,
            updates: None,
        }
    }

    /// The peer's `HEADER_TABLE_SIZE` has changed, by way of `least`. It holds for the next block.
    pub(crate) fn set_peer_limit(&mut self, least: u32, size: u32) {
        let size = (size as usize).min(TABLE_LIMIT);
        let least = (least as usize).min(size);
        if least >= self.table.max_size() && size == self.table.max_size() {
            return;
        }
        let least = self.updates.map_or(least, |(before, _)| before.min(least));
        self.updates = Some((least, size));
        self.table.resize(least);
        self.table.resize(size);
        self.generation += 1;
    }

    /// The block of a head. What it does to the peer's table is done to ours: the block must be sent, next.
    #[inline]
    pub(crate) fn block(&mut self, head: &Head) -> &Rendered {
        let known = self.rendered.get(self.latest);
        if known.is_none_or(|r| r.head != head.id || r.generation != self.generation) {
            self.latest = self.find_or_render(head);
        }
        &self.rendered[self.latest]
    }

    fn find_or_render(&mut self, head: &Head) -> usize {
        let place = self.rendered.iter().position(|r| r.head == head.id);
        if let Some(place) = place
            && self.rendered[place].generation == self.generation
        {
            return place;
        }
        let place = place.unwrap_or_else(|| {
            if self.rendered.len() < REMEMBERED {
                self.rendered.push(Rendered::default());
                return self.rendered.len() - 1;
            }
            self.victim = (self.victim + 1) % REMEMBERED;
            self.victim
        });
        let buffer = std::mem::take(&mut self.rendered[place]);
        self.rendered[place] = self.render(head, buffer);
        place
    }

    fn render(&mut self, head: &Head, mut block: Rendered) -> Rendered {
        block.before.clear();
        block.after.clear();
        let begin = self.generation;
        let updates = self.updates.take();
        if let Some((least, size)) = updates {
            if least < size {
                integer::encode(&mut block.before, 0x20, 5, least);
            }
            integer::encode(&mut block.before, 0x20, 5, size);
        }
        let indexed = self.sizes_to_index(head);
        for field in &head.before {
            self.put(field, &indexed, &mut block.before);
        }
        for field in &head.after {
            self.put(field, &indexed, &mut block.after);
        }
        block.prefix.clone_from(&head.prefix);
        block.head = head.id;
        // A block that changes the table is for this once. No later generation is equal to this one.
        if updates.is_some() || begin != self.generation {
            self.generation += 1;
            block.generation = self.generation - 1;
        } else {
            block.generation = begin;
        }
        block
    }

    /// Which fields go into the table: those that fit into it together, the largest first. Otherwise each block would evict what the next one needs.
    /// Returns the sizes that go in.
    fn sizes_to_index(&self, head: &Head) -> RangeInclusive<usize> {
        let mut sizes: Vec<usize> = (head.before.iter().chain(&head.after))
            .filter(|field| field.indexing == Indexing::Table && find_static(field).1.is_none())
            .map(|field| size_of_field(&field.name, &field.value))
            .filter(|size| *size <= self.table.max_size())
            .collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let mut room = self.table.max_size();
        let mut least = usize::MAX;
        for size in &sizes {
            let Some(left) = room.checked_sub(*size) else { break };
            room = left;
            least = *size;
        }
        // Of several fields of this size, all go in or none.
        let of_least: usize = sizes.iter().filter(|size| **size == least).count();
        let above: usize = sizes.iter().filter(|size| **size > least).sum();
        if of_least > 0 && above + of_least * least > self.table.max_size() {
            least += 1;
        }
        least..=self.table.max_size()
    }

    fn put(&mut self, field: &Field, indexed: &RangeInclusive<usize>, out: &mut Vec<u8>) {
        let (name, whole) = find_static(field);
        let (name, whole) = match whole {
            Some(_) => (name, whole),
            None => self.find_dynamic(field, name),
        };
        if let Some(index) = whole.filter(|_| field.indexing != Indexing::Never) {
            integer::encode(out, 0x80, 7, index);
            return;
        }
        let size = size_of_field(&field.name, &field.value);
        let insert = field.indexing == Indexing::Table && indexed.contains(&size);
        let (pattern, prefix) = match field.indexing {
            _ if insert => (0x40, 6),
            Indexing::Never => (0x10, 4),
            Indexing::Table if *field.name == *b"authorization" => (0x10, 4),
            Indexing::Table | Indexing::Literal => (0x00, 4),
        };
        integer::encode(out, pattern, prefix, name.unwrap_or(0));
        if name.is_none() {
            put_string(&field.name, out);
        }
        put_string(&field.value, out);
        if insert {
            self.generation += 1;
            self.table.make_room(size, drop);
            self.table.push(Inserted {
                name: field.name.clone(),
                value: field.value.clone(),
            });
        }
    }

    fn find_dynamic(&self, field: &Field, mut name: Option<usize>) -> (Option<usize>, Option<usize>) {
        for (index, entry) in self.table.iter().filter(|(_, entry)| entry.name == field.name) {
            if entry.value == field.value {
                return (name, Some(index));
            }
            name = name.or(Some(index));
        }
        (name, None)
    }
}

/// The index of the name, and of the whole field.
fn find_static(field: &Field) -> (Option<usize>, Option<usize>) {
    let mut named = None;
    for (index, (name, value)) in (1..).zip(STATIC) {
        if name.as_bytes() == &*field.name {
            if value.as_bytes() == &*field.value {
                return (Some(index), Some(index));
            }
            named = named.or(Some(index));
        }
    }
    (named, None)
}

/// RFC 7541, 5.2: in Huffman's code where that is shorter.
fn put_string(text: &[u8], out: &mut Vec<u8>) {
    let coded = huffman::encoded_len(text);
    if coded < text.len() {
        integer::encode(out, 0x80, 7, coded);
        huffman::encode(text, out);
    } else {
        integer::encode(out, 0x00, 7, text.len());
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
