//! The store in PostgreSQL (15 or later), for any number of processes.
//!
//! # How it works
//!
//! - Every call runs as a task of the runtime that the store was opened on: sender threads have runtimes of their own, and a caller that goes away must not
//!   leave a transaction in the middle, or strand a push that was written and not handed over.
//! - Transactions lock rows in the order push, leg, page, device, each by key (`SELECT … ORDER BY key FOR UPDATE`), compute in Rust, and write many rows with one
//!   statement over `unnest`. Victims of a deadlock are tried again (`shared`).
//! - Arrays become rows in a select list (`SELECT unnest($1) AS a, unnest($2) AS b`), where they go on in step. In `FROM` the server would first write each of them into a
//!   store of its own, which costs a third of a microsecond a value: a tenth of what an insert takes.
//! - Leases are in the rows: `lease_until` on the database's clock, and `epoch`, the fence. What nobody may have at the same time is taken with `SKIP LOCKED`.
//! - Single writes that arrive together share a transaction (`batch`): registrations, one-row pushes.
//! - Statements read one table by one index each, or are tested for their plan. An audience is read from one index that covers it; merging channels is left to code,
//!   since the planner's choice among joins changes with its statistics.

mod apps;
mod batch;
mod connect;
mod devices;
mod failure;
mod gone;
mod inspect;
mod ledger;
mod lists;
mod migrate;
mod pool;
mod register;
mod registry;
mod replica;
mod rows;
mod shared;
mod subscriptions;
mod written;

pub use self::inspect::{Inspection, inspect, inspect_replica};

use std::future::Future;
use std::sync::Arc;

use bugle_model::Clock;
use tokio::runtime::Handle;

use self::apps::Apps;
use self::ledger::kept::Kept;
use self::ledger::own::{self, Accepts};
use self::ledger::wake::LegBell;
use self::pool::Pool;
use self::register::Registrar;
use self::replica::Replica;
use self::shared::Shared;
use crate::{Config, Error, Handover, Result};

/// The store. Dropping it closes its connections when what was asked for is done.
pub struct Store {
    shared: Arc<Shared>,
    accepts: Arc<Accepts>,
    registrar: Arc<Registrar>,
    runtime: Handle,
}

impl Store {
    /// Runs a call as a task of its own, from now on; it goes on if the caller goes away.
    fn run<T, F>(&self, call: F) -> impl Future<Output = Result<T>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        // Not inside the future that is returned: the caller would keep room for the call.
        let task = self.runtime.spawn(call);
        async move {
            match task.await {
                Ok(done) => done,
                Err(error) => Err(Error::Unavailable(error.into())),
            }
        }
    }
}

/// Opens the database that the settings name and brings it to this version's form (where `migrate` is false: refuses an older one). To be called on the runtime that is to
/// do the work.
///
/// Fails with [`crate::Error::Setup`] in words for the person who starts bugle.
pub async fn open(config: &Config, clock: Arc<dyn Clock>, handover: Arc<dyn Handover>) -> Result<Arc<Store>> {
    let primary = connect::primary(config).await?;
    connect::prepare(&primary, config.migrate).await?;
    crate::transfer::must_be_whole(&primary).await?;
    let replica = Replica::open(config, &primary).await?;
    let pool = Pool::new(primary);
    let shared = Arc::new(Shared {
        replica,
        legs: LegBell::start(&pool, Arc::clone(&handover)).await?,
        pool,
        apps: Apps::default(),
        clock,
        handover,
        kept: Kept::default(),
        timeout: config.timeout.get(),
    });
    let runtime = Handle::current();
    Ok(Arc::new(Store {
        accepts: Arc::new(own::start(&runtime, &shared)),
        registrar: Arc::new(register::start(&shared, &runtime)),
        shared,
        runtime,
    }))
}

/// Brings the database to this version's form, whatever `migrate` says. Answers its form before and after: how many migrations it has had.
pub async fn migrate(config: &Config) -> Result<(usize, usize)> {
    let pool = connect::primary(config).await?;
    connect::prepare(&pool, true).await
}

/// The same on connections of somebody else's.
pub(crate) async fn prepare(pool: &sqlx::PgPool) -> Result<(usize, usize)> {
    connect::prepare(pool, true).await
}

/// The form of the database, and the one that this version writes. Changes nothing.
pub async fn form(config: &Config) -> Result<(usize, usize)> {
    let pool = connect::primary(config).await?;
    let mut conn = pool.acquire().await?;
    migrate::form(&mut conn).await
}
