//! One transaction of the writer, shared by several jobs.

use std::sync::Arc;
use std::time::Instant;

use rusqlite::Connection;

use super::tx::Mark;
use super::{Call, Cost, Queued, Tx};
use crate::{Handover, metrics};

/// A group stops at so many rows …
pub(super) const MAX_ROWS: u32 = 1_000;
/// … or removals.
pub(super) const MAX_REMOVALS: u32 = 256;
/// With an urgent job in it, a group stops here: the urgent one waits for the whole group's commit.
pub(super) const MAX_ROWS_WITH_URGENT: u32 = 128;

/// An open transaction and the jobs that ran in it.
pub(super) struct Group<'a> {
    conn: &'a Connection,
    tx: Tx<'a>,
    ran: Vec<Box<dyn Call>>,
    cost: Cost,
    urgent: bool,
    /// Each job has a savepoint: one has failed.
    careful: bool,
}

impl<'a> Group<'a> {
    pub(super) fn begin(conn: &'a Connection) -> rusqlite::Result<Self> {
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self {
            conn,
            tx: Tx::new(conn),
            ran: Vec::new(),
            cost: Cost::default(),
            urgent: false,
            careful: false,
        })
    }

    pub(super) fn has_room_for(&self, queued: &Queued) -> bool {
        let max_rows = match (self.urgent, queued.urgent) {
            (true, false) => MAX_ROWS_WITH_URGENT,
            _ => MAX_ROWS,
        };
        self.cost.rows.saturating_add(queued.cost.rows) <= max_rows
            && self.cost.removals.saturating_add(queued.cost.removals) <= MAX_REMOVALS
    }

    /// Runs a job. An error says that the whole group is lost; the job's own failure is not one.
    pub(super) fn run(&mut self, queued: Queued) -> rusqlite::Result<()> {
        let Queued { urgent, cost, call } = queued;
        self.urgent |= urgent;
        self.cost.rows = self.cost.rows.saturating_add(cost.rows);
        self.cost.removals = self.cost.removals.saturating_add(cost.removals);
        self.ran.push(call);
        let job = self.ran.len() - 1;
        if self.careful {
            return self.run_under_savepoint(job);
        }
        let (mark, changes) = (self.tx.mark(), self.conn.total_changes());
        if self.ran[job].run(&self.tx) {
            return Ok(());
        }
        self.tx.forget_since(mark);
        // Most refuse before they change anything. A full disk or an I/O error makes SQLite roll back the whole transaction.
        if self.conn.total_changes() == changes && !self.conn.is_autocommit() {
            return Ok(());
        }
        self.repeat()
    }

    /// Undoes everything and runs all jobs again, each under a savepoint.
    fn repeat(&mut self) -> rusqlite::Result<()> {
        self.careful = true;
        // Fails if there is no transaction any more.
        self.step("ROLLBACK")?;
        self.tx.forget_since(Mark::default());
        self.step("BEGIN IMMEDIATE")?;
        (0..self.ran.len()).try_for_each(|job| self.run_under_savepoint(job))
    }

    fn run_under_savepoint(&mut self, job: usize) -> rusqlite::Result<()> {
        let mark = self.tx.mark();
        self.step("SAVEPOINT job")?;
        if !self.ran[job].run(&self.tx) {
            self.tx.forget_since(mark);
            self.step("ROLLBACK TO job")?;
        }
        self.step("RELEASE job")
    }

    /// Commits, publishes, answers.
    pub(super) fn commit(self, handover: &dyn Handover) {
        let begun = Instant::now();
        if let Err(error) = self.step("COMMIT") {
            return self.lose(error);
        }
        metrics::committed(self.ran.len(), begun.elapsed());
        self.tx.publish(handover);
        self.ran.into_iter().for_each(|call| call.answer(None));
    }

    /// Rolls back and tells everybody who took part; nothing is published.
    pub(super) fn lose(self, error: rusqlite::Error) {
        tracing::error!(%error, jobs = self.ran.len(), "a group of writes was not committed");
        if !self.conn.is_autocommit()
            && let Err(error) = self.step("ROLLBACK")
        {
            tracing::error!(%error, "cannot roll back");
        }
        let cause: Arc<dyn std::error::Error + Send + Sync> = Arc::new(error);
        self.ran.into_iter().for_each(|call| call.answer(Some(&cause)));
    }

    fn step(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(drop)
    }
}
