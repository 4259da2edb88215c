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
            url: "sqlite".to_owned(),
            synchronous: Synchronous::Full,
            cache_mib: 16,
            readers: 2,
            migrate: true,
        }
    }
}

impl Config {
    /// Checks the values; the error names the key.
    pub fn validate(&self) -> Result<(), String> {
        let known = self.url == "sqlite" || self.url.strip_prefix("sqlite:").is_some_and(|path| !path.is_empty());
        if !known {
            let scheme = self.url.split_once(':').map_or(self.url.as_str(), |(scheme, _)| scheme);
            return Err(format!("store.url: expected sqlite or sqlite:PATH, got {scheme:?}"));
        }
        if !(1..=4_096).contains(&self.cache_mib) {
            return Err(format!("store.cache_mib: expected 1 to 4096, got {}", self.cache_mib));
        }
        if !(1..=64).contains(&self.readers) {
            return Err(format!("store.readers: expected 1 to 64, got {}", self.readers));
        }
        Ok(())
    }
}
