//! The tests of `tests/it` over the crate `h2`: whatever carries the requests, the same must hold.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's support fails the test by panicking"
)]

#[path = "../it/answers.rs"]
mod answers;
#[path = "../it/connections.rs"]
mod connections;
#[path = "../it/streams.rs"]
mod streams;
#[path = "../it/support/mod.rs"]
mod support;
#[path = "../it/tls.rs"]
mod tls;
#[path = "../it/tokens.rs"]
mod tokens;

const FRAMING: bugle_provider::Framing = bugle_provider::Framing::H2;
