//! The provider against servers that are ours down to the frame.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's support fails the test by panicking"
)]

mod support;

mod answers;
mod connections;
mod streams;
mod tls;
mod tokens;

/// bugle's own HTTP/2; the same tests over h2 are those of `tests/h2`.
const FRAMING: bugle_provider::Framing = bugle_provider::Framing::Own;
