//! The router over a real store, driven without a network.

mod broken;
mod devices;
mod harness;
mod odd;
mod pushes;
mod subscriptions;
mod transport;
