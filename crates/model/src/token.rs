//! What a provider knows a device by.

use std::fmt;
use std::sync::Arc;

use crate::Invalid;

/// A provider's token: 1 to 4 096 printable ASCII characters without `"`, `\` and space, so that rendering it into JSON or a path is a copy.
///
/// It is a secret: whoever has it can, with the app's key, reach the phone. `Debug` shows its length only. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(Arc<str>);

impl Token {
    /// The longest token, in bytes.
    pub const MAX_BYTES: usize = 4_096;

    /// Reads a token that came from outside.
    pub fn parse(token: &str) -> Result<Self, Invalid> {
        if token.is_empty() {
            return Err(Invalid::new("must not be empty"));
        }
        if token.len() > Self::MAX_BYTES {
            return Err(Invalid::new(format!(
                "at most {} characters, got {}",
                Self::MAX_BYTES,
                token.len()
            )));
        }
        let odd = |b: u8| !b.is_ascii_graphic() || b == b'"' || b == b'\\';
        if let Some(at) = token.bytes().position(odd) {
            return Err(Invalid::new(format!(
                "expected printable ASCII without spaces, quotes and backslashes, found another character at position {at}"
            )));
        }
        Ok(Self(Arc::from(token)))
    }

    /// The text. Never log it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} bytes)", self.0.len())
    }
}
