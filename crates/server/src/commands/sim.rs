//! `bugle sim`

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::config::Log;
use crate::telemetry;

/// Run the simulator of push providers: FCM's HTTP v1 API and its OAuth2 endpoint.
///
/// It checks what FCM checks and keeps an account of its own, per token, at /sim/stats and /sim/tokens. To let bugle send to it, set fcm.credentials_file to the
/// service-account.json and tls.extra_ca_file to the ca.pem that it writes to its directory, and fcm.endpoint to the address that it prints.
///
/// Tokens that begin with a fault's name meet that fault: unregistered-x, payload-x, quota-x, unavailable-x, slow-x, silent-x, cut-x and more; unavailable2-x is
/// refused twice and then accepted. Shares of faults, outages, latency, GOAWAY and stream limits are set while it runs:
///
///   curl -d '{"shares": {"unregistered": 10, "unavailable": 50}}' http://ADDRESS/sim/settings
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Simulate {
    /// Where to listen; the port understands TLS and plain text, HTTP/1.1 and HTTP/2
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8100")]
    listen: SocketAddr,
    /// Hand out http:// addresses instead of https://
    #[arg(long)]
    plain: bool,
    /// Where keys, ca.pem and service-account.json are kept, so that a simulator that is started again is trusted again
    #[arg(long, value_name = "DIR", default_value = "bugle-sim")]
    dir: PathBuf,
    /// Settings to start with, as JSON; see GET /sim/settings
    #[arg(long, value_name = "JSON")]
    settings: Option<String>,
}

impl Simulate {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        telemetry::log(&Log::default())?;
        let config = bugle_sim::Config {
            listen: self.listen,
            tls: !self.plain,
            state_dir: Some(self.dir.clone()),
            ..bugle_sim::Config::default()
        };
        let sim = bugle_sim::Sim::start(config)
            .await
            .with_context(|| format!("cannot start the simulator on {}", self.listen))?;
        if let Some(settings) = &self.settings {
            let patch = serde_json::from_str(settings).context("--settings: expected a JSON object")?;
            sim.merge(&patch).context("--settings")?;
        }
        let dir = self.dir.canonicalize().unwrap_or(self.dir);
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "simulating FCM at {}; statistics at {}/sim/stats",
            sim.endpoint(),
            sim.endpoint()
        )?;
        writeln!(out, "to send to it:\n")?;
        writeln!(out, "  BUGLE__FCM__ENDPOINT={} \\", sim.endpoint())?;
        writeln!(
            out,
            "  BUGLE__FCM__CREDENTIALS_FILE={} \\",
            dir.join("service-account.json").display()
        )?;
        writeln!(out, "  BUGLE__TLS__EXTRA_CA_FILE={} \\", dir.join("ca.pem").display())?;
        writeln!(out, "  bugle serve")?;
        out.flush()?;
        drop(out);
        super::until_stopped().await?;
        sim.stop().await;
        Ok(())
    }
}
