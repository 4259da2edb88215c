//! The router over a real store, driven without a network.
#![expect(clippy::unwrap_used, reason = "tests")]

mod broken;
mod devices;
mod docs;
mod envelopes;
mod harness;
mod odd;
mod parts;
mod pushes;
mod subscriptions;
mod transport;
