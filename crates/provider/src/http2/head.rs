//! What many requests have in common: pseudo headers and headers.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::hpack::table::OVERHEAD;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// How a field goes into header blocks (RFC 7541, 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Indexing {
    /// Put into the peer's table by the first request that has it and named by its index afterwards: for what lives long.
    Table,
    /// Written out each time: for what changes with each push.
    Literal,
    /// Written out each time, and marked so that no intermediary indexes it either (RFC 7541, 7.1.3).
    Never,
}

#[derive(Clone)]
pub(super) struct Field {
    pub(super) name: Box<[u8]>,
    pub(super) value: Box<[u8]>,
    pub(super) indexing: Indexing,
}

impl Field {
    fn size(&self) -> usize {
        self.name.len() + self.value.len() + OVERHEAD
    }
}

/// The head of POST requests: built once, used by any number of requests on any connections, which keep its rendered form by its identity.
///
/// The path is whole, or a prefix to which each request adds its tail.
pub(crate) struct Head {
    /// Unique in the process.
    pub(super) id: u64,
    /// Pseudo headers come first (RFC 9113, 8.3).
    pub(super) before: Vec<Field>,
    /// The path's prefix if requests add a tail. It stands between `before` and `after`.
    pub(super) prefix: Option<Box<[u8]>>,
    pub(super) after: Vec<Field>,
    /// By the measure of RFC 9113, 6.5.2, without a tail.
    list_size: usize,
}

/// A header that HTTP/2 cannot carry (RFC 9113, 8.2.1). Its value is not named: it may be a secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header {0:?} has a name or a value that HTTP/2 does not allow")]
pub(crate) struct InvalidField(String);

impl Head {
    /// A POST to one path. All of them go into the peer's table.
    pub(crate) fn new(scheme: &str, authority: &str, path: &str) -> Result<Self, InvalidField> {
        let mut head = Self::pseudo(scheme, authority)?;
        let path = field(":path", path, Indexing::Table)?;
        head.list_size += path.size();
        head.before.push(path);
        Ok(head)
    }

    /// A POST to a path whose tail each request names.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "FCM has one path; APNs and Web Push have one for each target")
    )]
    pub(crate) fn with_path_prefix(scheme: &str, authority: &str, prefix: &str) -> Result<Self, InvalidField> {
        let mut head = Self::pseudo(scheme, authority)?;
        let path = field(":path", prefix, Indexing::Literal)?;
        head.list_size += path.size();
        head.prefix = Some(path.value);
        Ok(head)
    }

    fn pseudo(scheme: &str, authority: &str) -> Result<Self, InvalidField> {
        let before = vec![
            field(":method", "POST", Indexing::Table)?,
            field(":scheme", scheme, Indexing::Table)?,
            field(":authority", authority, Indexing::Table)?,
        ];
        Ok(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            list_size: before.iter().map(Field::size).sum(),
            before,
            prefix: None,
            after: Vec::new(),
        })
    }

    /// Adds a header. The name is in lower case.
    pub(crate) fn header(mut self, name: &str, value: &str, indexing: Indexing) -> Result<Self, InvalidField> {
        if name.starts_with(':') {
            return Err(InvalidField(name.to_owned()));
        }
        let field = field(name, value, indexing)?;
        self.list_size += field.size();
        self.after.push(field);
        Ok(self)
    }

    /// The size of a request's header list by the measure of RFC 9113, 6.5.2: names, values, and 32 bytes for each field.
    #[inline]
    pub(super) fn list_size(&self, tail: &[u8]) -> usize {
        self.list_size + if self.prefix.is_some() { tail.len() } else { 0 }
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values are secrets, names are not of interest.
        f.debug_struct("Head").field("id", &self.id).finish_non_exhaustive()
    }
}

fn field(name: &str, value: &str, indexing: Indexing) -> Result<Field, InvalidField> {
    let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b);
    let bare = name.strip_prefix(':').unwrap_or(name);
    let valid = !bare.is_empty() && bare.bytes().all(is_name) && is_value(value.as_bytes());
    // A pseudo header is never empty; neither is a path's prefix.
    if !valid || (name.starts_with(':') && value.is_empty()) {
        return Err(InvalidField(name.to_owned()));
    }
    Ok(Field {
        name: name.as_bytes().into(),
        value: value.as_bytes().into(),
        indexing,
    })
}

/// May it stand in a field's value (RFC 9113, 8.2.1)?
pub(super) fn is_value(value: &[u8]) -> bool {
    let space = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    !value.iter().any(|b| matches!(b, 0 | b'\n' | b'\r')) && !space(value.first()) && !space(value.last())
}
