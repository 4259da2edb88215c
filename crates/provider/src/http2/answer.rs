//! What a connection tells its owner.

use super::error::{ErrorCode, StreamFailure};

/// The owner's side of [`super::Connection::receive`]. Each stream ends in exactly one of `answer` and `failed`.
pub(crate) trait Events<T> {
    /// A whole answer (or what there is of one, see [`Answer::is_truncated`]). What it borrows is gone afterwards.
    fn answer(&mut self, owner: T, answer: Answer<'_>);

    /// The stream ended without an answer.
    fn failed(&mut self, owner: T, failure: StreamFailure);

    /// An answer to this owner's request is about to be told, perhaps: what it will need may be fetched into the processor's cache.
    fn ahead(&self, owner: &T) {
        let _ = owner;
    }

    /// The peer's SETTINGS came: `peer_limit` may have changed.
    fn settings(&mut self) {}

    /// The peer takes no new streams; those that it will not process have failed as refused already.
    fn goaway(&mut self, code: ErrorCode) {
        let _ = code;
    }

    /// The answer to the latest `ping`.
    fn pong(&mut self) {}
}

/// An answer's parts, borrowed from what was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    status: u16,
    names: &'static [&'static str],
    /// Kept fields, see [`keep_field`].
    fields: &'a [u8],
    body: &'a [u8],
    truncated: bool,
}

impl<'a> Answer<'a> {
    pub(super) fn new(status: u16, names: &'static [&'static str], fields: &'a [u8], body: &'a [u8]) -> Self {
        Self {
            status,
            names,
            fields,
            body,
            truncated: false,
        }
    }

    pub(super) fn truncated(self) -> Self {
        Self {
            truncated: true,
            ..self
        }
    }

    /// The HTTP status, 200 to 999.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// The body's first 64 KiB.
    pub(crate) fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Is the body longer than 64 KiB, or did the peer break it off?
    pub(crate) fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// The first value of a header that is in [`super::Settings::keep`]; `None` for all others.
    pub(crate) fn field(&self, name: &str) -> Option<&'a [u8]> {
        let mut fields = self.fields;
        while let [index, high, low, rest @ ..] = fields {
            let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
            if self.names.get(usize::from(*index)) == Some(&name) {
                return Some(value);
            }
            fields = rest;
        }
        None
    }
}

/// Appends a kept field: the index of its name, the value's length in two bytes, the value. Longer ones than 65 535 bytes cannot come: a
/// header list is smaller (`settings.rs`).
pub(super) fn keep_field(fields: &mut Vec<u8>, name: u8, value: &[u8]) {
    if let Ok(length) = u16::try_from(value.len()) {
        fields.push(name);
        fields.extend_from_slice(&length.to_be_bytes());
        fields.extend_from_slice(value);
    }
}
