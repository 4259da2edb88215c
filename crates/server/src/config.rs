//! The whole configuration: every crate's section, put together and loaded.
//!
//! Order: the defaults in the code, then one TOML file, then environment variables `BUGLE__SECTION__KEY`. Unknown keys and wrong values stop the start with a
//! message that names the key. Lists can only be written in the file, but for `BUGLE__API__KEYS` and `BUGLE__ROLES`, which are split at commas.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bugle_model::Period;
use serde::{Deserialize, Serialize};

use crate::addresses;
use crate::backends::QueueKind;
use crate::roles::{Role, Roles};

/// All sections.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// What this process does.
    pub(crate) roles: Roles,
    pub(crate) http: Http,
    pub(crate) api: bugle_api::Config,
    pub(crate) data: Data,
    pub(crate) store: bugle_store::Config,
    pub(crate) fcm: bugle_provider::fcm::Config,
    pub(crate) tls: bugle_provider::TlsConfig,
    pub(crate) push: bugle_service::PushConfig,
    pub(crate) limits: bugle_service::Limits,
    pub(crate) fanout: bugle_fanout::Config,
    pub(crate) queue: bugle_queue::Config,
    pub(crate) sender: bugle_sender::Config,
    pub(crate) history: bugle_fanout::HistoryConfig,
    pub(crate) devices: bugle_fanout::DevicesConfig,
    pub(crate) log: Log,
    /// Reserved: several apps in one installation.
    #[serde(skip_serializing)]
    pub(crate) apps: toml::Table,
}

/// The section `[http]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Http {
    /// Where the API listens.
    pub(crate) listen: SocketAddr,
    /// Connections served at once; more wait to be accepted.
    pub(crate) max_connections: usize,
    /// A connection that sends no whole request header for so long is closed.
    pub(crate) idle_timeout: Period,
    /// A request whose body stands still for so long is given up.
    pub(crate) body_timeout: Period,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            max_connections: 10_000,
            idle_timeout: Period::secs(60),
            body_timeout: Period::secs(30),
        }
    }
}

impl Http {
    fn validate(&self) -> Result<(), String> {
        if !(1..=1_000_000).contains(&self.max_connections) {
            return Err(format!(
                "http.max_connections: expected 1 to 1000000, got {}",
                self.max_connections
            ));
        }
        let (low, high) = (Period::millis(100), Period::secs(3_600));
        self.idle_timeout.within("http.idle_timeout", low, high)?;
        self.body_timeout.within("http.body_timeout", low, high)
    }
}

/// The section `[data]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Data {
    /// Where bugle keeps its files.
    pub(crate) dir: PathBuf,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("bugle-data"),
        }
    }
}

/// The section `[log]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`, also by crate: `info,bugle_sender=debug`.
    pub(crate) level: String,
    /// How a line looks.
    pub(crate) format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

impl Settings {
    /// Loads and checks.
    pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let mut builder = config::Config::builder();
        if let Some(path) = file {
            if !path.is_file() {
                bail!(
                    "cannot read the configuration {}: there is no such file",
                    path.display()
                );
            }
            readable(path)?;
            builder = builder.add_source(config::File::from(path).format(config::FileFormat::Toml));
        }
        // `list_separator` needs `try_parsing`, which would turn an environment value 0123 into 123: keys are split by hand below.
        let environment = config::Environment::with_prefix("BUGLE")
            .prefix_separator("__")
            .separator("__")
            .source(Some(environment()?));
        let read = builder.add_source(environment).build();
        let whence = file.map_or_else(
            || "the environment".to_owned(),
            |path| format!("{} or the environment", path.display()),
        );
        let settings: Self = read
            .and_then(config::Config::try_deserialize)
            .with_context(|| format!("the configuration in {whence} is wrong"))?;
        settings
            .validate()
            .with_context(|| format!("the configuration in {whence} is wrong"))?;
        Ok(settings)
    }

    /// Checks all sections, and what concerns several of them.
    pub(crate) fn validate(&self) -> anyhow::Result<()> {
        let replica = self.store.replica_url.as_ref();
        let checks = [
            addresses::check("store.url", &self.store.url),
            replica.map_or(Ok(()), |url| addresses::check("store.replica_url", url)),
            self.http.validate(),
            self.api.validate(),
            self.store.validate(),
            self.fcm.validate().map_err(|problem| problem.to_string()),
            self.push.validate(),
            self.limits.validate(),
            self.fanout.validate(),
            self.queue.validate(),
            self.sender.validate(),
            self.history.validate(),
            self.devices.validate(),
        ];
        for check in checks {
            check.map_err(anyhow::Error::msg)?;
        }
        if let Some(name) = self.apps.keys().next() {
            bail!("apps.{name}: several apps are not available yet; the top-level sections are the app `default`");
        }
        self.validate_processes()?;
        self.validate_times()
    }

    /// What one process may do alone, and what many must agree on.
    fn validate_processes(&self) -> anyhow::Result<()> {
        if !self.store.url.is_postgres() && self.roles != Roles::ALL {
            bail!(
                "roles: with SQLite one process does everything: expected api, fanout and sender, got {}; set store.url to PostgreSQL for several processes",
                self.roles
            );
        }
        QueueKind::of(self).map_err(anyhow::Error::msg)?;
        Ok(())
    }

    /// The API keys that are missing, in words: where processes share a database none can be made at the start.
    pub(crate) fn missing_keys(&self) -> Option<&'static str> {
        let wanted = self.roles.has(Role::Api) && !self.api.insecure || self.api.metrics_need_key;
        (self.store.url.is_postgres() && wanted && self.api.keys.is_empty()).then_some(
            "api.keys: with PostgreSQL all processes must know the same keys, so none is made at the start: \
             set it, for instance to what `openssl rand -hex 24` prints",
        )
    }

    fn validate_times(&self) -> anyhow::Result<()> {
        if self.sender.grace.get() <= self.fcm.request_timeout.get() {
            bail!(
                "sender.grace: expected more than fcm.request_timeout ({}), got {}",
                self.fcm.request_timeout,
                self.sender.grace
            );
        }
        if self.sender.lease.get() <= self.fcm.request_timeout.get() * 2 {
            bail!(
                "sender.lease: expected more than twice fcm.request_timeout ({}), got {}",
                self.fcm.request_timeout,
                self.sender.lease
            );
        }
        Ok(())
    }
}

/// Is it TOML? The parser's own error shows the line, and with it a password.
fn readable(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the configuration {shown}"))?;
    let Err(error) = text.parse::<toml::Table>() else {
        return Ok(());
    };
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    bail!(
        "the configuration in {shown} is no TOML: line {line}, column {column}: {}",
        error.message()
    )
}

/// The variables of the environment that begin with `BUGLE__`.
fn environment() -> anyhow::Result<config::Map<String, String>> {
    let mut found = config::Map::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("BUGLE_")) else {
            continue;
        };
        if !name.starts_with("BUGLE__") {
            // A single underscore is of other programs' variables; two further on are meant for here.
            if let Some((section, key)) = name["BUGLE_".len()..].split_once("__") {
                bail!("{name}: expected two underscores after BUGLE: BUGLE__{section}__{key}");
            }
            continue;
        }
        let name = name.to_owned();
        let Some(value) = value.to_str() else {
            bail!("{name}: expected text in UTF-8")
        };
        found.insert(name, value.to_owned());
    }
    Ok(found)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
