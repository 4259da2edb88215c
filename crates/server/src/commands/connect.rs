//! Which server a command talks to, and with which key.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use crate::client::Client;
use crate::config::Settings;

/// Which server, and with which key.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct Connect {
    /// Where the server's API is; by default where the configuration says that it listens, http://127.0.0.1:8000 without one
    #[arg(long, value_name = "URL", env = "BUGLE_URL")]
    url: Option<String>,
    /// The API key; by default the first one of the configuration, or the one in the file api-key of the data directory
    #[arg(long, value_name = "KEY", env = "BUGLE_KEY", hide_env_values = true)]
    key: Option<SecretString>,
    /// The server's configuration, for its address and its key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Connect {
    /// A client; nothing is asked yet.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let given = self.key.as_ref().filter(|key| !key.expose_secret().is_empty());
        let settings = match (&self.url, given, &self.config) {
            (Some(_), Some(_), None) => Settings::default(),
            (_, _, config) => Settings::load(config.as_deref())?,
        };
        let url = match self.url.as_deref().filter(|url| !url.is_empty()) {
            Some(url) => checked(url)?,
            None => format!("http://{}", reachable(settings.http.listen)),
        };
        let (key, key_from) = match given {
            Some(key) => (key.expose_secret().to_owned(), "from --key or BUGLE_KEY".to_owned()),
            None => found(&settings),
        };
        Ok(Client::new(url, key).with_key_from(key_from))
    }
}

/// The key of the configuration or the data directory, and where it is from.
fn found(settings: &Settings) -> (String, String) {
    if let Some(key) = settings.api.keys.first() {
        return (
            key.expose_secret().to_owned(),
            "from api.keys of the configuration".to_owned(),
        );
    }
    let path = settings.data.dir.join("api-key");
    match std::fs::read_to_string(&path) {
        Ok(key) => (key.trim().to_owned(), format!("from {}", path.display())),
        // A server may ask for none; so this is told only if one is missed.
        Err(error) => (
            String::new(),
            format!("none: {} cannot be read, {error}", path.display()),
        ),
    }
}

fn checked(url: &str) -> anyhow::Result<String> {
    let uri: hyper::Uri = url.parse().with_context(|| format!("--url: cannot read {url:?}"))?;
    match uri.scheme_str() {
        Some("http") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(url.trim_end_matches('/').to_owned()),
        Some("https") => bail!(
            "--url: bugle's API speaks plain HTTP, and so does this command: give the server's own address, not that of what stands before it"
        ),
        _ => bail!("--url: expected http://host or http://host:port, got {url:?}"),
    }
}

/// Whoever listens on all addresses is reached on the machine's own.
pub(crate) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
