//! The store in one `SQLite` file, for one process.
//!
//! # Threads
//!
//! | thread | connection | does |
//! |---|---|---|
//! | `bugle-writer` | the only one that writes | groups of jobs, one transaction each (`writer`) |
//! | `bugle-reader-N` | read-only | one job per read transaction (`readers`) |
//! | `bugle-checkpoint` | its own | carries the write-ahead log into the database (`checkpoint`) |
//!
//! Asynchronous callers reach them through bounded queues (`inbox`). The data directory is under an exclusive lock (`lock`),
//! so what one process remembers (leases, app numbers) is the truth.

mod apps;
mod checkpoint;
mod connections;
mod devices;
mod failure;
mod files;
mod gone;
mod inbox;
mod ledger;
mod lists;
mod lock;
mod migrate;
mod readers;
mod register;
mod registry;
mod rows;
mod subscriptions;
mod thread;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bugle_model::Clock;

use self::apps::Apps;
use self::checkpoint::Checkpointer;
use self::connections::Connections;
use self::ledger::{Leases, Quotas};
use self::lock::Lock;
use self::readers::Readers;
use self::writer::Writer;
use crate::{Config, Error, Handover, Result};

/// The store. Dropping it finishes what was asked for, waits for its threads and gives the lock back.
///
/// Fields are dropped in this order: the writer's connection is closed last and leaves a database without a log.
pub struct Store {
    readers: Readers,
    _checkpointer: Checkpointer,
    writer: Writer,
    apps: Apps,
    leases: Leases,
    quotas: Quotas,
    clock: Arc<dyn Clock>,
    _locks: Vec<Lock>,
}

/// Opens the database that the settings name, creating or migrating it where necessary, and starts its threads.
///
/// Fails with [`crate::Error::Setup`] in words for the person who starts bugle: the directory cannot be written to, another bugle
/// has the lock, the database is of another program or of a newer version.
pub fn open(
    config: &Config,
    data_dir: &Path,
    clock: Arc<dyn Clock>,
    handover: Arc<dyn Handover>,
) -> Result<Arc<Store>> {
    let path = files::database(config.url.expose(), data_dir)?;
    if !config.migrate && !path.exists() {
        return Err(Error::Setup(format!(
            "there is no database {} yet, and [store] migrate is false: run `bugle migrate`, which makes it",
            path.display()
        )));
    }
    let (path, locks) = claim(&path, data_dir)?;
    let connections = Connections::open(&path, config)?;
    let apps = Apps::load(&connections.writer)?;
    let writer = Writer::start(connections.writer, handover)?;
    Ok(Arc::new(Store {
        readers: Readers::start(connections.readers)?,
        _checkpointer: Checkpointer::start(connections.checkpointer, &path, writer.restart_flag())?,
        writer,
        apps,
        leases: Leases::default(),
        quotas: Quotas::default(),
        clock,
        _locks: locks,
    }))
}

/// Brings the database that the settings name to this version's form, creating it where there is none, whatever `migrate` says.
/// Answers its form before and after: how many migrations it has had.
///
/// Fails like [`open`], also while a bugle runs on it.
pub fn migrate(config: &Config, data_dir: &Path) -> Result<(usize, usize)> {
    let path = files::database(config.url.expose(), data_dir)?;
    let (path, _locks) = claim(&path, data_dir)?;
    connections::migrate_only(&path, config)
}

/// Where the database is.
pub fn path(config: &Config, data_dir: &Path) -> Result<PathBuf> {
    files::database(config.url.expose(), data_dir)
}

/// The form of the database that the settings name, and the one that this version writes. Takes no lock, changes nothing.
///
/// Fails with [`crate::Error::Setup`] if it is of another program or of a newer version, or cannot be read.
pub fn form(config: &Config, data_dir: &Path) -> Result<(usize, usize)> {
    connections::form(&files::database(config.url.expose(), data_dir)?, config)
}

/// Keeps every bugle away from a database, for as long as it lives.
pub(crate) struct Kept {
    _lock: Lock,
}

/// Keeps every bugle away from a database that is there. Fails while one runs on it.
pub(crate) fn keep(path: &Path) -> Result<Kept> {
    // Whoever runs on it holds this one beside that of its directory.
    let lock = Lock::take(&path.with_added_extension("lock"))?;
    Ok(Kept { _lock: lock })
}

/// A connection that reads a database which nobody writes to, the database's form, and the one that this version writes. Changes no byte of it.
pub(crate) fn read_only(path: &Path) -> Result<(rusqlite::Connection, usize, usize)> {
    connections::read_only(path, &Config::default())
}

/// Where the write-ahead log of a database is, if it has one. The path is without symbolic links.
pub(crate) fn log_of(path: &Path) -> PathBuf {
    connections::log_of(path)
}

/// Makes sure that directory and file are there, for nobody else: neither another bugle nor other users of the machine.
fn claim(path: &Path, data_dir: &Path) -> Result<(PathBuf, Vec<Lock>)> {
    files::create_dir(data_dir)?;
    files::create_dir(path.parent().unwrap_or(data_dir))?;
    let path = files::create_file(path)?;
    // Two bugles with directories of their own must not meet in one database either.
    let locks = vec![
        Lock::take(&data_dir.join("lock"))?,
        Lock::take(&path.with_added_extension("lock"))?,
    ];
    Ok((path, locks))
}
