//! Threads that read, each with a connection of its own.
//!
//! A job runs in one read transaction, so what it reads is of one moment, and it sees every write that was answered before it
//! was asked for. Jobs must be bounded: while one runs, the write-ahead log cannot be started anew.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::inbox::Inbox;
use super::thread::Thread;
use crate::{Error, Result};

/// So many jobs may wait.
const PLACES: usize = 1_024;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The callers' end of the reading threads. Dropping it lets them finish what is queued, and waits for that.
pub(super) struct Readers {
    inbox: Arc<Inbox<Job>>,
    threads: Vec<Thread>,
}

impl Readers {
    /// Starts one thread per connection.
    pub(super) fn start(connections: Vec<Connection>) -> Result<Self> {
        let inbox = Arc::new(Inbox::<Job>::new(PLACES));
        let mut readers = Self {
            inbox: Arc::clone(&inbox),
            threads: Vec::with_capacity(connections.len()),
        };
        for (number, conn) in connections.into_iter().enumerate() {
            let inbox = Arc::clone(&inbox);
            let run = move || {
                while let Some(job) = inbox.take() {
                    job(&conn);
                }
            };
            readers
                .threads
                .push(Thread::start(&format!("bugle-reader-{number}"), run)?);
        }
        Ok(readers)
    }

    /// Runs a job in a read transaction of its own.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (caller, answer) = oneshot::channel();
        let job: Job = Box::new(move |conn| {
            if !caller.is_closed() {
                // The caller may have gone meanwhile; a read has no other effect.
                let _ = caller.send(read(conn, job));
            }
        });
        self.inbox
            .put(false, job)
            .await
            .map_err(|e| Error::Unavailable(e.into()))?;
        answer
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable("the readers have stopped".into())))
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.inbox.close();
        self.threads.iter_mut().for_each(Thread::join);
    }
}

fn read<T>(conn: &Connection, job: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    conn.prepare_cached("BEGIN")?.execute([])?;
    let answer = catch_unwind(AssertUnwindSafe(|| job(conn))).unwrap_or_else(|_| {
        tracing::error!("a read panicked");
        Err(Error::Unavailable("the read panicked".into()))
    });
    if !conn.is_autocommit() {
        conn.prepare_cached("COMMIT")?.execute([])?;
    }
    answer
}
