//! The `SQLite` database that everything is moved from.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use rusqlite::Connection;

use super::tables::{TABLES, Table};
use crate::{Error, Result, sqlite};

/// A database that nobody writes to for as long as this lives.
pub struct Source {
    path: PathBuf,
    conn: Connection,
    fingerprint: String,
    _kept: sqlite::Kept,
}

impl Source {
    /// Keeps every bugle away from the database and reads all of it once, for its fingerprint. Blocks.
    ///
    /// Fails with [`Error::Setup`], in words for the person who does it, where there is none, a bugle runs on it, or its form is not this version's.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_file() {
            return Err(Error::Setup(format!(
                "there is no database {}: name the file of the SQLite store",
                path.display()
            )));
        }
        let path = path
            .canonicalize()
            .map_err(|error| Error::Setup(format!("cannot read {}: {error}", path.display())))?;
        let kept = sqlite::keep(&path)?;
        let (conn, form, known) = sqlite::read_only(&path)?;
        if form != known {
            return Err(Error::Setup(format!(
                "{} has the form {form} of an older bugle, this one needs {known}: make a backup, then run `bugle migrate` on it",
                path.display()
            )));
        }
        Ok(Self {
            fingerprint: fingerprint(&path)?,
            path,
            conn,
            _kept: kept,
        })
    }

    /// The file, without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stands for every byte of the database.
    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(super) fn conn(&self) -> &Connection {
        &self.conn
    }

    /// Every app with its number, in the order of numbers.
    pub(super) fn apps(&self) -> Result<Vec<(i64, String)>> {
        let mut statement = self.conn.prepare("SELECT key, name FROM apps ORDER BY key")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The rows of each table.
    pub(super) fn counts(&self) -> Result<Vec<u64>> {
        let count = |table: &Table| {
            let sql = format!("SELECT count(*) FROM {}", table.name);
            Ok(self.conn.query_row(&sql, [], |row| row.get(0))?)
        };
        TABLES.iter().map(count).collect()
    }

    /// The highest number that the table has ever given, as far as that is known; 0 = none.
    pub(super) fn highest(&self, table: &str, column: &str) -> Result<i64> {
        let sql = format!(
            "SELECT max((SELECT coalesce(max({column}), 0) FROM {table}), coalesce((SELECT seq FROM sqlite_sequence WHERE name = '{table}'), 0))"
        );
        Ok(self.conn.query_row(&sql, [], |row| row.get(0))?)
    }
}

/// The SHA-256 of the database and of the log that a crash may have left. Paths and times play no part, so that a copy is the same source.
fn fingerprint(path: &Path) -> Result<String> {
    let unreadable =
        |path: &Path, error: &std::io::Error| Error::Setup(format!("cannot read {}: {error}", path.display()));
    let mut hash = Context::new(&SHA256);
    let log = sqlite::log_of(path);
    for file in [path, &log] {
        match File::open(file) {
            Ok(mut opened) => feed(&mut hash, &mut opened).map_err(|error| unreadable(file, &error))?,
            Err(error) if error.kind() == ErrorKind::NotFound && file == log => {}
            Err(error) => return Err(unreadable(file, &error)),
        }
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finish().as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

fn feed(hash: &mut Context, file: &mut File) -> std::io::Result<()> {
    let mut part = vec![0; 1 << 20];
    loop {
        match file.read(&mut part) {
            Ok(0) => return Ok(()),
            Ok(count) => hash.update(&part[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
