//! `bugle sim`

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bugle_sim::BlindTokens;
use clap::{Args, ValueEnum};

use crate::config::Log;
use crate::telemetry;

/// Run the simulator of push providers: FCM's HTTP v1 API and its OAuth2 endpoint.
///
/// It checks what FCM checks and keeps an account of its own, per token: a page for people is at /sim, JSON at /sim/stats and /sim/tokens. To let bugle send to it, set fcm.credentials_file to the
/// service-account.json and tls.extra_ca_file to the ca.pem that it writes to its directory, and fcm.endpoint to the address that it prints.
///
/// Tokens that begin with a fault's name meet that fault: unregistered-x, payload-x, quota-x, unavailable-x, slow-x, silent-x, cut-x and more; unavailable2-x is
/// refused twice and then accepted. Shares of faults, outages, latency, GOAWAY and stream limits are set while it runs, on the page or by:
///
///   curl -d '{"shares": {"unregistered": 10, "unavailable": 50}}' http://ADDRESS/sim/settings
///
/// With --blind it has a second port that answers every HTTP/2 request with 200 and looks at none: for measuring speed. docs/simulator.md tells more.
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
    /// Open a second port that answers every HTTP/2 request unseen, at next to no cost
    #[arg(long)]
    blind: bool,
    /// Where the blind port is; by default the one after that of --listen
    #[arg(long, value_name = "ADDR", requires = "blind")]
    blind_listen: Option<SocketAddr>,
    /// Threads of the blind port
    #[arg(long, value_name = "N", default_value_t = 1, requires = "blind", value_parser = clap::value_parser!(u16).range(1..=256))]
    blind_threads: u16,
    /// Let the blind port count distinct tokens, by their hashes or by the nine digits that each begins with, which is cheaper
    #[arg(long, value_name = "HOW", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "hashes", requires = "blind")]
    blind_tokens: Option<CountTokens>,
}

/// How the blind port counts distinct tokens.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum CountTokens {
    Hashes,
    Numbers,
}

impl Simulate {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        telemetry::log(&Log::default())?;
        let config = self.config();
        let sim = bugle_sim::Sim::start(config)
            .await
            .with_context(|| format!("cannot start the simulator on {}", self.listen))?;
        if let Some(settings) = &self.settings {
            let patch = serde_json::from_str(settings).context("--settings: expected a JSON object")?;
            sim.merge(&patch).context("--settings")?;
        }
        let dir = self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone());
        let mut out = std::io::stdout().lock();
        out.write_all(instructions(&sim, &dir).as_bytes())?;
        out.flush()?;
        drop(out);
        super::until_stopped().await?;
        sim.stop().await;
        Ok(())
    }

    fn config(&self) -> bugle_sim::Config {
        let next_port = || match self.listen.port() {
            0 | u16::MAX => SocketAddr::new(self.listen.ip(), 0),
            port => SocketAddr::new(self.listen.ip(), port + 1),
        };
        bugle_sim::Config {
            listen: self.listen,
            tls: !self.plain,
            state_dir: Some(self.dir.clone()),
            blind: self.blind,
            blind_listen: self.blind.then(|| self.blind_listen.unwrap_or_else(next_port)),
            blind_threads: self.blind_threads.into(),
            blind_tokens: match self.blind_tokens {
                Some(CountTokens::Numbers) => BlindTokens::Numbers,
                Some(CountTokens::Hashes) => BlindTokens::Hashes,
                None => BlindTokens::Uncounted,
            },
            ..bugle_sim::Config::default()
        }
    }
}

/// What somebody needs to know who wants to send to this simulator; its files are in `dir`.
fn instructions(sim: &bugle_sim::Sim, dir: &Path) -> String {
    let url = sim.endpoint();
    let blind = sim
        .blind_endpoint()
        .map(|blind| format!("answering unseen at {blind}\n"))
        .unwrap_or_default();
    format!(
        "simulating FCM at {url}; statistics at {url}/sim\n{blind}to send to it:\n\n  BUGLE__FCM__ENDPOINT={} \\\n  BUGLE__FCM__CREDENTIALS_FILE={} \\\n  BUGLE__TLS__EXTRA_CA_FILE={} \\\n  bugle serve\n",
        sim.blind_endpoint().unwrap_or(url),
        dir.join("service-account.json").display(),
        dir.join("ca.pem").display()
    )
}
