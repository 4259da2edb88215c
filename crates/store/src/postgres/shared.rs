//! What every call of the store works with: the connections, transactions, and what is told to others after a commit.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use bugle_model::{Clock, PageRef};
use futures_util::future::BoxFuture;
use sqlx::PgConnection;

use super::apps::Apps;
use super::failure::{is_disconnected, is_retryable};
use super::ledger::kept::{Kept, KeptPush};
use super::ledger::wake::LegBell;
use super::pool::{Lent, Pool};
use super::replica::Replica;
use crate::{Error, Handover, Result};

/// A deadlock, or a race with another process, is tried again so often.
const TRIES: u32 = 8;

/// What all parts of the store share.
pub(super) struct Shared {
    pub(super) pool: Arc<Pool>,
    /// Where lists, and audiences that it knows already, are read.
    pub(super) replica: Option<Replica>,
    pub(super) apps: Apps,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) handover: Arc<dyn Handover>,
    /// Pushes that were accepted here and are about to be sent here.
    pub(super) kept: Kept,
    /// How other processes hear of legs.
    pub(super) legs: LegBell,
    /// A transaction that takes longer is given up, with its connection.
    pub(super) timeout: Duration,
}

/// A transaction. What it announces is told when it is committed, and never else.
pub(super) struct Tx {
    conn: Lent,
    pages: Vec<PageRef>,
    legs: bool,
}

impl Tx {
    /// The connection inside the transaction.
    pub(super) fn conn(&mut self) -> &mut PgConnection {
        self.conn.get()
    }

    /// Tells of a page that waits, after the commit.
    pub(super) fn hand_over(&mut self, page: PageRef) {
        self.pages.push(page);
    }

    /// Tells that there may be legs to expand, after the commit.
    pub(super) fn wake_legs(&mut self) {
        self.legs = true;
    }
}

impl Shared {
    /// Runs a transaction, again if it was the victim of a deadlock, and tells what it announced after the commit.
    ///
    /// After an error nothing was changed, but where the connection was lost while the commit was on its way: then nobody knows.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send,
        F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + Sync,
    {
        let mut tries = 1;
        loop {
            let tried = tokio::time::timeout(self.timeout, self.attempt(&work)).await;
            match tried.unwrap_or_else(|_| Err(self.too_slow())) {
                Err(error) if is_retryable(&error) && tries < TRIES => {
                    tokio::time::sleep(Duration::from_millis(1 << tries)).await;
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    /// Keeps pushes that are durable and leased, and tells of them.
    pub(super) fn keep(&self, pushes: Vec<KeptPush>) {
        if !pushes.is_empty() {
            self.handover.kept(self.kept.put(pushes));
        }
    }

    async fn attempt<T, F>(&self, work: &F) -> Result<T>
    where
        F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T>>,
    {
        let mut tx = self.begin().await?;
        match work(&mut tx).await {
            Ok(value) => {
                sqlx::query("COMMIT").execute(tx.conn()).await?;
                tx.conn.is_in_order(true);
                if !tx.pages.is_empty() {
                    self.handover.pages(std::mem::take(&mut tx.pages));
                }
                if tx.legs {
                    self.handover.legs();
                    self.legs.ring();
                }
                Ok(value)
            }
            Err(error) => {
                let rolled_back = sqlx::query("ROLLBACK").execute(tx.conn()).await;
                tx.conn.is_in_order(rolled_back.is_ok());
                Err(error)
            }
        }
    }

    /// Begins a transaction on a connection that answers. After a restart of the server all that the pool has are dead: they are thrown away one by one.
    async fn begin(&self) -> Result<Tx> {
        let mut left = self.pool.size();
        loop {
            let mut conn = self.pool.lend().await?;
            match sqlx::query("BEGIN").execute(conn.get()).await {
                Ok(_) => {
                    return Ok(Tx {
                        conn,
                        pages: Vec::new(),
                        legs: false,
                    });
                }
                Err(error) if left == 0 => return Err(error.into()),
                Err(_) => left -= 1,
            }
        }
    }

    /// Reads on a connection of the primary, each statement for itself. Tried again on another connection if this one is dead.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send,
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync,
    {
        self.read_on(&self.pool, &work).await
    }

    /// The same on the replica, as old as it may be, or on the primary if there is none that is of use.
    pub(super) async fn read_replica<T, F>(&self, work: F) -> Result<T>
    where
        T: Send,
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync,
    {
        if let Some(replica) = &self.replica
            && let Some(read) = replica.read(&[], &work).await
        {
            return Ok(read);
        }
        self.read_on(&self.pool, &work).await
    }

    async fn read_on<T, F>(&self, pool: &Arc<Pool>, work: &F) -> Result<T>
    where
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>>,
    {
        let read = async {
            let mut left = pool.size();
            loop {
                let mut conn = pool.lend().await?;
                match work(conn.get()).await {
                    Err(error) if left > 0 && is_disconnected(&error) => left -= 1,
                    done => {
                        conn.is_in_order(!matches!(&done, Err(Error::Unavailable(_))));
                        return done;
                    }
                }
            }
        };
        tokio::time::timeout(self.timeout, read)
            .await
            .unwrap_or_else(|_| Err(self.too_slow()))
    }

    fn too_slow(&self) -> Error {
        too_slow(self.timeout)
    }
}

/// A number that nobody else has.
pub(super) fn random() -> Result<i64> {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).map_err(|error| Error::Unavailable(error.into()))?;
    Ok(i64::from_ne_bytes(bytes))
}

/// The server has not answered in this time.
pub(super) fn too_slow(patience: Duration) -> Error {
    let problem = format!("PostgreSQL did not answer within {} ms", patience.as_millis());
    Error::Unavailable(std::io::Error::new(std::io::ErrorKind::TimedOut, problem).into())
}
