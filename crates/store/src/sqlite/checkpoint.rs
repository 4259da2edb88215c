//! Carries the write-ahead log into the database, beside the writer.
//!
//! A passive checkpoint about every second, once the file is worth it, disturbs nobody. When the log has grown beyond
//! [`RESTART_ABOVE`] all the same, the writer is asked to start it anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rusqlite::Connection;

use super::thread::Thread;
use crate::{Result, metrics};

const EVERY: Duration = Duration::from_secs(1);
/// Smaller logs are left alone, in bytes.
const PASSIVE_ABOVE: u64 = 4 << 20;
/// Longer logs are started anew by the writer, in bytes.
pub(super) const RESTART_ABOVE: u64 = 64 << 20;
/// A page of the database and its header in the log, in bytes.
const FRAME: u64 = 4_096 + 24;

/// The thread. Dropping it ends it.
pub(super) struct Checkpointer {
    /// Never sent on: hanging up is the signal.
    stop: Option<Sender<()>>,
    thread: Thread,
}

impl Checkpointer {
    /// Starts it for the database at this path. `restart` is how it asks the writer.
    pub(super) fn start(conn: Connection, database: &Path, restart: Arc<AtomicBool>) -> Result<Self> {
        let (stop, stopped) = channel();
        let wal = wal_of(database);
        let thread = Thread::start("bugle-checkpoint", move || run(&conn, &wal, &restart, &stopped))?;
        Ok(Self {
            stop: Some(stop),
            thread,
        })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.join();
    }
}

/// Where `SQLite` keeps the log of a database.
pub(super) fn wal_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

fn run(conn: &Connection, wal: &Path, restart: &AtomicBool, stopped: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(EVERY) {
        let bytes = std::fs::metadata(wal).map_or(0, |file| file.len());
        metrics::wal(bytes);
        if bytes <= PASSIVE_ABOVE {
            continue;
        }
        match passive(conn) {
            // The file keeps its length when it is used again from its start: only what is in use counts.
            Ok(used) if used > RESTART_ABOVE => restart.store(true, Ordering::Relaxed),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "cannot carry the write-ahead log into the database"),
        }
    }
}

/// Carries over what no reader still needs. Returns how long the used part of the log is, in bytes.
fn passive(conn: &Connection) -> rusqlite::Result<u64> {
    let frames: i64 = conn
        .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?
        .query_row([], |row| row.get(1))?;
    Ok(u64::try_from(frames).unwrap_or(0) * FRAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passive_checkpoint_carries_the_log_over_and_says_how_long_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(1000000));")
            .unwrap();
        let other = Connection::open(&path).unwrap();
        let used = passive(&other).unwrap();
        assert!(used > 1_000_000 && used <= std::fs::metadata(wal_of(&path)).unwrap().len());
        writer.execute_batch("INSERT INTO t VALUES (1);").unwrap();
        assert!(
            passive(&other).unwrap() < 100_000,
            "the log was used again from its start"
        );
    }
}
