//! The connections to one database file, and how they are set.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::checkpoint::RESTART_ABOVE;
use super::migrate::{migrate, must_be_current};
use crate::config::{Config, Synchronous};
use crate::{Error, Result};

/// How long a connection waits for another program that has locked the database.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The page cache of a connection that does not write, in MiB. Audiences are read once and in order: more was measured to be slower, and it is held for good.
const READER_CACHE_MIB: u32 = 2;

/// Statements that a connection keeps prepared.
const STATEMENTS: usize = 256;

/// One connection per thread, all to a database in today's form.
pub(super) struct Connections {
    pub(super) writer: Connection,
    pub(super) readers: Vec<Connection>,
    pub(super) checkpointer: Connection,
}

impl Connections {
    /// Opens and migrates the file, or says in words why it cannot be used.
    pub(super) fn open(path: &Path, config: &Config) -> Result<Self> {
        Self::connect(path, config).map_err(|error| not_usable(path, error))
    }

    fn connect(path: &Path, config: &Config) -> Result<Self> {
        let mut writer = connect(path, config, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        keep_log(&writer, path)?;
        if config.migrate {
            migrate(&mut writer, path)?;
        } else {
            must_be_current(&writer, path)?;
        }
        set_cache(&writer, config.cache_mib)?;
        let readers = (0..config.readers.max(1)).map(|_| connect(path, config, OpenFlags::SQLITE_OPEN_READ_ONLY));
        Ok(Self {
            writer,
            readers: readers.collect::<Result<_>>()?,
            checkpointer: connect(path, config, OpenFlags::SQLITE_OPEN_READ_WRITE)?,
        })
    }
}

/// Migrates the file and closes it; answers its form before and after.
pub(super) fn migrate_only(path: &Path, config: &Config) -> Result<(usize, usize)> {
    let migrated = || {
        let mut writer = connect(path, config, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        keep_log(&writer, path)?;
        migrate(&mut writer, path)
    };
    migrated().map_err(|error| not_usable(path, error))
}

/// Reads which form the file has and which one this version writes. Changes nothing, waits for nobody.
pub(super) fn form(path: &Path, config: &Config) -> Result<(usize, usize)> {
    read_only(path, config).map(|(_, done, known)| (done, known))
}

/// A connection that changes nothing, the file's form, and the one that this version writes.
pub(super) fn read_only(path: &Path, config: &Config) -> Result<(Connection, usize, usize)> {
    let read = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        // Where nobody works on it, even a reader would leave the log's files behind, unless it is told that nothing changes.
        let conn = match still(path) {
            Some(uri) => connect(Path::new(&uri), config, flags | OpenFlags::SQLITE_OPEN_URI)?,
            None => connect(path, config, flags)?,
        };
        let (done, known) = super::migrate::form(&conn, path)?;
        Ok((conn, done, known))
    };
    read().map_err(|error| not_usable(path, error))
}

/// Where the write-ahead log is, if there is one.
pub(super) fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// The address of a database that has no log, for a reader that writes nothing at all.
fn still(path: &Path) -> Option<String> {
    if log_of(path).exists() {
        return None;
    }
    let path = path.canonicalize().ok()?;
    let escaped = path
        .to_str()?
        .replace('%', "%25")
        .replace('?', "%3f")
        .replace('#', "%23");
    Some(format!("file:{escaped}?immutable=1"))
}

fn connect(path: &Path, config: &Config, mode: OpenFlags) -> Result<Connection> {
    // Each connection stays on its thread, so SQLite's own mutexes are not needed.
    let conn = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    let synchronous = match config.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    conn.pragma_update(None, "synchronous", synchronous)?;
    set_cache(&conn, READER_CACHE_MIB.min(config.cache_mib))?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "foreign_keys", false)?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(conn)
}

fn set_cache(conn: &Connection, mib: u32) -> Result<()> {
    conn.pragma_update(None, "cache_size", -i64::from(mib.max(1)) * 1_024)?;
    Ok(())
}

fn keep_log(conn: &Connection, path: &Path) -> Result<()> {
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(Error::Setup(format!(
            "{} cannot have a write-ahead log (journal mode {mode}): put it on a local file system",
            path.display()
        )));
    }
    conn.pragma_update(
        None,
        "journal_size_limit",
        i64::try_from(RESTART_ABOVE).unwrap_or(i64::MAX),
    )?;
    Ok(())
}

/// What to tell somebody whose file `SQLite` cannot use.
fn not_usable(path: &Path, error: Error) -> Error {
    match error {
        Error::Setup(text) => Error::Setup(text),
        Error::Corrupt { detail, .. } => Error::Setup(format!(
            "{} is damaged or no database of bugle ({detail}): put a backup back, or set [store] url to another file",
            path.display()
        )),
        Error::Unavailable(cause) => Error::Setup(format!("cannot open the database {}: {cause}", path.display())),
    }
}
