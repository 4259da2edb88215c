//! Looks into a store's database behind its back.

use std::path::PathBuf;
use std::sync::Mutex;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tokio::runtime::Runtime;

use crate::backend::Place;

pub(crate) enum Spy {
    Sqlite(PathBuf),
    Postgres(Mutex<Line>),
}

/// A connection with a runtime of its own: tests ask without waiting.
pub(crate) struct Line {
    url: String,
    open: Option<(Runtime, PgConnection)>,
}

impl Spy {
    pub(crate) fn on(place: &Place) -> Self {
        match place {
            Place::Sqlite(dir) => Self::Sqlite(dir.path().join("bugle.db")),
            Place::Postgres(database) => Self::Postgres(Mutex::new(Line {
                url: database.url(),
                open: None,
            })),
        }
    }

    /// What a query of pairs of a text and a number says.
    pub(crate) fn pairs(&self, sql: &str) -> Vec<(String, i64)> {
        match self {
            Self::Sqlite(file) => {
                let conn = rusqlite::Connection::open(file).unwrap();
                let mut statement = conn.prepare(sql).unwrap();
                let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
                rows.collect::<Result<_, _>>().unwrap()
            }
            Self::Postgres(line) => {
                let rows = line.lock().unwrap().ask(sql);
                rows.iter().map(|row| (row.get(0), row.get(1))).collect()
            }
        }
    }

    /// What a query of one number says.
    pub(crate) fn count(&self, sql: &str) -> i64 {
        match self {
            Self::Sqlite(file) => {
                let conn = rusqlite::Connection::open(file).unwrap();
                conn.query_row(sql, [], |row| row.get(0)).unwrap()
            }
            Self::Postgres(line) => line.lock().unwrap().ask(sql)[0].get(0),
        }
    }
}

impl Line {
    fn ask(&mut self, sql: &str) -> Vec<PgRow> {
        // A runtime must not wait for another one on its own thread.
        std::thread::scope(|scope| scope.spawn(|| self.query(sql)).join().unwrap())
    }

    fn query(&mut self, sql: &str) -> Vec<PgRow> {
        let (runtime, conn) = self.open.get_or_insert_with(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let conn = runtime.block_on(PgConnection::connect(&self.url)).unwrap();
            (runtime, conn)
        });
        let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
        runtime.block_on(query.fetch_all(conn)).unwrap()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some((runtime, conn)) = self.open.take() {
            drop(conn);
            runtime.shutdown_background();
        }
    }
}
