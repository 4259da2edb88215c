//! Explicit targets as a blob: of a page, or of a push's own page. A target's position is its index here, counted from 1.
//!
//! ```text
//! version 1 · n × (what + flags, device key as a difference or text, and if it was tried before: attempts, first try as a difference)
//! ```

use bugle_model::{DeviceKey, Token};

use super::{Decoder, Encoder};
use crate::Result;

const VERSION: u8 = 1;

const WHAT: u8 = 0x07;
const SUSPECT: u8 = 0x08;
const TRIED: u8 = 0x10;

/// A target as it stands in a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) what: What,
    /// Tries that were used up before.
    pub(crate) attempts: u8,
    /// When it was first tried, on its route's clock; 0 = never yet.
    pub(crate) first_try: i64,
    pub(crate) suspect: bool,
}

/// What it is sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// A device that was found by its id or in an audience.
    Device(DeviceKey),
    /// A device by its id, looked up when the page is read.
    Id(String),
    /// A raw token.
    Token(Token),
    /// A topic of the provider's own.
    Topic(String),
    /// A condition of the provider's own.
    Condition(String),
}

impl Stored {
    /// One that was never tried.
    pub(crate) fn fresh(what: What) -> Self {
        Self {
            what,
            attempts: 0,
            first_try: 0,
            suspect: false,
        }
    }
}

/// Writes them down.
pub(crate) fn encode(targets: &[Stored]) -> Vec<u8> {
    let mut e = Encoder::new(VERSION);
    e.len(targets.len());
    let (mut key_before, mut try_before) = (0_i64, 0_i64);
    for target in targets {
        let tried = target.attempts != 0 || target.first_try != 0;
        let flags = if target.suspect { SUSPECT } else { 0 } | if tried { TRIED } else { 0 };
        match &target.what {
            What::Device(key) => {
                e.byte(flags);
                e.int(key.0.wrapping_sub(key_before));
                key_before = key.0;
            }
            What::Id(text) => entry(&mut e, flags | 1, text),
            What::Token(token) => entry(&mut e, flags | 2, token.as_str()),
            What::Topic(text) => entry(&mut e, flags | 3, text),
            What::Condition(text) => entry(&mut e, flags | 4, text),
        }
        if tried {
            e.byte(target.attempts);
            e.int(target.first_try.wrapping_sub(try_before));
            try_before = target.first_try;
        }
    }
    e.finish()
}

fn entry(e: &mut Encoder, first: u8, text: &str) {
    e.byte(first);
    e.text(text);
}

/// Reads them; `place` is the table and the column, for errors.
pub(crate) fn decode(blob: &[u8], place: &'static str) -> Result<Vec<Stored>> {
    let mut d = Decoder::new(blob, VERSION, place)?;
    let count = d.count()?;
    let mut targets = Vec::with_capacity(count);
    let (mut key, mut first_try) = (0_i64, 0_i64);
    for _ in 0..count {
        let first = d.byte()?;
        let what = match first & WHAT {
            0 => {
                key = key.wrapping_add(d.int()?);
                What::Device(DeviceKey(key))
            }
            1 => What::Id(d.text()?.to_owned()),
            2 => What::Token(token(&mut d)?),
            3 => What::Topic(d.text()?.to_owned()),
            4 => What::Condition(d.text()?.to_owned()),
            other => return Err(d.corrupt(format!("a target of kind {other}"))),
        };
        let tried = first & TRIED != 0;
        let attempts = if tried { d.byte()? } else { 0 };
        if tried {
            first_try = first_try.wrapping_add(d.int()?);
        }
        targets.push(Stored {
            what,
            attempts,
            first_try: if tried { first_try } else { 0 },
            suspect: first & SUSPECT != 0,
        });
    }
    d.finish()?;
    Ok(targets)
}

fn token(d: &mut Decoder<'_>) -> Result<Token> {
    let text = d.text()?;
    // The problem names positions and lengths only, never the token.
    Token::parse(text).map_err(|invalid| d.corrupt(format!("a token: {invalid}")))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::Error;

    const PLACE: &str = "page_targets.targets";

    fn some_target() -> impl Strategy<Value = Stored> {
        let what = prop_oneof![
            any::<i64>().prop_map(|k| What::Device(DeviceKey(k))),
            "[A-Za-z0-9_-]{1,64}".prop_map(What::Id),
            "[!#-\\[\\]-~]{1,200}".prop_map(|t| What::Token(Token::parse(&t).unwrap())),
            ".{0,40}".prop_map(What::Topic),
            ".{0,40}".prop_map(What::Condition),
        ];
        (what, any::<(u8, i64, bool)>()).prop_map(|(what, (attempts, first_try, suspect))| Stored {
            what,
            attempts,
            first_try,
            suspect,
        })
    }

    proptest! {
        #[test]
        fn any_targets_survive(targets in vec(some_target(), 0..60)) {
            prop_assert_eq!(decode(&encode(&targets), PLACE).unwrap(), targets);
        }

        #[test]
        fn truncated_targets_are_corrupt_and_no_panic(targets in vec(some_target(), 0..20), cut in any::<prop::sample::Index>()) {
            let blob = encode(&targets);
            let cut = cut.index(blob.len());
            let is_corrupt = matches!(decode(&blob[..cut], PLACE), Err(Error::Corrupt { .. }));
            prop_assert!(is_corrupt);
        }

        #[test]
        fn garbage_is_no_panic(garbage in vec(any::<u8>(), 0..200)) {
            let _ = decode(&garbage, PLACE);
            let _ = decode(&[&[VERSION], &garbage[..]].concat(), PLACE);
        }
    }

    #[test]
    fn an_unknown_version_is_corrupt() {
        let mut blob = encode(&[]);
        blob[0] = 9;
        assert!(matches!(decode(&blob, PLACE), Err(Error::Corrupt { place: PLACE, .. })));
    }

    #[test]
    fn a_token_that_is_none_is_corrupt_and_not_shown() {
        let mut blob = encode(&[Stored::fresh(What::Token(Token::parse("secret").unwrap()))]);
        let at = blob.len() - 1;
        blob[at] = b'"';
        let error = decode(&blob, PLACE).unwrap_err();
        assert!(!error.to_string().contains("secre"), "{error}");
    }

    /// What stands in databases out there: if this fails, the form has changed and needs a version of its own.
    #[test]
    fn the_stored_form_stays() {
        let targets = [
            Stored {
                what: What::Device(DeviceKey(70)),
                attempts: 2,
                first_try: 9,
                suspect: true,
            },
            Stored::fresh(What::Id("ab".to_owned())),
            Stored::fresh(What::Token(Token::parse("t").unwrap())),
        ];
        let expected: &[u8] = &[1, 3, 0x18, 0x8c, 0x01, 2, 18, 1, 2, b'a', b'b', 2, 1, b't'];
        assert_eq!(encode(&targets), expected);
    }
}
