//! From an accepted push to pages in the queue, and the upkeep of the ledger.
//!
//! Four loops, each of which any number of processes may run over one ledger:
//!
//! - [`expand`]: walks the audiences of open legs and hands out pages, as far as each leg's share of the window allows;
//! - [`refill`]: reads references that the queue lacks (dropped for lack of room, lost, due by now) from the ledger;
//! - [`sweep`]: ends pushes whose time is over, and forgets what has been kept long enough;
//! - [`inactive`]: sets devices aside that have not registered for long, where that is wanted.
//!
//! Invariant: for each app and route at most `window` targets are handed out and not ended, whatever the audience and whatever fails.

mod config;
pub mod expand;
pub mod inactive;
mod metrics;
pub mod refill;
mod share;
pub mod sweep;

pub use config::{Config, DevicesConfig, HistoryConfig};
