//! The sections `[data]` and `[store]`, as far as the store needs them.

use std::fmt;

use bugle_model::Period;
use serde::{Deserialize, Serialize};

/// The section `[store]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the registry and the ledger live: `sqlite` = the file `bugle.db` in the data directory, `sqlite:PATH` = that file,
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE` = PostgreSQL 15 or later; `?sslmode=verify-full&sslrootcert=FILE` for TLS.
    pub url: DatabaseUrl,
    /// `false` = no registry: raw tokens, topics and conditions alone can be sent to. The ledger is kept in any case.
    pub registry: bool,
    /// PostgreSQL: a read replica, for lists, which are as old as it is behind, and for audiences that it knows already. In the configuration empty = none.
    #[serde(deserialize_with = "none_if_empty", serialize_with = "empty_if_none")]
    pub replica_url: Option<DatabaseUrl>,
    /// PostgreSQL: connections at most, per process, which opens one more to listen for other processes; as many again on the replica.
    pub connections: u16,
    /// PostgreSQL: a call that takes longer fails.
    pub timeout: Period,
    /// SQLite: `full` survives a power cut, `normal` may lose the last moments in one (never in a crash of bugle).
    pub synchronous: Synchronous,
    /// SQLite: the writer's page cache, in MiB. Readers have small ones.
    pub cache_mib: u32,
    /// SQLite: threads that read.
    pub readers: u8,
    /// Bring an older database to this version's form at start. Where `false`, `bugle migrate` does it, and `bugle serve` refuses an older one.
    pub migrate: bool,
}

/// How hard SQLite makes sure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Synchronous {
    /// Every commit reaches the disk.
    Full,
    /// Commits reach the operating system.
    Normal,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: DatabaseUrl::new("sqlite"),
            registry: true,
            replica_url: None,
            connections: 16,
            timeout: Period::secs(15),
            synchronous: Synchronous::Full,
            cache_mib: 8,
            readers: 2,
            migrate: true,
        }
    }
}

impl Config {
    /// Checks the values; the error names the key.
    pub fn validate(&self) -> Result<(), String> {
        self.url.validate("store.url", true)?;
        if let Some(replica) = &self.replica_url {
            replica.validate("store.replica_url", false)?;
            if !self.url.is_postgres() {
                return Err(
                    "store.replica_url: SQLite has no replicas; set store.url to PostgreSQL, or take it out".to_owned(),
                );
            }
        }
        if !(2..=1_000).contains(&self.connections) {
            return Err(format!(
                "store.connections: expected 2 to 1000, got {}",
                self.connections
            ));
        }
        self.timeout
            .within("store.timeout", Period::millis(100), Period::secs(300))?;
        if !(1..=4_096).contains(&self.cache_mib) {
            return Err(format!("store.cache_mib: expected 1 to 4096, got {}", self.cache_mib));
        }
        if !(1..=64).contains(&self.readers) {
            return Err(format!("store.readers: expected 1 to 64, got {}", self.readers));
        }
        Ok(())
    }
}

/// Names a database. May carry a password: not to be printed, and `Debug` does not.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Takes it as it is; [`Config::validate`] checks it.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The whole of it, password included.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Is it PostgreSQL?
    #[must_use]
    pub fn is_postgres(&self) -> bool {
        matches!(self.scheme(), "postgres" | "postgresql")
    }

    fn scheme(&self) -> &str {
        self.0.split_once(':').map_or(&self.0, |(scheme, _)| scheme)
    }

    fn validate(&self, key: &str, sqlite: bool) -> Result<(), String> {
        let is_sqlite = self.0 == "sqlite" || self.0.strip_prefix("sqlite:").is_some_and(|path| !path.is_empty());
        let is_postgres = self.is_postgres() && self.0.contains("://");
        if is_postgres || (sqlite && is_sqlite) {
            return Ok(());
        }
        let expected = if sqlite {
            "sqlite, sqlite:PATH or postgres://…"
        } else {
            "postgres://…"
        };
        Err(format!("{key}: expected {expected}, got {:?}", self.scheme()))
    }
}

fn none_if_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<DatabaseUrl>, D::Error> {
    let url = DatabaseUrl::deserialize(deserializer)?;
    Ok(Some(url).filter(|url| !url.0.is_empty()))
}

#[expect(clippy::ref_option, reason = "the signature that serde asks for")]
fn empty_if_none<S: serde::Serializer>(url: &Option<DatabaseUrl>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(url.as_ref().map_or("", DatabaseUrl::expose))
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:…", self.scheme())
    }
}
