//! Names of devices and pushes: the public ones, and the database's own.

use std::fmt;

use crate::{Invalid, Timestamp};

/// A device's public id: opaque, 1 to 64 of `[A-Za-z0-9_-]`, unique per app. Those made here are `UUIDv7`, so that id order is age order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(String);

impl DeviceId {
    /// Reads an id that came from outside.
    pub fn parse(id: impl Into<String>) -> Result<Self, Invalid> {
        let id = id.into();
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if id.is_empty() || id.len() > 64 || !id.bytes().all(fits) {
            return Err(Invalid::new("expected 1 to 64 of A-Z, a-z, 0-9, _ and -"));
        }
        Ok(Self(id))
    }

    /// A new id for a device that is registered at `now`.
    #[must_use]
    pub fn generate(now: Timestamp) -> Self {
        Self(uuid_v7(now))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A push's public id, chosen by the caller or made here: 1 to 128 printable ASCII characters without spaces, unique per app.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PushUid(String);

impl PushUid {
    /// Reads a uid that came from outside.
    pub fn parse(uid: impl Into<String>) -> Result<Self, Invalid> {
        let uid = uid.into();
        if uid.is_empty() || uid.len() > 128 || !uid.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Invalid::new(
                "expected 1 to 128 printable ASCII characters without spaces",
            ));
        }
        Ok(Self(uid))
    }

    /// A new uid for a push that is accepted at `now`.
    #[must_use]
    pub fn generate(now: Timestamp) -> Self {
        Self(uuid_v7(now))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PushUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A device's place in the registry: ascending in the order of first registration, never used twice. Audiences are walked by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct DeviceKey(pub i64);

/// A push's place in the ledger: ascending in the order of acceptance, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PushKey(pub i64);

fn uuid_v7(now: Timestamp) -> String {
    let millis = u64::try_from(now.0).unwrap_or(0);
    let at = uuid::Timestamp::from_unix_time(
        millis / 1_000,
        u32::try_from(millis % 1_000).unwrap_or(0) * 1_000_000,
        0,
        0,
    );
    uuid::Uuid::new_v7(at).to_string()
}
