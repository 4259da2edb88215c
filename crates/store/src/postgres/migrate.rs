//! Brings a database to the form that this version knows.
//!
//! The table `bugle_migrations` counts what a database has had. Migrations are only ever added. They run under an advisory lock, so that many processes may
//! start at once: one migrates, the others wait and find it done. Each runs in one transaction with its number.

use sqlx::{Connection, PgConnection};

use super::connect::SETTINGS;
use crate::{Error, Result};

const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/postgres/0001_registry.sql"),
    include_str!("../../migrations/postgres/0002_ledger.sql"),
    include_str!("../../migrations/postgres/0003_quotas.sql"),
    include_str!("../../migrations/postgres/0004_narrow_walks.sql"),
];

/// Names the lock within the database: "bugle" in ASCII.
const LOCK: i64 = 0x62_7567_6c65;

/// Runs the migrations that are missing; answers the form before and after.
pub(super) async fn migrate(conn: &mut PgConnection) -> Result<(usize, usize)> {
    // However long the one who has it takes.
    sqlx::query("SET lock_timeout = 0").execute(&mut *conn).await?;
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(LOCK)
        .execute(&mut *conn)
        .await?;
    let done = apply(conn, MIGRATIONS).await;
    // A lock of the session: it would go with the connection, too.
    sqlx::query("SELECT pg_advisory_unlock($1)")
        .bind(LOCK)
        .execute(&mut *conn)
        .await?;
    sqlx::raw_sql(SETTINGS).execute(&mut *conn).await?;
    done
}

/// Refuses a database that has had fewer migrations than there are.
pub(super) async fn must_be_current(conn: &mut PgConnection) -> Result<()> {
    let (done, known) = form(conn).await?;
    if done == known {
        return Ok(());
    }
    Err(Error::Setup(format!(
        "the database has the form {done} of an older bugle, this one needs {known}, and [store] migrate is false: make a backup, then run `bugle migrate`"
    )))
}

/// The migrations that the database has had, and those that this version knows.
pub(super) async fn form(conn: &mut PgConnection) -> Result<(usize, usize)> {
    Ok((had(conn, MIGRATIONS.len()).await?, MIGRATIONS.len()))
}

async fn had(conn: &mut PgConnection, known: usize) -> Result<usize> {
    let there: bool = sqlx::query_scalar("SELECT to_regclass('bugle_migrations') IS NOT NULL")
        .fetch_one(&mut *conn)
        .await?;
    if !there {
        return foreign(conn).await.map(|()| 0);
    }
    let version: i64 = sqlx::query_scalar("SELECT coalesce(max(version), 0)::bigint FROM bugle_migrations")
        .fetch_one(&mut *conn)
        .await?;
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > known {
        return Err(Error::Setup(format!(
            "the database was written by a newer bugle (its form is {version}, this one knows up to {known}): start that version, or put a backup back"
        )));
    }
    Ok(done)
}

/// A database that has tables of these names, which are not bugle's.
async fn foreign(conn: &mut PgConnection) -> Result<()> {
    let found: Option<String> = sqlx::query_scalar(
        "SELECT name FROM unnest(ARRAY['apps', 'devices', 'subscriptions', 'gone', 'pushes', 'legs', 'pages', 'page_targets', 'holds', 'quotas']) name
          WHERE to_regclass(name) IS NOT NULL LIMIT 1",
    )
    .fetch_optional(conn)
    .await?;
    match found {
        None => Ok(()),
        Some(name) => Err(Error::Setup(format!(
            "the database has a table {name} that is not bugle's: give bugle a database (or a schema in its search_path) of its own"
        ))),
    }
}

async fn apply(conn: &mut PgConnection, migrations: &[&'static str]) -> Result<(usize, usize)> {
    let done = had(conn, migrations.len()).await?;
    for (number, sql) in migrations.iter().enumerate().skip(done) {
        let mut tx = conn.begin().await?;
        if number == 0 {
            sqlx::raw_sql(
                "CREATE TABLE IF NOT EXISTS bugle_migrations (version bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())",
            )
            .execute(&mut *tx)
            .await?;
        }
        sqlx::raw_sql(*sql).execute(&mut *tx).await?;
        sqlx::query("INSERT INTO bugle_migrations (version) VALUES ($1)")
            .bind(i64::try_from(number + 1).unwrap_or(i64::MAX))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        tracing::info!(form = number + 1, "database migrated");
    }
    Ok((done, migrations.len()))
}
