//! Header blocks of answers.
//!
//! The table must follow every step of the peer's encoder, but what the fields say hardly matters to us: an entry keeps what kind of field it is and
//! its sizes, and its value only where [`super::super::Settings::keep`] asks for it. A field that is named by its index costs a look-up.

use super::super::answer::keep_field;
use super::super::head::is_value;
use super::super::settings::HEADER_LIMIT;
use super::table::{Dynamic, Entry, OVERHEAD, STATIC};
use super::{CompressionError, huffman, integer};

/// Headers that belong to HTTP/1's connections; an answer that has one is malformed (RFC 9113, 8.2.2).
const OF_CONNECTIONS: [&[u8]; 5] = [
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"transfer-encoding",
    b"upgrade",
];

/// What a field's name means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Status,
    /// An index into the names to keep.
    Kept(u8),
    Other,
    Malformed,
}

/// A field, as far as it matters.
#[derive(Debug)]
struct Field {
    name: Name,
    name_len: usize,
    /// Name + value + 32.
    size: usize,
    /// Of `:status`, 100 to 999.
    status: u16,
    malformed: bool,
    /// Of kept names only.
    value: Vec<u8>,
}

impl Entry for Field {
    fn size(&self) -> usize {
        self.size
    }
}

/// What a block came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section {
    /// 0 where there is none.
    pub(crate) status: u16,
    /// Which rule it breaks; the block was decoded all the same.
    pub(crate) flaw: Option<&'static str>,
    /// By the measure of RFC 9113, 6.5.2.
    size: usize,
    fields: usize,
}

/// The peer's encoder, mirrored.
pub(crate) struct Decoder {
    keep: &'static [&'static str],
    fixed: Vec<Field>,
    table: Dynamic<Field>,
    /// What the peer may set its table to.
    limit: usize,
    /// Must the next block begin with a size update? After we have asked for less than it uses (RFC 7541, 4.2).
    must_shrink: bool,
    /// Where Huffman's code is decoded into.
    text: Vec<u8>,
    /// The value of an evicted entry, to be used again.
    spare: Vec<u8>,
}

impl Decoder {
    /// `ours` is what our SETTINGS ask for. Until the peer acknowledges it may use the default of 4 096.
    pub(crate) fn new(ours: u32, keep: &'static [&'static str]) -> Self {
        let mut decoder = Self {
            keep,
            fixed: Vec::with_capacity(STATIC.len()),
            table: Dynamic::new(4_096),
            limit: (ours as usize).max(4_096),
            must_shrink: false,
            text: Vec::new(),
            spare: Vec::new(),
        };
        for (name, value) in STATIC {
            let (name, name_len) = (decoder.classify(name.as_bytes()), name.len());
            let field = decoder.field(name, name_len, value.as_bytes());
            decoder.fixed.push(field);
        }
        decoder
    }

    /// The peer has acknowledged our SETTINGS.
    pub(crate) fn acknowledged(&mut self, ours: u32) {
        self.limit = ours as usize;
        self.must_shrink = self.table.max_size() > self.limit;
    }

    /// Decodes a whole block. Fields to keep are appended to `kept`.
    pub(crate) fn decode(&mut self, block: &[u8], kept: &mut Vec<u8>) -> Result<Section, CompressionError> {
        let mut section = Section::default();
        let mut rest = block;
        let mut begun = false;
        while let Some((&first, tail)) = rest.split_first() {
            rest = tail;
            if first & 0xe0 == 0x20 {
                self.resize(first, &mut rest, begun)?;
                continue;
            }
            if self.must_shrink {
                return Err(CompressionError("the table was not made smaller as asked"));
            }
            begun = true;
            if first & 0x80 == 0 {
                self.literal(first, &mut rest, &mut section, kept)?;
            } else {
                // Small indexes are one byte.
                let index = integer::decode(first, 7, &mut rest)?;
                section.add(self.entry(index)?, kept);
            }
        }
        if section.size > HEADER_LIMIT {
            section.flaw = Some("its header list is too long");
        }
        Ok(section)
    }

    fn entry(&self, index: usize) -> Result<&Field, CompressionError> {
        let fixed = index.checked_sub(1).ok_or(CompressionError("index 0"))?;
        let entry = self.fixed.get(fixed).or_else(|| self.table.get(index));
        entry.ok_or(CompressionError("an index beyond the table"))
    }

    /// RFC 7541, 6.3. A size update stands before all fields (4.2).
    fn resize(&mut self, first: u8, rest: &mut &[u8], begun: bool) -> Result<(), CompressionError> {
        let size = integer::decode(first, 5, rest)?;
        if begun {
            return Err(CompressionError("a size update after a field"));
        }
        if size > self.limit {
            return Err(CompressionError("a size update beyond our limit"));
        }
        self.must_shrink = false;
        self.table.resize(size);
        Ok(())
    }

    /// RFC 7541, 6.2: with indexing (01), without (0000), never (0001).
    fn literal(
        &mut self,
        first: u8,
        rest: &mut &[u8],
        section: &mut Section,
        kept: &mut Vec<u8>,
    ) -> Result<(), CompressionError> {
        let indexed = first & 0x40 != 0;
        let index = integer::decode(first, if indexed { 6 } else { 4 }, rest)?;
        let mut text = std::mem::take(&mut self.text);
        let field = self.read_field(index, rest, &mut text);
        self.text = text;
        let field = field?;
        section.add(&field, kept);
        if indexed {
            let spare = &mut self.spare;
            let fits = self.table.make_room(field.size, |old| {
                if old.value.capacity() > spare.capacity() {
                    *spare = old.value;
                }
            });
            if fits {
                self.table.push(field);
                return Ok(());
            }
        }
        if field.value.capacity() > self.spare.capacity() {
            self.spare = field.value;
        }
        Ok(())
    }

    fn read_field(&mut self, index: usize, rest: &mut &[u8], text: &mut Vec<u8>) -> Result<Field, CompressionError> {
        let (name, name_len) = if index == 0 {
            let name = string(rest, text)?;
            (self.classify(name), name.len())
        } else {
            let entry = self.entry(index)?;
            (entry.name, entry.name_len)
        };
        let value = string(rest, text)?;
        Ok(self.field(name, name_len, value))
    }

    fn field(&mut self, name: Name, name_len: usize, value: &[u8]) -> Field {
        let status = if name == Name::Status { status(value) } else { 0 };
        let bad_status = name == Name::Status && status == 0;
        let mut kept = Vec::new();
        if matches!(name, Name::Kept(_)) {
            kept = std::mem::take(&mut self.spare);
            kept.clear();
            kept.extend_from_slice(value);
        }
        Field {
            name,
            name_len,
            size: name_len + value.len() + OVERHEAD,
            status,
            malformed: name == Name::Malformed || bad_status || !is_value(value),
            value: kept,
        }
    }

    fn classify(&self, name: &[u8]) -> Name {
        if name == b":status" {
            return Name::Status;
        }
        if let Some(index) = self.keep.iter().position(|keep| keep.as_bytes() == name) {
            return u8::try_from(index).map_or(Name::Other, Name::Kept);
        }
        // All other pseudo headers are a request's (RFC 9113, 8.3.2), and no name has an upper case letter (8.2.1).
        let forbidden = |b: &u8| matches!(b, 0..=0x20 | b'A'..=b'Z' | b':' | 0x7f..);
        if name.is_empty() || name.iter().any(forbidden) || OF_CONNECTIONS.contains(&name) {
            return Name::Malformed;
        }
        Name::Other
    }
}

impl Section {
    #[inline]
    fn add(&mut self, field: &Field, kept: &mut Vec<u8>) {
        self.size += field.size;
        self.fields += 1;
        if field.malformed {
            self.flaw = Some("a header is malformed");
        }
        match field.name {
            Name::Status if self.fields > 1 => self.flaw = Some("its :status is not the first field, or there are two"),
            Name::Status => self.status = field.status,
            // An entry that is named again and again must not grow into more than a list may hold.
            Name::Kept(name) if self.size <= HEADER_LIMIT => keep_field(kept, name, &field.value),
            _ => {}
        }
    }
}

/// A string (RFC 7541, 5.2): from the block itself, or decoded into `text`.
fn string<'b: 't, 't>(rest: &mut &'b [u8], text: &'t mut Vec<u8>) -> Result<&'t [u8], CompressionError> {
    const BROKEN: CompressionError = CompressionError("a string breaks off");
    let (&first, tail) = rest.split_first().ok_or(BROKEN)?;
    let mut bytes = tail;
    let length = integer::decode(first, 7, &mut bytes)?;
    let (raw, tail) = bytes.split_at_checked(length).ok_or(BROKEN)?;
    *rest = tail;
    if first & 0x80 == 0 {
        return Ok(raw);
    }
    text.clear();
    huffman::decode(raw, text)?;
    Ok(text)
}

/// Three digits; 0 for everything else.
fn status(value: &[u8]) -> u16 {
    match value {
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
        }
        _ => 0,
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
