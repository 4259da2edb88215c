//! The sections `[data]` and `[store]`, as far as the store needs them.

use serde::{Deserialize, Serialize};

/// The section `[store]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the registry and the ledger live: `sqlite` = the file `bugle.db` in the data directory, `sqlite:PATH` = that file.
    pub url: String,
    /// SQLite: `full` survives a power cut, `normal` may lose the last moments in one (never in a crash of bugle).
    pub synchronous: Synchronous,
    /// SQLite: page cache per connection, in MiB.
    pub cache_mib: u32,
    /// SQLite: threads that read.
    pub readers: u8,
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
            url: "sqlite".to_owned(),
            synchronous: Synchronous::Full,
            cache_mib: 16,
            readers: 2,
        }
    }
}
