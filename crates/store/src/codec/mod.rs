//! The ledger's blobs: what stands in one column because it is always read and written as a whole.
//!
//! Each begins with a byte that names its version; an unknown one is [`Error::Corrupt`], never a guess. Numbers are LEB128, signed ones
//! zigzagged, texts carry their length in bytes. Nothing here panics on a damaged blob or allocates out of proportion to it.

pub(crate) mod progress;
pub(crate) mod targets;

use crate::{Error, Result};

/// Writes a blob.
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    fn new(version: u8) -> Self {
        Self(vec![version])
    }

    fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    fn uint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
    }

    fn len(&mut self, value: usize) {
        self.uint(value as u64);
    }

    /// Zigzag: small numbers of either sign are short.
    fn int(&mut self, value: i64) {
        self.uint((value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned());
    }

    fn text(&mut self, text: &str) {
        self.len(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads a blob from its beginning to its end.
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
    place: &'static str,
}

impl<'a> Decoder<'a> {
    /// `place` is the table and the column, for errors.
    fn new(blob: &'a [u8], version: u8, place: &'static str) -> Result<Self> {
        let mut decoder = Self { rest: blob, place };
        match decoder.byte()? {
            found if found == version => Ok(decoder),
            found => Err(decoder.corrupt(format!("version {found}, this bugle knows {version}"))),
        }
    }

    fn corrupt(&self, detail: impl Into<String>) -> Error {
        Error::Corrupt {
            place: self.place,
            detail: detail.into(),
        }
    }

    fn byte(&mut self) -> Result<u8> {
        let (&first, rest) = self
            .rest
            .split_first()
            .ok_or_else(|| self.corrupt("it ends too early"))?;
        self.rest = rest;
        Ok(first)
    }

    fn uint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.corrupt("a number of more than 64 bits"))
    }

    fn int(&mut self) -> Result<i64> {
        let value = self.uint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// How many items follow. Each takes at least a byte, so that a damaged number cannot make anybody allocate for it.
    fn count(&mut self) -> Result<usize> {
        let count = self.uint()?;
        usize::try_from(count)
            .ok()
            .filter(|&c| c <= self.rest.len())
            .ok_or_else(|| self.corrupt(format!("{count} items in {} bytes", self.rest.len())))
    }

    fn text(&mut self) -> Result<&'a str> {
        let len = self.count()?;
        let (text, rest) = self.rest.split_at(len);
        self.rest = rest;
        std::str::from_utf8(text).map_err(|_| self.corrupt("a text that is not UTF-8"))
    }

    fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.corrupt(format!("{} bytes too many", self.rest.len())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_texts_survive(u in any::<u64>(), i in any::<i64>(), text in ".{0,300}") {
            let mut encoder = Encoder::new(7);
            encoder.uint(u);
            encoder.int(i);
            encoder.text(&text);
            let blob = encoder.finish();
            let mut decoder = Decoder::new(&blob, 7, "a column").unwrap();
            prop_assert_eq!(decoder.uint().unwrap(), u);
            prop_assert_eq!(decoder.int().unwrap(), i);
            prop_assert_eq!(decoder.text().unwrap(), text);
            decoder.finish().unwrap();
        }
    }

    #[test]
    fn a_number_that_never_ends_is_refused() {
        let blob = [&[7_u8][..], &[0xff; 30]].concat();
        assert!(Decoder::new(&blob, 7, "a column").unwrap().uint().is_err());
        let ten = [&[7_u8][..], &[0xff; 9], &[0x02]].concat();
        assert!(Decoder::new(&ten, 7, "a column").unwrap().uint().is_err());
    }
}
