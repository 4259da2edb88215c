//! The contract of the store: every backend keeps it.

mod fixture;
mod opening;
mod registry;
