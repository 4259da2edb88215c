//! A push's whole way, against the real binary: HTTP in, the simulator out, the account between them. And everything that may go wrong on it.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod config;
mod documented;
mod faults;
mod growth;
mod hangup;
mod holds;
mod imports;
mod kill;
mod stop;
mod world;
