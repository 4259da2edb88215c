//! Lists of devices and subscriptions: filters, order, pages.
//!
//! A list is walked by whatever names the fewest rows: ids, tokens, users, a channel's members if they are few, else the
//! index that has the list's order. First the keys of one page are found, then their rows are read.

mod devices;
mod query;
mod subscriptions;
#[cfg(test)]
mod tests;

pub(super) use self::devices::{devices, keys_to_remove};
pub(super) use self::subscriptions::subscriptions;

/// Audiences of at most so many subscriptions are read whole and sorted. Larger ones are met often enough on a walk in the list's order.
pub(super) const FEW: i64 = 20_000;
