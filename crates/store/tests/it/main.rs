//! The contract of the store: every backend keeps it.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod backend;
mod fixture;
mod ledger;
mod opening;
mod registry;
mod replica;
mod sources;
mod transfer;
