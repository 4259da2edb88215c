//! The one thread that writes, and group commit.
//!
//! Jobs wait in an [`Inbox`]. The writer takes what has arrived during its last commit, runs one job after the other in one
//! transaction, commits, and only then publishes what the jobs had to say (pages to hand over, closures) and answers their
//! callers. So one fsync serves many callers and nobody waits for company.
//!
//! Hardly any job fails after it has changed something, and a savepoint for each would copy every page that it touches: a fifth of
//! the writer's time. So there are none until one does fail. Then the transaction is rolled back and its jobs run again, each
//! under a savepoint; that is why a job may run twice, is a `Fn`, and does nothing but what a rollback undoes (or what waits for
//! [`Tx::after_commit`]).
//!
//! Invariants:
//!
//! - an answer `Ok` follows a commit; an answer `Err` changed nothing;
//! - a job that fails or panics leaves nothing, its neighbours live;
//! - nothing is published that was not committed, and it is published whether or not the caller still listens.

mod group;
#[cfg(test)]
mod tests;
mod tx;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

use self::group::Group;
pub(super) use self::tx::Tx;
use super::connections::BUSY_TIMEOUT;
use super::inbox::Inbox;
use super::thread::Thread;
use crate::{Error, Handover, Result};

/// So many jobs may wait in each of the two queues.
const PLACES: usize = 4_096;

/// How long the writer waits for readers when it is to start the WAL file anew.
const RESTART_TIMEOUT: Duration = Duration::from_millis(100);

/// What a job will do, at most: a group stops at 1 000 rows or 256 removals, a single bigger job runs alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cost {
    /// Rows inserted or updated.
    pub(super) rows: u32,
    /// Devices removed.
    pub(super) removals: u32,
}

impl Cost {
    /// So many rows, nothing removed.
    pub(super) fn rows(rows: usize) -> Self {
        Self {
            rows: u32::try_from(rows).unwrap_or(u32::MAX),
            removals: 0,
        }
    }

    /// So many devices removed.
    pub(super) fn removals(removals: usize) -> Self {
        Self {
            rows: 0,
            removals: u32::try_from(removals).unwrap_or(u32::MAX),
        }
    }
}

/// The callers' end of the writer. Dropping it lets the writer finish what is queued, and waits for that.
pub(super) struct Writer {
    inbox: Arc<Inbox<Queued>>,
    restart: Arc<AtomicBool>,
    _thread: Stopping,
}

/// A job in the queue.
struct Queued {
    urgent: bool,
    cost: Cost,
    call: Box<dyn Call>,
}

/// A job with its caller, its type of answer hidden.
trait Call: Send {
    /// Runs the job and keeps its answer, in place of one from a transaction that was rolled back. `false` = it failed, and what it has done must be undone.
    fn run(&mut self, tx: &Tx<'_>) -> bool;
    /// Answers the caller. `lost` = the transaction did not come to pass, for this reason.
    fn answer(self: Box<Self>, lost: Option<&Arc<dyn std::error::Error + Send + Sync>>);
}

struct Calling<T, F> {
    job: F,
    answer: Option<Result<T>>,
    caller: oneshot::Sender<Result<T>>,
}

/// The transaction that a job took part in was not committed.
#[derive(Debug, thiserror::Error)]
#[error("the transaction was not committed")]
struct NotCommitted(#[source] Arc<dyn std::error::Error + Send + Sync>);

impl<T: Send, F: Fn(&Tx<'_>) -> Result<T> + Send> Call for Calling<T, F> {
    fn run(&mut self, tx: &Tx<'_>) -> bool {
        let answer = catch_unwind(AssertUnwindSafe(|| (self.job)(tx))).unwrap_or_else(|_| {
            tracing::error!("a write panicked and was rolled back");
            Err(Error::Unavailable("the write panicked".into()))
        });
        self.answer.insert(answer).is_ok()
    }

    fn answer(self: Box<Self>, lost: Option<&Arc<dyn std::error::Error + Send + Sync>>) {
        let answer = match (self.answer, lost) {
            (Some(Err(error)), _) => Err(error),
            (_, Some(cause)) => Err(Error::Unavailable(Box::new(NotCommitted(Arc::clone(cause))))),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(Error::Unavailable("the write was not run".into())),
        };
        // A caller that no longer listens is no failure: what it asked for is done.
        let _ = self.caller.send(answer);
    }
}

impl Writer {
    /// Starts the writer on its connection.
    pub(super) fn start(conn: Connection, handover: Arc<dyn Handover>) -> Result<Self> {
        let inbox = Arc::new(Inbox::new(PLACES));
        let restart = Arc::new(AtomicBool::new(false));
        let loop_ = Loop {
            conn,
            handover,
            inbox: Arc::clone(&inbox),
            restart: Arc::clone(&restart),
        };
        let thread = Thread::start("bugle-writer", move || loop_.run())?;
        Ok(Self {
            _thread: Stopping(Arc::clone(&inbox), thread),
            inbox,
            restart,
        })
    }

    /// Runs a job in the current group's transaction and resolves after the commit.
    ///
    /// Once the job is queued it runs to its end, even if this future is dropped; after a neighbour's failure it runs twice.
    /// `urgent` jobs go first: they are for writes of one row that somebody waits for.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        urgent: bool,
        cost: Cost,
        job: impl Fn(&Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (caller, answer) = oneshot::channel();
        let call = Box::new(Calling {
            job,
            answer: None,
            caller,
        });
        let queued = Queued { urgent, cost, call };
        self.inbox
            .put(urgent, queued)
            .await
            .map_err(|e| Error::Unavailable(e.into()))?;
        answer
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable("the writer has stopped".into())))
    }

    /// Set it to let the writer start the WAL file anew between two groups.
    pub(super) fn restart_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.restart)
    }
}

/// Closes the inbox before it waits for the thread.
struct Stopping(Arc<Inbox<Queued>>, Thread);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.close();
        self.1.join();
    }
}

/// The writer's end: everything that lives on its thread.
struct Loop {
    conn: Connection,
    handover: Arc<dyn Handover>,
    inbox: Arc<Inbox<Queued>>,
    restart: Arc<AtomicBool>,
}

impl Loop {
    fn run(self) {
        while let Some(first) = self.inbox.take() {
            self.commit_group(first);
            if self.restart.swap(false, Ordering::Relaxed) {
                self.restart_wal();
            }
        }
    }

    fn commit_group(&self, first: Queued) {
        let mut group = match Group::begin(&self.conn) {
            Ok(group) => group,
            Err(error) => {
                // Whoever waits would run into the same, one time-out after the other.
                let queued = std::iter::once(first).chain(self.inbox.drain());
                let cause: Arc<dyn std::error::Error + Send + Sync> = Arc::new(error);
                tracing::error!(error = %cause, "cannot begin a transaction");
                return queued.for_each(|q| q.call.answer(Some(&cause)));
            }
        };
        let mut next = Some(first);
        while let Some(queued) = next {
            if let Err(error) = group.run(queued) {
                return group.lose(error);
            }
            next = self.inbox.take_if(|q| group.has_room_for(q));
        }
        group.commit(self.handover.as_ref());
    }

    /// Under constant writing the checkpoints never catch up with the end of the WAL file, which would grow for ever: only
    /// the writer can make a moment in which nothing is appended.
    fn restart_wal(&self) {
        let restarted = self.conn.busy_timeout(RESTART_TIMEOUT).and_then(|()| {
            self.conn
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))
        });
        match restarted.and_then(|busy| self.conn.busy_timeout(BUSY_TIMEOUT).map(|()| busy)) {
            Ok(false) => {}
            Ok(true) => tracing::debug!("readers kept the write-ahead log from being started anew"),
            Err(error) => tracing::warn!(%error, "cannot start the write-ahead log anew"),
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // However the thread ends, nobody may wait for it in vain: dropped calls tell their callers.
        self.inbox.close();
        drop(self.inbox.drain());
    }
}
