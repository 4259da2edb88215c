//! The section `[queue]`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The section `[queue]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How pages are spread over the processes that send. Empty = what fits the store: `memory` with SQLite, `postgres` with PostgreSQL. Or Redis 7 or
    /// later, see [`Backend::Redis`].
    pub url: QueueUrl,
    /// Redis: what all keys begin with. Installations that share a Redis need different ones.
    pub prefix: String,
    /// Redis with TLS: a PEM file of the authorities to trust; empty = those of the system.
    pub ca_file: String,
    /// Page references that wait in the queue per lane; more stay in the ledger until there is room.
    pub references: usize,
}

/// Where references wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// What fits the store.
    Auto,
    /// In this process, which is the only one: [`crate::memory`].
    Memory,
    /// In the processes, which tell each other: [`crate::postgres`].
    Postgres,
    /// In Redis Streams. `redis://[USER:PASSWORD@]HOST:PORT[/DB]`, `redis+sentinel://HOST:PORT,HOST:PORT/MASTER[/DB]`,
    /// `redis+cluster://HOST:PORT,HOST:PORT`; each with `rediss` for TLS.
    Redis,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: QueueUrl::default(),
            prefix: "bugle:".to_owned(),
            ca_file: String::new(),
            references: 10_000,
        }
    }
}

impl Config {
    /// Which queue is asked for.
    #[must_use]
    pub fn backend(&self) -> Backend {
        // A wrong URL does not get past `validate`.
        self.url.backend().unwrap_or(Backend::Auto)
    }

    /// Checks the values; the error names the key.
    pub fn validate(&self) -> Result<(), String> {
        if self.url.backend().is_none() {
            return Err(format!(
                "queue.url: expected memory, postgres, redis://…, rediss://…, redis+sentinel://… or redis+cluster://…, got {:?}",
                self.url
            ));
        }
        let fits = |b: u8| b.is_ascii_graphic() && b != b'{' && b != b'}';
        if self.prefix.is_empty() || self.prefix.len() > 64 || !self.prefix.bytes().all(fits) {
            return Err(format!(
                "queue.prefix: expected 1 to 64 printable ASCII characters without spaces and braces, got {:?}",
                self.prefix
            ));
        }
        if !self.ca_file.is_empty() && !self.url.scheme().starts_with("rediss") {
            return Err("queue.ca_file: only used with TLS; write rediss:// in queue.url, or take it out".to_owned());
        }
        if (100..=1_000_000).contains(&self.references) {
            return Ok(());
        }
        Err(format!(
            "queue.references: expected 100 to 1000000, got {}",
            self.references
        ))
    }
}

/// Names a queue. May carry a password: not to be printed, and `Debug` does not.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QueueUrl(String);

impl QueueUrl {
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

    /// What is before `://`; all of it where there is no such thing.
    pub(crate) fn scheme(&self) -> &str {
        self.0.split_once("://").map_or(&self.0, |(scheme, _)| scheme)
    }

    fn backend(&self) -> Option<Backend> {
        match self.0.as_str() {
            "" => return Some(Backend::Auto),
            "memory" => return Some(Backend::Memory),
            "postgres" => return Some(Backend::Postgres),
            _ => {}
        }
        let (scheme, _) = self.0.split_once("://")?;
        let plain = scheme.strip_prefix("rediss").or_else(|| scheme.strip_prefix("redis"))?;
        matches!(plain, "" | "+sentinel" | "+cluster").then_some(Backend::Redis)
    }
}

impl fmt::Debug for QueueUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_once("://") {
            Some((scheme, _)) => write!(f, "{scheme}://…"),
            None if matches!(self.0.as_str(), "" | "memory" | "postgres") => write!(f, "{:?}", self.0),
            // A URL whose scheme was forgotten may be a password.
            None => f.write_str("…"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_url(url: &str) -> Config {
        Config {
            url: QueueUrl::new(url),
            ..Config::default()
        }
    }

    #[test]
    fn urls_name_their_backend() {
        for (url, backend) in [
            ("", Backend::Auto),
            ("memory", Backend::Memory),
            ("postgres", Backend::Postgres),
            ("redis://h:1", Backend::Redis),
            ("rediss+sentinel://h:1,h:2/m", Backend::Redis),
            ("rediss+cluster://h:1", Backend::Redis),
        ] {
            with_url(url).validate().unwrap();
            assert_eq!(with_url(url).backend(), backend, "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_no_password_shown() {
        for url in [
            "redis",
            "kafka://u:sesame@h",
            "sesame@h:6379",
            "redis+x://:sesame@h",
            "postgres://u:sesame@h",
        ] {
            let problem = with_url(url).validate().unwrap_err();
            assert!(
                problem.contains("queue.url") && !problem.contains("sesame"),
                "{problem}"
            );
            assert!(!format!("{:?}", with_url(url)).contains("sesame"));
        }
        let braces = Config {
            prefix: "a{b}".to_owned(),
            ..Config::default()
        };
        assert!(braces.validate().unwrap_err().contains("queue.prefix"));
        let no_tls = Config {
            ca_file: "ca.pem".to_owned(),
            ..with_url("redis://h")
        };
        assert!(no_tls.validate().unwrap_err().contains("queue.ca_file"));
    }
}
