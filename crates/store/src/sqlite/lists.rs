//! Lists of devices and subscriptions: filters, order, pages.
//!
//! A list is walked by whatever names the fewest rows: ids, tokens, users, a channel's members if they are few, else the
//! index that has the list's order. First the keys of one page are found, then their rows are read.

mod devices;
mod place;
mod query;
mod subscriptions;

pub(super) use self::devices::{devices, keys_to_remove};
pub(super) use self::subscriptions::subscriptions;

/// A channel with at most so many members is read whole and sorted. A larger one is met often enough on a walk in the list's order.
const FEW: i64 = 20_000;
