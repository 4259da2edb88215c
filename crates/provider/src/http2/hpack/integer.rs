//! Integers with a prefix (RFC 7541, 5.1).

use super::CompressionError;

/// No length or index in a block that we accept is longer; the RFC asks for a limit.
const LIMIT: usize = 1 << 24;

/// Reads an integer whose first byte is `first`, of which the low `prefix` bits count, and that goes on in `rest`.
#[inline]
pub(crate) fn decode(first: u8, prefix: u32, rest: &mut &[u8]) -> Result<usize, CompressionError> {
    let most = (1_usize << prefix) - 1;
    let small = usize::from(first) & most;
    if small < most {
        return Ok(small);
    }
    let mut value = most;
    for shift in [0, 7, 14, 21, 28] {
        let (&byte, tail) = rest.split_first().ok_or(CompressionError("an integer breaks off"))?;
        *rest = tail;
        value += usize::from(byte & 0x7f) << shift;
        if value > LIMIT {
            break;
        }
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(CompressionError("an integer is too large"))
}

/// Appends an integer; `pattern` are the bits above the prefix.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "each cast is of a value below 256")]
pub(crate) fn encode(out: &mut Vec<u8>, pattern: u8, prefix: u32, value: usize) {
    let most = (1_usize << prefix) - 1;
    if value < most {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | most as u8);
    let mut value = value - most;
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], prefix: u32) -> Result<(usize, usize), CompressionError> {
        let mut rest = &bytes[1..];
        decode(bytes[0], prefix, &mut rest).map(|value| (value, rest.len()))
    }

    #[test]
    fn the_examples_of_rfc_7541_c_1_go_both_ways() {
        for (prefix, value, bytes) in [(5, 10, &[0x0a][..]), (5, 1337, &[0x1f, 0x9a, 0x0a]), (8, 42, &[0x2a])] {
            let mut out = Vec::new();
            encode(&mut out, 0, prefix, value);
            assert_eq!(out, bytes);
            assert_eq!(read(bytes, prefix), Ok((value, 0)));
        }
    }

    #[test]
    fn every_value_comes_back_under_every_prefix() {
        for prefix in 4..=8 {
            for value in (0..70_000).chain([LIMIT - 1, LIMIT]) {
                let mut out = Vec::new();
                encode(&mut out, 0, prefix, value);
                assert_eq!(read(&out, prefix), Ok((value, 0)));
            }
        }
    }

    #[test]
    fn an_integer_that_overflows_or_never_ends_is_refused() {
        for bytes in [
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f][..],
            &[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0xff, 0x80],
            &[0xff],
        ] {
            assert!(read(bytes, 7).is_err(), "{bytes:?}");
        }
    }
}
