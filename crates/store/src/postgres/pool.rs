//! Connections, lent one by one.
//!
//! The pool below makes connections and ends them: it waits for a server that is starting, and knows how old a connection may become. What it is given back it asks for an
//! answer, though, and that is a round trip more for each call of the store. So connections that are known to be in order do not go back there: they wait here, and the one
//! that was used last is lent first. One that has not been needed for some seconds, or has been out for long, goes back.
//!
//! Invariant: who has a permit finds a connection here or room for one below. So connections are lent here only, once the store is open.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnectOptions;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connect::PATIENCE;
use crate::Result;

/// A connection that nobody has needed for so long goes back below.
const IDLE: Duration = Duration::from_secs(10);

/// One that has been out for so long goes back below, where its age is looked at.
const OUT: Duration = Duration::from_secs(60);

/// The connections to a server.
pub(super) struct Pool {
    below: PgPool,
    /// One for each connection that there may be.
    permits: Arc<Semaphore>,
    /// In order; the one that was used last at the end.
    idle: Mutex<VecDeque<Idle>>,
}

struct Idle {
    conn: PoolConnection<Postgres>,
    out_since: Instant,
    used: Instant,
}

impl Pool {
    pub(super) fn new(below: PgPool) -> Arc<Self> {
        let connections = below.options().get_max_connections() as usize;
        Arc::new(Self {
            below,
            permits: Arc::new(Semaphore::new(connections)),
            idle: Mutex::default(),
        })
    }

    /// How the server is reached.
    pub(super) fn connect_options(&self) -> Arc<PgConnectOptions> {
        self.below.connect_options()
    }

    /// Connections at most.
    pub(super) fn size(&self) -> u32 {
        self.below.options().get_max_connections()
    }

    /// A connection, which may be dead. Waits for one as long as for a server that is starting.
    pub(super) async fn lend(self: &Arc<Self>) -> Result<Lent> {
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&self.permits).acquire_owned());
        let Ok(Ok(permit)) = permit.await else {
            return Err(sqlx::Error::PoolTimedOut.into());
        };
        let (conn, out_since) = match self.last_used() {
            Some(idle) => (idle.conn, idle.out_since),
            // It has room for making a connection, many KiB, which every call that waits would have, too.
            None => (Box::pin(self.below.acquire()).await?, Instant::now()),
        };
        Ok(Lent {
            conn: Some(conn),
            in_order: false,
            out_since,
            pool: Arc::clone(self),
            _permit: permit,
        })
    }

    fn last_used(&self) -> Option<Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop_back()
    }

    fn put(&self, conn: PoolConnection<Postgres>, out_since: Instant) {
        let used = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let unused = idle.pop_front_if(|first| used - first.used > IDLE);
        if used - out_since <= OUT {
            idle.push_back(Idle { conn, out_since, used });
        }
        drop(idle);
        drop(unused);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let idle = self.idle.get_mut().unwrap_or_else(PoisonError::into_inner);
        for idle in idle.drain(..) {
            // Closes the socket. To go back below, it would need a runtime, which may have ended.
            drop(idle.conn.detach());
        }
    }
}

/// A connection that is lent again only if it is known to be in order: a time-out, a lost answer or a dropped call may leave it in the middle of something.
pub(super) struct Lent {
    conn: Option<PoolConnection<Postgres>>,
    in_order: bool,
    out_since: Instant,
    pool: Arc<Pool>,
    /// Given up after the connection, which the next one may find then.
    _permit: OwnedSemaphorePermit,
}

impl Lent {
    #[expect(clippy::expect_used, reason = "the connection is there until it is dropped")]
    pub(super) fn get(&mut self) -> &mut PgConnection {
        self.conn.as_mut().expect("the connection is there until it is dropped")
    }

    /// May it be used again?
    pub(super) fn is_in_order(&mut self, in_order: bool) {
        self.in_order = in_order;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        match self.conn.take() {
            Some(conn) if self.in_order => self.pool.put(conn, self.out_since),
            // Closes the socket; the server rolls back.
            Some(conn) => drop(conn.detach()),
            None => {}
        }
    }
}
