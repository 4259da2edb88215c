//! The tables of HPACK (RFC 7541, 2.3): the static one, and a dynamic one of any kind of entry.

use std::collections::VecDeque;

/// RFC 7541, appendix A. Index 1 is its first line.
pub(crate) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// What an entry costs besides its name and its value (RFC 7541, 4.1).
pub(crate) const OVERHEAD: usize = 32;

/// What a dynamic table holds.
pub(crate) trait Entry {
    /// Name + value + 32, of the text, not of its coded form.
    fn size(&self) -> usize;
}

/// A dynamic table: newest first, evicted from the other end.
pub(crate) struct Dynamic<E> {
    entries: VecDeque<E>,
    size: usize,
    max_size: usize,
}

impl<E: Entry> Dynamic<E> {
    pub(crate) fn new(max_size: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            max_size,
        }
    }

    pub(crate) fn max_size(&self) -> usize {
        self.max_size
    }

    /// The entry at an index that counts over both tables, so that the newest is 62.
    pub(crate) fn get(&self, index: usize) -> Option<&E> {
        self.entries.get(index.checked_sub(STATIC.len() + 1)?)
    }

    /// All entries with their indexes, newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &E)> {
        (STATIC.len() + 1..).zip(&self.entries)
    }

    /// Makes room for an entry of a size and says whether it fits; one that is too large leaves the table empty (RFC 7541, 4.4).
    pub(crate) fn make_room(&mut self, size: usize, evicted: impl FnMut(E)) -> bool {
        self.evict_to(self.max_size.saturating_sub(size), evicted);
        size <= self.max_size
    }

    /// Adds an entry, for which there must be room.
    pub(crate) fn push(&mut self, entry: E) {
        self.size += entry.size();
        self.entries.push_front(entry);
    }

    /// RFC 7541, 4.3.
    pub(crate) fn resize(&mut self, max_size: usize) {
        self.max_size = max_size;
        self.evict_to(max_size, drop);
    }

    fn evict_to(&mut self, size: usize, mut evicted: impl FnMut(E)) {
        while self.size > size {
            let Some(entry) = self.entries.pop_back() else { break };
            self.size -= entry.size();
            evicted(entry);
        }
    }

    #[cfg(test)]
    pub(crate) fn size(&self) -> usize {
        self.size
    }
}
