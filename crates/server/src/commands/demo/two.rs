//! Simulator and server as processes of their own, so that the memory and the time of each can be told.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use super::broadcast::Costs;
use super::{Demo, KEY};
use crate::commands::bench::process::Process;
use crate::commands::until_stopped;

struct Apart {
    server: Process,
    sim: Process,
}

impl Costs for Apart {
    fn server_cpu(&self) -> Option<Duration> {
        self.server.cpu().ok()
    }

    fn peaks_mib(&self) -> Option<(f64, f64)> {
        Some((self.server.peak_mib().ok()?, self.sim.peak_mib().ok()?))
    }
}

pub(super) async fn run(demo: &Demo, dir: &Path) -> anyhow::Result<()> {
    let (sim, simulator) = start_simulator(dir).await?;
    let (server, url) = start_server(demo, dir, simulator).await?;
    let apart = Apart { server, sim };
    tokio::select! {
        shown = demo.show(&url, simulator, &apart) => {
            shown?;
            demo.closing_words(&url, simulator)?;
        }
        stopped = until_stopped() => return Ok(stopped?),
    }
    if !demo.once {
        until_stopped().await?;
    }
    Ok(())
}

async fn start_simulator(dir: &Path) -> anyhow::Result<(Process, SocketAddr)> {
    let mut command = bugle()?;
    command
        .args(["sim", "--listen", "127.0.0.1:0", "--dir"])
        .arg(dir.join("simulator"))
        .stdout(Stdio::piped());
    let mut sim = Process::start("simulator", &mut command)?;
    let output = sim.child().stdout.take().context("the simulator has no output")?;
    let addr = sim.first(output, |line| address(line, "https://"), |_| false).await?;
    Ok((sim, addr))
}

async fn start_server(demo: &Demo, dir: &Path, simulator: SocketAddr) -> anyhow::Result<(Process, String)> {
    let mut command = bugle()?;
    command
        .arg("serve")
        .env("BUGLE__HTTP__LISTEN", demo.listen.to_string())
        .env("BUGLE__API__KEYS", KEY)
        .env("BUGLE__DATA__DIR", dir.join("server"))
        .env("BUGLE__FCM__ENDPOINT", format!("https://{simulator}"))
        .env(
            "BUGLE__FCM__CREDENTIALS_FILE",
            dir.join("simulator/service-account.json"),
        )
        .env("BUGLE__TLS__EXTRA_CA_FILE", dir.join("simulator/ca.pem"))
        .env("NO_COLOR", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut server = Process::start("server", &mut command)?;
    let log = server.child().stderr.take().context("the server has no log")?;
    let listening = |line: &str| {
        line.contains("listening on")
            .then(|| address(line, "http://"))
            .flatten()
    };
    let worth = |line: &str| line.contains(" WARN ") || line.contains("ERROR ");
    let addr = server.first(log, listening, worth).await?;
    Ok((server, format!("http://{addr}")))
}

/// This very program, without the settings of whoever started it.
fn bugle() -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program's own file")?);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BUGLE__") {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// The first address of a line after `scheme`.
fn address(line: &str, scheme: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(scheme)?;
    let end = rest
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}
