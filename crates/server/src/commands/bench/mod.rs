//! `bugle bench`: how fast this bugle is on this machine.
//!
//! The server and the simulator that it sends to are processes of their own ([`world`]), so that time and memory of each are known apart;
//! this process only asks (`load`). Each scenario measures in rounds and answers `report::Measure`s: one number a round, the median is
//! what counts. What is to be compared with one another is measured in turn within each round, so that a machine that is busy for a while
//! is busy for both.

mod audience;
mod audience_scan;
mod backends;
mod broadcast;
mod channel;
mod growth;
mod h2load;
mod http;
mod load;
mod machine;
mod observed;
mod one_device;
pub(super) mod process;
mod register;
mod report;
mod slow;
mod together;
mod urgent;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use self::backends::Backends;
use self::machine::Machine;
use self::report::Report;
use self::world::Sink;
use crate::config::Settings;

/// Measure how fast bugle is on this machine.
///
/// Starts a server and a simulator of FCM as processes of their own on free ports of this machine, with their data in a new directory that is removed at the end, and
/// measures them from outside. With --backends postgres or redis it starts private servers of those, too (Debian: apt install postgresql redis-server). Prints a table: per measure the median of all rounds, the lowest and the highest.
///
///   register                 registrations a second, one at a time and in batches, beside those of the database's writer alone
///   api-accept               time until send_push_notification to one device answers
///   one-device               pushes to one device each, from accepted to settled
///   audience-scan            tokens a second that are walked and read, of a channel of everybody and of one device in a thousand
///   send-channel             broadcasts, each between two runs of h2load (Debian: nghttp2-client) against the same simulator
///   urgent-during-broadcast  time until a push to one device arrives, with and without a broadcast beside it; two broadcasts beside each other
///   slow-provider            broadcasts while every answer takes 30 to 70 ms, beside such with answers at once
///   growth                   broadcasts to 0.3 and to 3 times --devices: time and memory
///
/// The configuration is the default one; BUGLE__ variables of the environment change it as they do for serve.
///
/// Measure with a release build on a machine that does nothing else.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Bench {
    /// What to measure; everything if nothing is named
    #[arg(value_enum, value_name = "SCENARIO", hide_possible_values = true)]
    scenarios: Vec<Scenario>,
    /// What the server keeps its data in: `redis` = PostgreSQL, and Redis for the queue
    #[arg(long, value_enum, default_value = "sqlite")]
    backends: Backends,
    /// How often everything is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// The audience of a broadcast
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    devices: u32,
    /// How long a round of one-device lasts
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=600))]
    seconds: u64,
    /// How many pushes a second one-device asks for; by default as many as the server accepts from 64 clients
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pace: Option<u32>,
    /// Let rounds of send-channel count that are void, because h2load before and after differ by over 15 % or the simulator took over 40 % of the processors
    #[arg(long)]
    count_void: bool,
    /// Let the simulator check everything, even if it can do without
    #[arg(long)]
    checking: bool,
    /// Write the results there too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the directory with the databases is made; its disk is part of what is measured. By default the system's for temporary files
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The bugle to measure; by default this one
    #[arg(long, value_name = "FILE")]
    bugle: Option<PathBuf>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    Register,
    ApiAccept,
    OneDevice,
    AudienceScan,
    SendChannel,
    UrgentDuringBroadcast,
    SlowProvider,
    Growth,
}

/// What all scenarios need to know.
struct Setup {
    bugle: PathBuf,
    backends: Backends,
    dir: PathBuf,
    rounds: u32,
    devices: u32,
    time: Duration,
    pace: Option<f64>,
    count_void: bool,
    sink: Sink,
    /// What the server runs on too.
    settings: Settings,
}

impl Bench {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        if cfg!(debug_assertions) && self.bugle.is_none() {
            eprintln!(
                "\n*** This is a debug build: its numbers say nothing. Build with `cargo build --release -p bugle-server`. ***\n"
            );
        }
        if let Some(dir) = self.json.as_ref().and_then(|file| file.parent())
            && !dir.as_os_str().is_empty()
            && !dir.is_dir()
        {
            bail!("--json: there is no directory {}", dir.display());
        }
        let setup = self.setup().await?;
        let mut report = Report::new(Machine::look(&setup.dir), self.backends.name());
        report.note(match setup.sink {
            Sink::Checking => "the simulator checked every request",
            Sink::Blind => "the simulator was blind: it answers at once and checks nothing",
            Sink::Numbered => "the simulator was blind: it checks nothing but which tokens there were",
        });
        report.head()?;
        tokio::select! {
            done = self.measure(&setup, &mut report) => done?,
            stopped = super::until_stopped() => {
                stopped?;
                bail!("interrupted; nothing was measured to the end");
            }
        }
        report.table()?;
        if let Some(file) = &self.json {
            let text = serde_json::to_string_pretty(&report.json())? + "\n";
            std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }

    async fn setup(&self) -> anyhow::Result<Setup> {
        let dir = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        if !dir.is_dir() {
            bail!("--dir: there is no directory {}", dir.display());
        }
        // The processes run elsewhere.
        let dir = dir.canonicalize()?;
        let bugle = match &self.bugle {
            Some(file) => file
                .canonicalize()
                .with_context(|| format!("--bugle: there is no file {}", file.display()))?,
            None => std::env::current_exe().context("cannot find this program's own file")?,
        };
        let sink = if self.checking {
            Sink::Checking
        } else {
            world::cheapest_sink(bugle.clone()).await?
        };
        Ok(Setup {
            bugle,
            backends: self.backends,
            dir,
            rounds: self.rounds,
            devices: self.devices,
            time: Duration::from_secs(self.seconds),
            pace: self.pace.map(f64::from),
            count_void: self.count_void,
            sink,
            settings: Settings::load(None)?,
        })
    }

    async fn measure(&self, setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
        let wanted = |scenario| self.scenarios.is_empty() || self.scenarios.contains(&scenario);
        if wanted(Scenario::Register) {
            register::measure(setup, report).await.context("register")?;
        }
        if wanted(Scenario::ApiAccept) {
            one_device::accept(setup, report).await.context("api-accept")?;
        }
        if wanted(Scenario::OneDevice) {
            one_device::settle(setup, report).await.context("one-device")?;
        }
        if wanted(Scenario::AudienceScan) {
            audience_scan::measure(setup, report).await.context("audience-scan")?;
        }
        if wanted(Scenario::SendChannel) {
            channel::measure(setup, report).await.context("send-channel")?;
        }
        if wanted(Scenario::UrgentDuringBroadcast) {
            urgent::measure(setup, report)
                .await
                .context("urgent-during-broadcast")?;
        }
        if wanted(Scenario::SlowProvider) {
            slow::measure(setup, report).await.context("slow-provider")?;
        }
        if wanted(Scenario::Growth) {
            growth::measure(setup, report).await.context("growth")?;
        }
        Ok(())
    }
}

/// Tells somebody who waits what is going on.
fn progress(scenario: &str, round: u32, setup: &Setup) {
    eprintln!("{scenario}: round {} of {}", round + 1, setup.rounds);
}
