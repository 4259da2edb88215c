//! The registry and the ledger: what bugle knows of devices, and what it was asked for.
//!
//! Two role traits say what may be asked, in domain words: [`Registry`] (devices, subscriptions, what is gone) and [`Ledger`]
//! (pushes, legs, pages, holds). [`Store`] is both. Backends implement them with SQL of their own ([`sqlite`], [`postgres`]); `docs/decisions/0001-ledger.md`
//! gives the tables, the statements and what each of them walks.
//!
//! What follows from the rows is the same for every backend and stands once: the ledger's rules in `books`, the registry's in `registry`, the form of blobs in `codec`.
//! A backend reads rows, asks there, and writes the answer.
//!
//! Invariants that every backend keeps:
//!
//! - a call that has returned `Ok` is durable; a call that has returned an error has changed nothing;
//! - (app, id) and (app, provider, token) are unique; a [`bugle_model::DeviceKey`] is never used twice;
//! - `targeted = ended + waiting` for every leg at every moment, and a push ends when its last leg has ended;
//! - a report under an epoch that has moved on changes nothing;
//! - new pages are handed over ([`Handover`]) after they are durable, by whoever made them durable, never by a caller's future.

mod books;
mod codec;
mod config;
mod error;
mod ledger;
pub mod metrics;
pub mod postgres;
mod quota;
mod registry;
pub mod sqlite;
pub mod transfer;

pub use config::{Config, DatabaseUrl, Synchronous};
pub use error::{Error, Result};
pub use ledger::{Expansion, Ledger, OpenLeg, Range, Swept, Walk};
pub use quota::{Draw, Grant, Pace, Throttle};
pub use registry::{Registered, Registry};

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bugle_model::{Clock, PageRef};

/// Everything a store can be asked.
pub trait Store: Registry + Ledger {}
impl<T: Registry + Ledger> Store for T {}

/// Who wants to hear of work, called after it has become durable. Calls must not block.
pub trait Handover: Send + Sync {
    /// These pages wait. Hints: whoever takes them asks the ledger.
    fn pages(&self, pages: Vec<PageRef>);
    /// These pages wait, and only this process can take them: they were leased when they were accepted.
    fn kept(&self, pages: Vec<PageRef>) {
        self.pages(pages);
    }
    /// For how long this process leases what it takes, while it takes pages; `None` = it does not, or no more. A store may then lease for this process
    /// what it accepts.
    fn lease(&self) -> Option<Duration> {
        None
    }
    /// There may be legs to expand: a push was accepted, or a leg's window has room again.
    fn legs(&self);
}

/// Opens the store that the settings name; the one place that knows which backends there are.
///
/// Fails with [`Error::Setup`] in words for the person who starts bugle.
pub async fn open(
    config: &Config,
    data_dir: &Path,
    clock: Arc<dyn Clock>,
    handover: Arc<dyn Handover>,
) -> Result<Arc<dyn Store>> {
    if config.url.is_postgres() {
        return Ok(postgres::open(config, clock, handover).await?);
    }
    Ok(sqlite::open(config, data_dir, clock, handover)?)
}
