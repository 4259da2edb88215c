//! What a server says of itself, for whoever checks an installation before it runs. Changes nothing.

use std::time::Duration;

use sqlx::PgPool;

use super::replica::Replica;
use super::{connect, migrate};
use crate::{Config, Result};

/// A server, as one connection sees it.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// Its version, like `15.8`.
    pub version: String,
    /// It is new enough.
    pub is_supported: bool,
    /// The connection is encrypted.
    pub tls: bool,
    /// It is a replica, which takes no writes, and so far behind; 0 if it has replayed all that it has received.
    pub lag: Option<Duration>,
    /// Every commit reaches the disk: neither `fsync` nor `synchronous_commit` is off.
    pub is_durable: bool,
    /// Connections that the server takes, all its clients together.
    pub max_connections: u32,
    /// Migrations that the database has had, and those that this version knows; an error if it is of another program or of a newer version.
    pub form: std::result::Result<(usize, usize), String>,
}

/// Looks at the server of `store.url`.
///
/// Fails with [`crate::Error::Setup`], in words, if it cannot be reached.
pub async fn inspect(config: &Config) -> Result<Inspection> {
    look(&connect::primary(config).await?).await
}

/// Looks at the server of `store.replica_url`, if there is one.
///
/// Fails with [`crate::Error::Setup`], in words, if it cannot be reached, or replicates another database than that of `store.url`.
pub async fn inspect_replica(config: &Config) -> Result<Option<Inspection>> {
    let Some(pool) = connect::replica(config).await? else {
        return Ok(None);
    };
    let seen = look(&pool).await?;
    // Without the primary there is nothing to compare it with; that is told elsewhere.
    if let (Some(_), Ok(primary)) = (seen.lag, connect::primary(config).await) {
        Replica::open(config, &primary).await?;
    }
    Ok(Some(seen))
}

async fn look(pool: &PgPool) -> Result<Inspection> {
    let mut conn = pool.acquire().await?;
    let (version, number, max_connections, is_durable): (String, i32, i32, bool) = sqlx::query_as(
        "SELECT current_setting('server_version'), current_setting('server_version_num')::integer, current_setting('max_connections')::integer, \
         current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off'",
    )
    .fetch_one(&mut *conn)
    .await?;
    let tls: bool =
        sqlx::query_scalar("SELECT coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)")
            .fetch_one(&mut *conn)
            .await?;
    let (is_replica, lag): (bool, Option<f64>) = sqlx::query_as(
        "SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() AND pg_last_wal_receive_lsn() IS DISTINCT FROM pg_last_wal_replay_lsn() \
         THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::double precision END",
    )
    .fetch_one(&mut *conn)
    .await?;
    let form = migrate::form(&mut conn).await.map_err(|error| error.to_string());
    Ok(Inspection {
        version,
        is_supported: number >= connect::OLDEST,
        tls,
        lag: is_replica.then(|| Duration::try_from_secs_f64(lag.unwrap_or_default()).unwrap_or_default()),
        is_durable,
        max_connections: u32::try_from(max_connections).unwrap_or_default(),
        form,
    })
}
