//! Tests that watch memory and speed over time: in a binary of their own, so that no other test runs beside them.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod growth;
#[path = "../it/world/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the other tests need more of it")]
mod world;
