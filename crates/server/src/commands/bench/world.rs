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

/// Both processes; dropping it kills them and removes the directory.
pub(super) struct World {
    pub(super) server: Process,
    pub(super) sim: Process,
    pub(super) backends: Servers,
    /// Where the API listens.
    pub(super) api: SocketAddr,
    /// `https://host:port` that messages are sent to: the simulator's, or that of its blind port.
    pub(super) sink: String,
    sim_addr: SocketAddr,
    blind: bool,
    dir: TempDir,
}

impl World {
    pub(super) async fn start(setup: &Setup) -> anyhow::Result<Self> {
        let dir = scratch(setup)?;
        let (sim, sim_addr, sink) = start_sim(setup, dir.path()).await?;
        let backends = Servers::start(setup.backends, dir.path())?;
        let (server, api) = start_server(setup, dir.path(), &sink, &backends).await?;
        Ok(Self {
            server,
            sim,
            backends,
            api,
            sink,
            sim_addr,
            blind: setup.blind,
            dir,
        })
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
            self.blind || stats["tokens"] == requests,
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

    async fn sim_stats(&self) -> anyhow::Result<Value> {
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

/// Whether this bugle's simulator has `--blind`.
pub(super) async fn can_be_blind(bugle: PathBuf) -> anyhow::Result<bool> {
    let asked = tokio::task::spawn_blocking(move || Command::new(bugle).args(["sim", "--help"]).output());
    let help = asked.await?.context("cannot run the bugle to measure")?;
    Ok(String::from_utf8_lossy(&help.stdout).contains("--blind"))
}

fn credentials(dir: &Path) -> PathBuf {
    dir.join("sim/service-account.json")
}

/// Answers where it understands everything, and where messages go.
async fn start_sim(setup: &Setup, dir: &Path) -> anyhow::Result<(Process, SocketAddr, String)> {
    let mut command = Command::new(&setup.bugle);
    command
        .args(["sim", "--listen", "127.0.0.1:0", "--dir"])
        .arg(dir.join("sim"))
        .current_dir(dir)
        .stdout(Stdio::piped());
    if setup.blind {
        command.arg("--blind");
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
