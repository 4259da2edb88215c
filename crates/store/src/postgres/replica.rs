//! The read replica: an aid, never a condition.
//!
//! On the connection that is to read, the server is asked first: does it follow this very primary, and how far has it replayed its log? So whatever becomes of it
//! (promoted, replaced, one of several behind an address), nothing is taken from a server that must not be asked. One that does not answer, or fails, is left alone
//! for some seconds; then one caller tries it, while all others stay with the primary.
//!
//! A server that has crashed answers again before it has replayed all that it had replayed before. So a place in its log is remembered, and nothing is read before it gets there:
//! time does not run backwards for those who read. That place is a second old, so that servers behind one address need not all be equally far.

use std::error::Error as _;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, PgPool};

use super::connect::{self, PATIENCE};
use super::failure::{has_code, is_disconnected, is_retryable};
use super::pool::{Lent, Pool};
use super::shared::too_slow;
use crate::{Config, Error, Result};

/// How long a server that has failed is left alone.
const REST: Duration = Duration::from_secs(5);

/// It must have a connection and say who it is in this time, or it is no help.
const ANSWER: Duration = Duration::from_secs(1);

/// How long a remembered place stands before a newer one takes its stead.
const MARKED: Duration = Duration::from_secs(1);

/// SQLSTATE: wrong password, unknown user. Nothing but the configuration will change that.
const NOT_LET_IN: &str = "28";

/// SQLSTATE: a function that the user may not call.
const NOT_ALLOWED: &str = "42501";

/// A server that follows the primary.
pub(super) struct Replica {
    pool: Arc<Pool>,
    home: Home,
    /// What is read must be there in this time.
    timeout: Duration,
    /// It has failed, and is left alone until then.
    rests: Mutex<Option<Instant>>,
    /// How far it was in the primary's log, and when.
    mark: Mutex<Option<(String, Instant)>>,
}

/// What is replicated.
struct Home {
    system: String,
    /// The database's number, the same on every replica.
    database: i64,
    /// Where the primary's log stood when the store was opened.
    log: String,
}

/// Has it replayed what is needed?
enum Standing {
    Ready,
    Behind,
}

impl Replica {
    /// Looks at the server of `store.replica_url`, if there is one. It need not be there yet.
    ///
    /// Fails with [`Error::Setup`] if it is there and is no replica of this primary, or lets nobody in.
    pub(super) async fn open(config: &Config, primary: &PgPool) -> Result<Option<Self>> {
        let Some(url) = &config.replica_url else {
            return Ok(None);
        };
        let options = connect::options(connect::REPLICA, url)?;
        let replica = Self {
            pool: Pool::new(connect::on_demand(&options, config)),
            home: Home::of(primary).await?,
            timeout: config.timeout.get() / 2,
            rests: Mutex::new(None),
            mark: Mutex::new(None),
        };
        match within(PATIENCE, replica.look(&options)).await {
            Ok(_) => {}
            Err(Error::Setup(problem)) => return Err(refusal(&options, problem)),
            Err(error) if has_code(&error, NOT_LET_IN) => return Err(refusal(&options, reason(&error))),
            Err(error) => replica.leave_alone(&error),
        }
        Ok(Some(replica))
    }

    async fn look(&self, options: &PgConnectOptions) -> Result<Standing> {
        let mut conn = PgConnection::connect_with(options).await?;
        let standing = self.ask(&mut conn, &[]).await;
        // It answers or it does not; it is not needed any more.
        let _ = conn.close().await;
        standing
    }

    /// Where the primary's log stood when the store was opened. What older rows say of the log may be of the server that they were brought from.
    pub(super) fn floor(&self) -> &str {
        &self.home.log
    }

    /// Reads, if it has replayed up to all of these places in the primary's log. `None` = the primary is to be asked instead.
    pub(super) async fn read<T, F>(&self, places: &[String], work: &F) -> Option<T>
    where
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>>,
    {
        if !self.may_be_asked() {
            return None;
        }
        match self.try_read(places, work).await {
            Ok(read) => {
                self.is_well();
                read
            }
            // What it replays may take away what a statement is reading.
            Err(error) if is_retryable(&error) => None,
            Err(error) => {
                self.leave_alone(&error);
                None
            }
        }
    }

    async fn try_read<T, F>(&self, places: &[String], work: &F) -> Result<Option<T>>
    where
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>>,
    {
        let (mut conn, standing) = within(ANSWER, self.connection(places)).await?;
        let read = match standing {
            Standing::Ready => within(self.timeout, work(conn.get())).await.map(Some),
            Standing::Behind => Ok(None),
        };
        conn.is_in_order(!matches!(&read, Err(Error::Unavailable(_))));
        read
    }

    /// A connection that answers. After a restart of the server all that the pool has are dead.
    async fn connection(&self, places: &[String]) -> Result<(Lent, Standing)> {
        let mut left = self.pool.size();
        loop {
            let mut conn = self.pool.lend().await?;
            match self.ask(conn.get(), places).await {
                Err(error) if left > 0 && is_disconnected(&error) => left -= 1,
                asked => return asked.map(|standing| (conn, standing)),
            }
        }
    }

    async fn ask(&self, conn: &mut PgConnection, places: &[String]) -> Result<Standing> {
        let marked = self.marked();
        let needed: Vec<&str> = places.iter().chain(&marked).map(String::as_str).collect();
        let (follows, system, database, place, replayed): (bool, String, i64, Option<String>, bool) = sqlx::query_as(
            "SELECT pg_is_in_recovery(), (SELECT system_identifier::text FROM pg_control_system()),
                    (SELECT oid::bigint FROM pg_database WHERE datname = current_database()), replayed::text,
                    cardinality($1::text[]) = 0 OR coalesce(
                        replayed >= (SELECT max(place::pg_lsn) FROM unnest($1::text[]) AS place), false)
             FROM pg_last_wal_replay_lsn() AS replayed",
        )
        .bind(needed)
        .fetch_one(conn)
        .await?;
        if system != self.home.system || (follows && database != self.home.database) {
            return Err(Error::Setup("it holds another database than store.url".to_owned()));
        }
        if !follows {
            return Err(Error::Setup("it is no replica: it takes writes of its own".to_owned()));
        }
        if !replayed {
            return Ok(Standing::Behind);
        }
        if let Some(place) = place {
            self.remember(place);
        }
        Ok(Standing::Ready)
    }

    fn marked(&self) -> Option<String> {
        let mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        mark.as_ref().map(|(place, _)| place.clone())
    }

    /// It is at this place, which is no earlier than the one that is remembered.
    fn remember(&self, place: String) {
        let mut mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        if mark.as_ref().is_none_or(|(_, since)| since.elapsed() > MARKED) {
            *mark = Some((place, Instant::now()));
        }
    }

    /// Is it worth asking? After its rest one caller is told so, and no other until that one knows.
    fn may_be_asked(&self) -> bool {
        let mut rests = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match *rests {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                *rests = Some(now + REST);
                true
            }
        }
    }

    fn is_well(&self) {
        let rested = self.rests.lock().unwrap_or_else(PoisonError::into_inner).take();
        if rested.is_some() {
            tracing::info!("the replica is of use again");
        }
    }

    fn leave_alone(&self, error: &Error) {
        let until = Instant::now() + REST;
        let rested = self.rests.lock().unwrap_or_else(PoisonError::into_inner).replace(until);
        if rested.is_none() {
            tracing::warn!(
                reason = reason(error),
                "the replica is of no use; reading from the primary"
            );
        }
    }
}

impl Home {
    async fn of(primary: &PgPool) -> Result<Self> {
        let mut conn = primary.acquire().await?;
        let asked = sqlx::query_as(
            "SELECT (SELECT system_identifier::text FROM pg_control_system()),
                    (SELECT oid::bigint FROM pg_database WHERE datname = current_database()), pg_current_wal_insert_lsn()::text",
        )
        .fetch_one(&mut *conn)
        .await;
        match asked.map_err(Error::from) {
            Ok((system, database, log)) => Ok(Self { system, database, log }),
            Err(error) if has_code(&error, NOT_ALLOWED) => Err(Error::Setup(format!(
                "store.replica_url: whether it follows store.url cannot be told: {}; let bugle's user execute pg_control_system()",
                reason(&error)
            ))),
            Err(error) => Err(error),
        }
    }
}

/// In words, without a password: servers and sockets do not quote it.
fn reason(error: &Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

fn refusal(options: &PgConnectOptions, problem: impl Display) -> Error {
    let place = connect::place(options);
    Error::Setup(format!(
        "{}: the server at {place} cannot be used: {problem}",
        connect::REPLICA
    ))
}

async fn within<T>(patience: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(patience, call)
        .await
        .unwrap_or_else(|_| Err(too_slow(patience)))
}
