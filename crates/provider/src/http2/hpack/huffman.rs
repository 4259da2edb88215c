//! The Huffman code of RFC 7541, appendix B.
//!
//! It is canonical: codes of one length are consecutive in the order of their symbols, and each length goes on where the shorter one ended.
//! So its lengths are all there is to write down. Decoding looks up 10 bits at once, which covers everything that stands in ordinary text; longer codes
//! are found by comparing with the end of each length's range.

use super::CompressionError;

const EOS: usize = 256;
const LONGEST: usize = 30;
/// Bits that are looked up at once.
const QUICK: usize = 10;

/// The length of each symbol's code in bits, EOS last.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

struct Code {
    /// Of each symbol: its code, right-aligned.
    codes: [u32; 257],
    /// The symbols in the order of their codes.
    sorted: [u16; 257],
    /// Of each length: the first code, left-aligned in 32 bits.
    first: [u32; LONGEST + 1],
    /// Of each length: the first code that is longer, left-aligned in 32 bits.
    end: [u64; LONGEST + 1],
    /// Of each length: where its symbols begin in `sorted`.
    start: [u16; LONGEST + 1],
    /// Of each 10 bits: the length (high byte) and the symbol (low byte); 0 where the code is longer.
    quick: [u16; 1 << QUICK],
}

static CODE: Code = build();

#[expect(
    clippy::cast_possible_truncation,
    reason = "symbols that are cast to a byte have short codes, so are not EOS"
)]
const fn build() -> Code {
    let mut code = Code {
        codes: [0; 257],
        sorted: [0; 257],
        first: [0; LONGEST + 1],
        end: [0; LONGEST + 1],
        start: [0; LONGEST + 1],
        quick: [0; 1 << QUICK],
    };
    let mut next: u64 = 0;
    let mut count = 0;
    let mut length = 1;
    while length <= LONGEST {
        next <<= 1;
        code.first[length] = (next << (32 - length)) as u32;
        code.start[length] = count as u16;
        let mut symbol = 0;
        while symbol <= EOS {
            if LENGTHS[symbol] as usize == length {
                code.codes[symbol] = next as u32;
                code.sorted[count] = symbol as u16;
                if length <= QUICK {
                    let mut slot = (next as usize) << (QUICK - length);
                    let end = slot + (1 << (QUICK - length));
                    while slot < end {
                        code.quick[slot] = (length as u16) << 8 | symbol as u16;
                        slot += 1;
                    }
                }
                next += 1;
                count += 1;
            }
            symbol += 1;
        }
        code.end[length] = next << (32 - length);
        length += 1;
    }
    code
}

/// Appends the text that `coded` stands for.
pub(crate) fn decode(coded: &[u8], text: &mut Vec<u8>) -> Result<(), CompressionError> {
    // The shortest code has five bits.
    text.reserve(coded.len() * 8 / 5 + 1);
    // Bits that are not decoded yet, left-aligned, zeros behind them.
    let mut bits: u64 = 0;
    let mut have: u32 = 0;
    let mut rest = coded;
    loop {
        while have <= 56 {
            let Some((&byte, tail)) = rest.split_first() else { break };
            bits |= u64::from(byte) << (56 - have);
            have += 8;
            rest = tail;
        }
        let quick = CODE.quick[(bits >> (64 - QUICK)) as usize];
        let (length, symbol) = if quick == 0 {
            long(bits)
        } else {
            (u32::from(quick >> 8), quick & 0xff)
        };
        if length > have {
            break;
        }
        let Ok(symbol) = u8::try_from(symbol) else {
            return Err(CompressionError("a string contains EOS"));
        };
        text.push(symbol);
        bits <<= length;
        have -= length;
    }
    // What is left is padding: fewer than 8 bits, the beginning of EOS, which is all ones (RFC 7541, 5.2).
    if have > 7 {
        return Err(CompressionError("a string's padding is longer than 7 bits"));
    }
    if have > 0 && bits >> (64 - have) != (1 << have) - 1 {
        return Err(CompressionError("a string's padding is not EOS"));
    }
    Ok(())
}

/// The length and symbol of a code that is longer than 10 bits.
#[cold]
fn long(bits: u64) -> (u32, u16) {
    let window = (bits >> 32) as u32;
    for length in QUICK + 1..=LONGEST {
        if u64::from(window) < CODE.end[length] {
            let place = usize::from(CODE.start[length]) + ((window - CODE.first[length]) >> (32 - length)) as usize;
            #[expect(clippy::cast_possible_truncation, reason = "at most 30")]
            return (length as u32, CODE.sorted[place]);
        }
    }
    // Not reached: the ranges cover all 32 bits.
    (0, 256)
}

/// The bytes that `text` takes when it is coded.
pub(crate) fn encoded_len(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|b| usize::from(LENGTHS[usize::from(*b)])).sum();
    bits.div_ceil(8)
}

/// Appends `text`, coded.
#[expect(clippy::cast_possible_truncation, reason = "bytes are cut out of a register")]
pub(crate) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let mut bits: u64 = 0;
    let mut have: u32 = 0;
    for symbol in text {
        let symbol = usize::from(*symbol);
        bits = bits << LENGTHS[symbol] | u64::from(CODE.codes[symbol]);
        have += u32::from(LENGTHS[symbol]);
        while have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
        }
    }
    if have > 0 {
        out.push((bits << (8 - have)) as u8 | (0xff >> have));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, CompressionError> {
        let mut text = Vec::new();
        decode(coded, &mut text).map(|()| text)
    }

    #[test]
    fn codes_of_appendix_b_are_what_the_lengths_imply() {
        for (symbol, code) in [
            (0, 0x1ff8),
            (b'0', 0),
            (b'a', 3),
            (b'e', 5),
            (b'X', 0xfc),
            (b'\\', 0x7_fff0),
            (249, 0xfff_fffe),
            (255, 0x03ff_ffee),
        ] {
            assert_eq!(CODE.codes[usize::from(symbol)], code, "{symbol}");
        }
        assert_eq!(CODE.codes[EOS], 0x3fff_ffff);
        assert_eq!(CODE.end[LONGEST], 1 << 32, "the code leaves nothing over");
    }

    #[test]
    fn strings_of_appendix_c_go_both_ways() {
        for (text, coded) in [
            (
                "www.example.com",
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
            ),
            ("no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
            ("302", &[0x64, 0x02]),
            ("private", &[0xae, 0xc3, 0x77, 0x1a, 0x4b]),
        ] {
            let mut out = Vec::new();
            encode(text.as_bytes(), &mut out);
            assert_eq!(out, coded);
            assert_eq!(out.len(), encoded_len(text.as_bytes()));
            assert_eq!(decoded(coded).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn eos_and_wrong_padding_are_refused() {
        // EOS itself, also behind a symbol.
        assert!(decoded(&[0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(decoded(&[0x1f, 0xff, 0xff, 0xff, 0xff]).is_err());
        // A whole byte of padding.
        assert!(decoded(&[0xff]).is_err());
        assert!(decoded(&[0x64, 0x02, 0xff]).is_err());
        // "a" (00011) and padding that is not ones.
        assert!(decoded(&[0b0001_1111]).is_ok());
        assert!(decoded(&[0b0001_1110]).is_err());
        assert!(decoded(&[0b0001_1011]).is_err());
        assert_eq!(decoded(&[]).unwrap(), b"");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn any_bytes_come_back(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            encode(&text, &mut out);
            prop_assert_eq!(out.len(), encoded_len(&text));
            prop_assert_eq!(decoded(&out).unwrap(), text);
        }

        #[test]
        fn what_decodes_is_the_only_code_of_its_text(coded in proptest::collection::vec(any::<u8>(), 0..12)) {
            if let Ok(text) = decoded(&coded) {
                let mut out = Vec::new();
                encode(&text, &mut out);
                prop_assert_eq!(out, coded);
            }
        }
    }
}
