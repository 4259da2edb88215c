//! The server under test and the simulator that it sends to: two processes in a directory of their own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::Setup;
use super::backends::Servers;
use super::http::{Connection, KEY, post};
use super::process::Process;

/// What a scenario wants otherwise than usual.
#[derive(Clone)]
pub(super) struct Wants {
    /// Streams that the simulator allows on a connection.
    pub(super) streams: u32,
    /// Connections that the server makes; `None` = as configured.
    pub(super) connections: Option<usize>,
}

impl Default for Wants {
    fn default() -> Self {
        // What FCM is said to allow.
        Self {
            streams: 100,
            connections: None,
        }
    }
}

/// Both processes; dropping it kills them and removes the directory.
pub(super) struct World {
    pub(super) server: Process,
    pub(super) sim: Process,
    pub(super) backends: Servers,
    /// Where the API listens.
    pub(super) api: SocketAddr,
    /// `https://host:port` that messages are sent to: the simulator's, or that of its blind port.
    pub(super) sink: String,
    /// Requests that may be open at once, of the server and of h2load: connections, and streams on each.
    pub(super) open: (usize, usize),
    sim_addr: SocketAddr,
    /// Whether the simulator tells distinct tokens.
    counts_tokens: bool,
    wants: Wants,
    dir: TempDir,
}

impl World {
    pub(super) async fn start(setup: &Setup) -> anyhow::Result<Self> {
        Self::start_with(setup, Wants::default()).await
    }

    pub(super) async fn start_with(setup: &Setup, wants: Wants) -> anyhow::Result<Self> {
        let dir = scratch(setup)?;
        let (sim, sim_addr, sink) = start_sim(setup, &wants, dir.path()).await?;
        let backends = Servers::start(setup.backends, dir.path())?;
        let (server, api) = start_server(setup, &wants, dir.path(), &sink, &backends).await?;
        let fcm = &setup.settings.fcm;
        let connections = wants.connections.unwrap_or(fcm.connections);
        Ok(Self {
            server,
            sim,
            backends,
            api,
            sink,
            open: (
                connections.max(setup.settings.sender.thread_count()),
                usize::try_from(wants.streams)?,
            ),
            sim_addr,
            counts_tokens: setup.sink != Sink::Blind,
            wants,
            dir,
        })
    }

    /// Ends the server and starts it again, so that what filling the database cost it is forgotten.
    pub(super) async fn restart_server(&mut self, setup: &Setup) -> anyhow::Result<()> {
        self.server.end()?;
        (self.server, self.api) = start_server(setup, &self.wants, self.dir.path(), &self.sink, &self.backends).await?;
        Ok(())
    }

    /// The service-account file that the simulator has written.
    pub(super) fn credentials(&self) -> PathBuf {
        credentials(self.dir.path())
    }

    /// Where the simulator listens.
    pub(super) fn sim_addr(&self) -> SocketAddr {
        self.sim_addr
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Makes the simulator forget what it has seen.
    pub(super) async fn reset_sim(&self) -> anyhow::Result<()> {
        let mut connection = Connection::open(self.sim_addr).await?;
        connection.exchange(&post("/sim/reset", "")).await?;
        Ok(())
    }

    /// Fails unless the simulator has seen so many requests since it was reset, none of them twice.
    pub(super) async fn check_sim(&self, requests: u64) -> anyhow::Result<()> {
        let stats = self.sim_stats().await?;
        ensure!(
            stats["requests"] == requests,
            "the simulator has seen {} requests instead of {requests}",
            stats["requests"]
        );
        ensure!(
            !self.counts_tokens || stats["tokens"] == requests,
            "the simulator has seen {} tokens instead of {requests}",
            stats["tokens"]
        );
        Ok(())
    }

    /// Messages that the simulator has seen.
    pub(super) async fn messages(&self) -> anyhow::Result<f64> {
        let stats = self.sim_stats().await?;
        stats["requests"].as_f64().context("the simulator has not counted")
    }

    /// Changes how the simulator behaves.
    pub(super) async fn set_sim(&self, patch: &Value) -> anyhow::Result<()> {
        let mut connection = Connection::open(self.sim_addr).await?;
        connection.exchange(&post("/sim/settings", &patch.to_string())).await?;
        Ok(())
    }

    pub(super) async fn sim_stats(&self) -> anyhow::Result<Value> {
        let mut connection = Connection::open(self.sim_addr).await?;
        Ok(serde_json::from_slice(connection.get("/sim/stats").await?)?)
    }
}

/// A new directory, removed when it is dropped.
pub(super) fn scratch(setup: &Setup) -> anyhow::Result<TempDir> {
    tempfile::Builder::new()
        .prefix("bugle-bench-")
        .tempdir_in(&setup.dir)
        .with_context(|| format!("cannot make a directory in {}", setup.dir.display()))
}

/// How the simulator receives messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sink {
    /// Reads and checks everything.
    Checking,
    /// Counts only.
    Blind,
    /// Counts, and tells the tokens apart.
    Numbered,
}

/// The cheapest sink that tells tokens apart, of those that this bugle's simulator has.
pub(super) async fn cheapest_sink(bugle: PathBuf) -> anyhow::Result<Sink> {
    let asked = tokio::task::spawn_blocking(move || Command::new(bugle).args(["sim", "--help"]).output());
    let help = asked.await?.context("cannot run the bugle to measure")?;
    let help = String::from_utf8_lossy(&help.stdout);
    Ok(match (help.contains("hashes, numbers"), help.contains("--blind")) {
        (true, _) => Sink::Numbered,
        (false, true) => Sink::Blind,
        (false, false) => Sink::Checking,
    })
}

fn credentials(dir: &Path) -> PathBuf {
    dir.join("sim/service-account.json")
}

/// Answers where it understands everything, and where messages go.
async fn start_sim(setup: &Setup, wants: &Wants, dir: &Path) -> anyhow::Result<(Process, SocketAddr, String)> {
    let mut command = Command::new(&setup.bugle);
    command
        .args(["sim", "--listen", "127.0.0.1:0", "--dir"])
        .arg(dir.join("sim"))
        .args(["--settings", &format!(r#"{{"stream_limit": {}}}"#, wants.streams)])
        .current_dir(dir)
        .stdout(Stdio::piped());
    match setup.sink {
        Sink::Checking => {}
        Sink::Blind => drop(command.arg("--blind")),
        Sink::Numbered => drop(command.args(["--blind", "--blind-tokens=numbers"])),
    }
    let mut sim = Process::start("simulator", &mut command)?;
    let output = sim.child().stdout.take().context("the simulator has no output")?;
    let mut itself = None;
    let both = move |line: &str| {
        if line.contains("simulating FCM") {
            itself = url_in(line, "https://");
        }
        let sink = url_in(line.trim().strip_prefix("BUGLE__FCM__ENDPOINT=")?, "https://")?;
        Some((itself.clone()?, sink))
    };
    let (itself, sink) = sim.first(output, both, |_| false).await?;
    Ok((sim, address_in(&itself)?, sink))
}

async fn start_server(
    setup: &Setup,
    wants: &Wants,
    dir: &Path,
    sim: &str,
    backends: &Servers,
) -> anyhow::Result<(Process, SocketAddr)> {
    let mut command = Command::new(&setup.bugle);
    command
        .arg("serve")
        .current_dir(dir)
        .env("BUGLE__HTTP__LISTEN", "127.0.0.1:0")
        .env("BUGLE__API__KEYS", KEY)
        .env("BUGLE__DATA__DIR", dir.join("data"))
        .env("BUGLE__STORE__URL", backends.store_url())
        .env("BUGLE__QUEUE__URL", backends.queue_url())
        .env("BUGLE__FCM__ENDPOINT", sim)
        .env("BUGLE__FCM__CREDENTIALS_FILE", credentials(dir))
        .env("BUGLE__TLS__EXTRA_CA_FILE", dir.join("sim/ca.pem"))
        .env("BUGLE__LOG__LEVEL", "info")
        .env("BUGLE__LOG__FORMAT", "text")
        .env("NO_COLOR", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if let Some(connections) = wants.connections {
        command
            .env("BUGLE__FCM__CONNECTIONS", connections.to_string())
            .env("BUGLE__FCM__STREAMS", wants.streams.to_string());
    }
    let mut server = Process::start("server", &mut command)?;
    let log = server.child().stderr.take().context("the server has no log")?;
    let worth = |line: &str| line.contains(" WARN ") || line.contains("ERROR ");
    let listening = |line: &str| line.contains("listening on").then(|| url_in(line, "http://")).flatten();
    let url = server.first(log, listening, worth).await?;
    Ok((server, address_in(&url)?))
}

fn address_in(url: &str) -> anyhow::Result<SocketAddr> {
    url.rsplit('/')
        .next()
        .and_then(|addr| addr.parse().ok())
        .with_context(|| format!("{url} is not the kind of address that was expected"))
}

/// The first `scheme://host:port` of a line.
fn url_in(line: &str, scheme: &str) -> Option<String> {
    let (_, rest) = line.split_once(scheme)?;
    let end = rest
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))
        .unwrap_or(rest.len());
    Some(format!("{scheme}{}", &rest[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_the_words_of_server_and_simulator() {
        let line = "simulating FCM at https://127.0.0.1:8100; statistics at https://127.0.0.1:8100/sim/stats";
        assert_eq!(url_in(line, "https://").unwrap(), "https://127.0.0.1:8100");
        let line = "INFO bugle: listening on http://127.0.0.1:43211 address=127.0.0.1:43211";
        assert_eq!(url_in(line, "http://").unwrap(), "http://127.0.0.1:43211");
        assert_eq!(url_in("nothing", "http://"), None);
    }
}
