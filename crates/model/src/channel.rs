//! Names that devices subscribe to.

use std::fmt;

use crate::Invalid;

/// A channel's name: 1 to 255 bytes of UTF-8 without control characters. The topic vocabulary calls it a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel(String);

impl Channel {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Reads a name that came from outside.
    pub fn parse(name: impl Into<String>) -> Result<Self, Invalid> {
        let name = name.into();
        if name.is_empty() {
            return Err(Invalid::new("must not be empty"));
        }
        if name.len() > Self::MAX_BYTES {
            return Err(Invalid::new(format!(
                "at most {} bytes, got {}",
                Self::MAX_BYTES,
                name.len()
            )));
        }
        if name.chars().any(char::is_control) {
            return Err(Invalid::new("must not contain control characters"));
        }
        Ok(Self(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who gave a subscription, and so who may take it away: a set. A subscription whose set is empty is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origins(u8);

impl Origins {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// `device_subscription_add`, or `channels` in a registration.
    pub const CHANNEL: Self = Self(1);
    /// `topics` in a registration.
    pub const TOPIC: Self = Self(2);
    /// A list that is bound to the device's user.
    pub const USER: Self = Self(4);

    /// The set as a bit mask, as the database stores it.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The set of that mask; unknown bits are dropped.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & 7)
    }

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Is anybody of `other` in it?
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Is nobody left?
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}
