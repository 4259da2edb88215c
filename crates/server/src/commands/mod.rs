//! The command line.
#![expect(
    clippy::doc_markdown,
    reason = "the doc comments of the options are what --help prints"
)]

mod account;
mod bench;
mod check;
mod connect;
mod demo;
mod devices;
mod migrate;
mod migrate_data;
mod progress;
mod push;
mod serve;
mod sim;

use clap::{Parser, Subcommand};

/// A self-hosted push notification server.
///
/// Your backend registers device tokens, subscribes devices to channels and asks for pushes over an HTTP API; bugle stores, targets, queues durably and delivers through
/// FCM, with an exact account of every push.
///
/// `bugle demo` shows it at work without an account at any provider.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Check(check::Check),
    Migrate(migrate::Migrate),
    MigrateData(migrate_data::MigrateData),
    Devices(devices::Devices),
    Push(push::Push),
    Demo(demo::Demo),
    Sim(sim::Simulate),
    Bench(bench::Bench),
}

impl Cli {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Serve(serve) => serve.run().await,
            Command::Check(check) => check.run().await,
            Command::Migrate(migrate) => migrate.run().await,
            Command::MigrateData(migrate) => migrate.run().await,
            Command::Devices(devices) => devices.run().await,
            Command::Push(push) => push.run().await,
            Command::Demo(demo) => demo.run().await,
            Command::Sim(sim) => sim.run().await,
            Command::Bench(bench) => bench.run().await,
        }
    }
}

/// Waits for SIGTERM or Ctrl-C.
async fn until_stopped() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = term.recv() => Ok(()),
        done = tokio::signal::ctrl_c() => done,
    }
}

/// Writes a result to standard output.
fn say(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}
