//! Which tenant a row, a key or a push belongs to.

use std::fmt;
use std::sync::Arc;

use crate::Invalid;

/// The name of an app: 1 to 32 of `[a-z0-9_-]`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppId(Arc<str>);

impl AppId {
    /// The app of the configuration's top-level sections.
    #[must_use]
    pub fn default_app() -> Self {
        Self(Arc::from("default"))
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Result<Self, Invalid> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        if name.is_empty() || name.len() > 32 || !name.bytes().all(fits) {
            return Err(Invalid::new("expected 1 to 32 of a-z, 0-9, _ and -"));
        }
        Ok(Self(Arc::from(name)))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
