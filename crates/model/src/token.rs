//! What a provider knows a device by.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::Invalid;

/// A provider's token: 1 to 4 096 printable ASCII characters without `"`, `\` and space, so that rendering it into JSON or a path is a copy.
///
/// It is a secret: whoever has it can, with the app's key, reach the phone. `Debug` shows its length only. Cheap to clone.
///
/// Its text may be a part of one that it shares with others ([`TokenTexts`]), and that is kept as long as one of them is.
#[derive(Clone)]
pub struct Token {
    shared: Arc<str>,
    from: u32,
    upto: u32,
}

impl Token {
    /// The longest token, in bytes.
    pub const MAX_BYTES: usize = 4_096;

    /// Reads a token that came from outside.
    pub fn parse(token: &str) -> Result<Self, Invalid> {
        check(token)?;
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_BYTES")]
        let upto = token.len() as u32;
        Ok(Self {
            shared: Arc::from(token),
            from: 0,
            upto,
        })
    }

    /// The text. Never log it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.shared[self.from as usize..self.upto as usize]
    }
}

/// Many tokens, collected one after the other, of which each few dozen share a text: that is one allocation for all of them, and one that the thread which lets go of the last
/// one gives back.
#[derive(Default)]
pub struct TokenTexts {
    tokens: Vec<Token>,
    /// The text that the next ones will share, and where each of them ends.
    text: String,
    ends: Vec<u32>,
}

impl TokenTexts {
    /// Bytes of a text at most. Larger allocations are taken from the system and given back to it, each time.
    const SHARED: usize = 16 << 10;

    /// Adds the next token.
    pub fn push(&mut self, token: &str) -> Result<(), Invalid> {
        check(token)?;
        if self.text.len() + token.len() > Self::SHARED {
            self.share();
        }
        self.text.push_str(token);
        #[expect(clippy::cast_possible_truncation, reason = "SHARED and MAX_BYTES at most")]
        self.ends.push(self.text.len() as u32);
        Ok(())
    }

    /// The tokens, in the order in which they were added.
    #[must_use]
    pub fn tokens(mut self) -> Vec<Token> {
        self.share();
        self.tokens
    }

    fn share(&mut self) {
        let shared: Arc<str> = Arc::from(self.text.as_str());
        let mut from = 0;
        self.tokens.extend(self.ends.drain(..).map(|upto| {
            let token = Token {
                shared: Arc::clone(&shared),
                from,
                upto,
            };
            from = upto;
            token
        }));
        self.text.clear();
    }
}

fn check(token: &str) -> Result<(), Invalid> {
    if token.is_empty() {
        return Err(Invalid::new("must not be empty"));
    }
    if token.len() > Token::MAX_BYTES {
        return Err(Invalid::new(format!(
            "at most {} characters, got {}",
            Token::MAX_BYTES,
            token.len()
        )));
    }
    let odd = |b: u8| !b.is_ascii_graphic() || b == b'"' || b == b'\\';
    // All of them first, which the processor does many at a time.
    if token.bytes().fold(false, |found, b| found | odd(b)) {
        let at = token.bytes().position(odd).unwrap_or(0);
        return Err(Invalid::new(format!(
            "expected printable ASCII without spaces, quotes and backslashes, found another character at position {at}"
        )));
    }
    Ok(())
}

// By the text, whatever it is a part of.

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Token {}

impl Hash for Token {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialOrd for Token {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Token {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} bytes)", self.as_str().len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tokens_of_one_text_are_those_that_were_added(texts in proptest::collection::vec("[!#-\\[\\]-~]{1,400}", 0..100)) {
            let mut shared = TokenTexts::default();
            for text in &texts {
                shared.push(text).unwrap();
            }
            let tokens = shared.tokens();
            let alone: Vec<Token> = texts.iter().map(|text| Token::parse(text).unwrap()).collect();
            prop_assert_eq!(&tokens, &alone);
            prop_assert!(tokens.iter().zip(&texts).all(|(token, text)| token.as_str() == text));
            let (set, others): (HashSet<Token>, HashSet<Token>) = (tokens.into_iter().collect(), alone.into_iter().collect());
            prop_assert_eq!(set, others);
        }

        #[test]
        fn what_is_no_token_alone_is_none_among_others(text in any::<String>()) {
            let mut shared = TokenTexts::default();
            shared.push("before").unwrap();
            let alone = Token::parse(&text).map_err(|invalid| invalid.problem);
            prop_assert_eq!(shared.push(&text).map_err(|invalid| invalid.problem), alone.map(|_| ()));
        }
    }

    #[test]
    fn the_odd_character_is_named_by_its_place() {
        for (text, place) in [("a b", 1), ("\"", 0), ("ab\\", 2), ("é", 0), ("a\n", 1)] {
            let problem = Token::parse(text).unwrap_err().problem;
            assert!(problem.ends_with(&format!("at position {place}")), "{problem}");
        }
        assert!(Token::parse(&"x".repeat(4_097)).is_err());
        assert!(Token::parse(&"x".repeat(4_096)).is_ok());
    }
}
