//! Moves everything from an `SQLite` store to a PostgreSQL store: `bugle migrate-data`.
//!
//! # How it works
//!
//! - The source is under the lock that a running bugle holds, and is only read. So it stands still, and its fingerprint (`source`) is that of every byte: a
//!   transfer that was broken off goes on from the very same data or not at all.
//! - The tables (`tables`) are walked in the order of their keys. A thread reads rows and writes them in the binary form of `COPY` (`reader`), a step of
//!   bounded length at a time; at most `AHEAD` steps wait, so memory does not grow with the source.
//! - Each step is one transaction of the target, together with its row in `bugle_transfer`: the source's fingerprint, and the last key that was moved. Whatever
//!   kills either side, the next run goes on behind that key.
//! - Apps may have other numbers in the target; all other keys are kept. Leases are not moved: every page is free.
//! - In the end rows are counted and their columns summed on both sides (`sums`), sequences are set beyond every key that was ever used, and only then does
//!   `bugle_transfer` say that the target is whole. Until then no store opens it (`must_be_whole`).

mod reader;
mod source;
mod sums;
mod tables;
mod target;

use sqlx::PgPool;
use tokio::sync::mpsc;

pub use self::source::Source;
use self::target::{Begun, Target};
use crate::{DatabaseUrl, Error, Result};

/// Steps that have been read and wait to be written.
const AHEAD: usize = 2;

/// How much is moved in one transaction, whichever is reached first.
#[derive(Debug, Clone, Copy)]
pub struct StepSize {
    /// Rows, at least 1.
    pub rows: u64,
    /// Bytes on their way; a single row may be longer.
    pub bytes: usize,
}

impl Default for StepSize {
    fn default() -> Self {
        Self {
            rows: 20_000,
            bytes: 8 << 20,
        }
    }
}

/// How far a transfer is. Told when the target has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What is being moved.
    pub table: &'static str,
    /// Rows of all tables that are in the target now.
    pub moved: u64,
    /// Rows of all tables in the source.
    pub total: u64,
}

/// A table, counted on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Its name.
    pub table: &'static str,
    /// Rows in the source.
    pub source: u64,
    /// Rows in the target; the same, since all else is an error.
    pub target: u64,
}

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All is there.
    Done(Vec<Counted>),
    /// All was there before; nothing was done.
    WasDone,
}

/// Moves everything to the PostgreSQL database of this address, whose schema is brought to this version's form. `watch` hears of every step.
///
/// The future may be dropped at any moment: the next call goes on.
///
/// Fails with [`Error::Setup`], in words for the person who does it, where the target holds anything else, or a bugle runs on it, or the two differ in the end.
pub async fn run(
    source: Source,
    target: &DatabaseUrl,
    size: StepSize,
    watch: &mut (dyn FnMut(Step) + Send),
) -> Result<Outcome> {
    let mut target = Target::connect(target).await?;
    let Begun::At(places) = target.begin(&source).await? else {
        return Ok(Outcome::WasDone);
    };
    let apps = target.apps(&source.apps()?).await?;
    let counts = source.counts()?;
    let total = counts.iter().sum();
    let mut moved = places.iter().map(|place| place.rows).sum();
    let (steps, mut read) = mpsc::channel(AHEAD);
    let reader = reader::start(&source, apps, places, size, steps)?;
    while let Some(step) = read.recv().await {
        let step = step?;
        target.write(&step).await?;
        moved += step.rows;
        watch(Step {
            table: step.table.name,
            moved,
            total,
        });
    }
    if reader.join().is_err() {
        return Err(Error::Unavailable("the thread that reads the source failed".into()));
    }
    let counted = sums::compare(&source, &mut target).await?;
    target.finish(&source).await?;
    Ok(Outcome::Done(counted))
}

/// Refuses a database that a transfer has not filled to the end.
pub(crate) async fn must_be_whole(pool: &PgPool) -> Result<()> {
    if target::is_half_filled(&mut *pool.acquire().await?).await? {
        return Err(Error::Setup(
            "store.url: `bugle migrate-data` has not filled this database to the end: run it again, or give bugle an empty database".to_owned(),
        ));
    }
    Ok(())
}
