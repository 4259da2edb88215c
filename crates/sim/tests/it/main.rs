//! The simulator from outside: over HTTP/2 and HTTP/1.1, plain and TLS, with clients of the tests' own.
#![expect(clippy::unwrap_used, reason = "a client of the tests fails the test by panicking")]

mod blind;
mod client;
mod connections;
mod control;
mod documented;
mod exchange;
mod identity;
mod messages;
mod stress;
