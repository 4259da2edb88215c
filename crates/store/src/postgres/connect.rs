//! Pools of connections, and what is checked when they are opened.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, Executor, PgConnection, PgPool};

use super::migrate;
use crate::{Config, DatabaseUrl, Error, Result};

/// The oldest server that is good enough, as `server_version_num`.
pub(super) const OLDEST: i32 = 150_000;

/// What names the server that follows.
pub(super) const REPLICA: &str = "store.replica_url";

/// How long a connection is waited for, be it that the server is starting.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What holds for every connection. A server must not wait for ever on a lock, or on a client that has gone.
///
/// A process that stands still, or whose network does, may do so in a transaction that has locked a leg, and the others settle nothing of that leg until it ends: so that is
/// soon. What else that process had waiting for the lock gets it then, and has to end the same way: so that is well before they give up waiting.
///
/// Every statement was written for an index, and is tested for it. A planner that knows a table while it is small would choose otherwise and keep that plan when it has grown:
/// so no scans of whole tables or without an index's order, no joins that read one side whole, and one plan for all parameters, made once per connection.
pub(super) const SETTINGS: &str = "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '3s'; SET timezone = 'UTC'; SET jit = off; SET max_parallel_workers_per_gather = 0; \
    SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET plan_cache_mode = force_generic_plan";

/// Connects to the database of `store.url`.
pub(super) async fn primary(config: &Config) -> Result<PgPool> {
    pool("store.url", &config.url, config).await
}

/// Connects to the database of `store.replica_url`, if there is one.
pub(super) async fn replica(config: &Config) -> Result<Option<PgPool>> {
    match &config.replica_url {
        None => Ok(None),
        Some(url) => pool(REPLICA, url, config).await.map(Some),
    }
}

/// A pool that connects when it is asked for a connection, and not for long.
pub(super) fn on_demand(options: &PgConnectOptions, config: &Config) -> PgPool {
    pools(config)
        .min_connections(0)
        .acquire_timeout(PATIENCE / 5)
        .connect_lazy_with(options.clone())
}

async fn pool(key: &str, url: &DatabaseUrl, config: &Config) -> Result<PgPool> {
    let options = options(key, url)?;
    let connected = pools(config).connect_with(options.clone()).await;
    match connected {
        Ok(pool) => Ok(pool),
        Err(error) => {
            let error = reason(error, &options).await;
            let place = place(&options);
            Err(Error::Setup(format!(
                "{key}: cannot connect to PostgreSQL at {place}: {error}"
            )))
        }
    }
}

/// How a server is reached.
pub(super) fn options(key: &str, url: &DatabaseUrl) -> Result<PgConnectOptions> {
    // The parser's words may quote the password.
    let options = PgConnectOptions::from_str(url.expose())
        .map_err(|_| Error::Setup(format!("{key}: expected postgres://USER:PASSWORD@HOST:PORT/DATABASE")))?;
    Ok(options.application_name("bugle").statement_cache_capacity(256))
}

/// Where that is, without a password.
pub(super) fn place(options: &PgConnectOptions) -> String {
    let port = options.get_port();
    match options.get_socket() {
        Some(directory) => format!("{}/.s.PGSQL.{port}", directory.display()),
        None => format!("{}:{port}", options.get_host()),
    }
}

fn pools(config: &Config) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(u32::from(config.connections))
        .min_connections(1)
        .acquire_timeout(PATIENCE)
        // Every transaction's BEGIN finds out.
        .test_before_acquire(false)
        .after_connect(|conn, _| Box::pin(async move { conn.execute(SETTINGS).await.map(|_| ()) }))
}

/// Why there is no connection: a pool that has tried for long says only that it has.
async fn reason(error: sqlx::Error, options: &PgConnectOptions) -> sqlx::Error {
    if !matches!(error, sqlx::Error::PoolTimedOut) {
        return error;
    }
    match tokio::time::timeout(PATIENCE, PgConnection::connect_with(options)).await {
        Ok(Err(reason)) => reason,
        _ => error,
    }
}

/// Checks the server's version and the database's form, which is brought up to date where that is wanted.
pub(super) async fn prepare(pool: &PgPool, migrate: bool) -> Result<(usize, usize)> {
    let mut conn = pool.acquire().await?;
    let form = checked(&mut conn, migrate).await;
    form.map_err(|error| match error {
        // Its user may not create tables, say.
        Error::Unavailable(cause) if cause.downcast_ref().is_some_and(is_refusal) => {
            Error::Setup(format!("store.url: the database cannot be used: {cause}"))
        }
        other => other,
    })
}

/// Did the server say no? It never quotes a password.
fn is_refusal(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(_))
}

async fn checked(conn: &mut PgConnection, migrate: bool) -> Result<(usize, usize)> {
    let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::integer")
        .fetch_one(&mut *conn)
        .await?;
    if version < OLDEST {
        return Err(Error::Setup(format!(
            "store.url: PostgreSQL {} is too old, bugle needs 15 or later",
            version / 10_000
        )));
    }
    if migrate {
        return migrate::migrate(conn).await;
    }
    migrate::must_be_current(conn).await?;
    migrate::form(conn).await
}
