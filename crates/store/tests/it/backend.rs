//! The stores that keep the contract.

use std::path::Path;
use std::sync::Arc;

use bugle_model::Clock;
use bugle_store::{Config, DatabaseUrl, Handover, Result, Store, postgres, sqlite};
use bugle_testkit::postgres::Database;

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

/// Where a test's store keeps its data, for as long as the test lasts.
pub(crate) enum Place {
    Sqlite(tempfile::TempDir),
    Postgres(Database),
}

impl Backend {
    /// An empty place.
    pub(crate) fn place(self) -> Place {
        match self {
            Self::Sqlite => Place::Sqlite(tempfile::tempdir().unwrap()),
            Self::Postgres => Place::Postgres(bugle_testkit::postgres::database()),
        }
    }
}

impl Place {
    /// Opens a store there. PostgreSQL: as often as wanted, each as a process of its own would.
    pub(crate) async fn open(
        &self,
        config: &Config,
        clock: Arc<dyn Clock>,
        handover: Arc<dyn Handover>,
    ) -> Result<Arc<dyn Store>> {
        match self {
            Self::Sqlite(dir) => Ok(sqlite::open(config, dir.path(), clock, handover)?),
            Self::Postgres(database) => {
                let config = Config {
                    url: DatabaseUrl::new(database.url()),
                    connections: 8,
                    ..config.clone()
                };
                Ok(postgres::open(&config, clock, handover).await?)
            }
        }
    }

    /// The directory of an SQLite store.
    pub(crate) fn dir(&self) -> &Path {
        match self {
            Self::Sqlite(dir) => dir.path(),
            Self::Postgres(_) => panic!("this test is of SQLite alone"),
        }
    }
}
