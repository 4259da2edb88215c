//! Brings a database to the form that this version knows.
//!
//! `PRAGMA user_version` counts the migrations that a database has had. Migrations are only ever added; each runs in one
//! transaction with its number, so that a crash leaves the database before it or after it.

use std::path::Path;

use rusqlite::Connection;

use crate::{Error, Result};

const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/sqlite/0001_registry.sql"),
    include_str!("../../migrations/sqlite/0002_ledger.sql"),
    include_str!("../../migrations/sqlite/0003_covering_tokens.sql"),
];

/// Marks the file as bugle's, "bugl" in ASCII.
const APPLICATION_ID: i64 = 0x6275_676c;

/// Runs the migrations that are missing; answers the form before and after.
pub(super) fn migrate(conn: &mut Connection, path: &Path) -> Result<(usize, usize)> {
    apply(conn, path, MIGRATIONS)
}

/// Refuses a database that has had fewer migrations than there are.
pub(super) fn must_be_current(conn: &Connection, path: &Path) -> Result<()> {
    let (done, known) = form(conn, path)?;
    if done == known {
        return Ok(());
    }
    Err(Error::Setup(format!(
        "{} has the form {done} of an older bugle, this one needs {known}, and [store] migrate is false: make a backup, then run `bugle migrate`",
        path.display()
    )))
}

/// The migrations that the database has had, and those that this version knows.
pub(super) fn form(conn: &Connection, path: &Path) -> Result<(usize, usize)> {
    Ok((had(conn, path, MIGRATIONS)?, MIGRATIONS.len()))
}

/// How many of the migrations the database has had. It must be bugle's, or empty.
fn had(conn: &Connection, path: &Path, migrations: &[&str]) -> Result<usize> {
    let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let application: i64 = conn.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID && (tables > 0 || version != 0) {
        return Err(Error::Setup(format!(
            "{} is the database of another program: move it away, or set [store] url to another file",
            path.display()
        )));
    }
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > migrations.len() {
        return Err(Error::Setup(format!(
            "{} was written by a newer bugle (its form is {version}, this one knows up to {}): start that version, or put a backup back",
            path.display(),
            migrations.len()
        )));
    }
    Ok(done)
}

fn apply(conn: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(usize, usize)> {
    let done = had(conn, path, migrations)?;
    for (number, sql) in migrations.iter().enumerate().skip(done) {
        let tx = conn.transaction()?;
        tx.execute_batch(sql)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", i64::try_from(number + 1).unwrap_or(i64::MAX))?;
        tx.commit()?;
        tracing::info!(form = number + 1, "database migrated");
    }
    Ok((done, migrations.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/data/bugle.db";

    fn version(conn: &Connection) -> i64 {
        conn.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn missing_migrations_run_once() {
        let mut conn = Connection::open_in_memory().unwrap();
        let path = Path::new(PATH);
        apply(&mut conn, path, &["CREATE TABLE a (x);"]).unwrap();
        apply(&mut conn, path, &["CREATE TABLE a (x);", "CREATE TABLE b (x);"]).unwrap();
        apply(&mut conn, path, &["CREATE TABLE a (x);", "CREATE TABLE b (x);"]).unwrap();
        assert_eq!(version(&conn), 2);
    }

    #[test]
    fn a_migration_that_fails_leaves_nothing() {
        let mut conn = Connection::open_in_memory().unwrap();
        let path = Path::new(PATH);
        apply(&mut conn, path, &["CREATE TABLE a (x);"]).unwrap();
        assert!(apply(&mut conn, path, &["", "CREATE TABLE b (x); CREATE TABLE a (x);"]).is_err());
        assert_eq!(version(&conn), 1);
        assert!(conn.prepare("SELECT x FROM b").is_err());
    }

    #[test]
    fn a_newer_database_is_refused_in_words() {
        let mut conn = Connection::open_in_memory().unwrap();
        apply(&mut conn, Path::new(PATH), &["CREATE TABLE a (x);", ""]).unwrap();
        let error = apply(&mut conn, Path::new(PATH), &[""]).unwrap_err();
        assert!(
            matches!(&error, Error::Setup(text) if text.contains(PATH) && text.contains("newer bugle")),
            "{error}"
        );
    }

    #[test]
    fn a_foreign_database_is_refused_in_words() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE bookmarks (x);").unwrap();
        let error = migrate(&mut conn, Path::new(PATH)).unwrap_err();
        assert!(
            matches!(&error, Error::Setup(text) if text.contains("another program")),
            "{error}"
        );
    }
}
