//! The binary `bugle`: configuration, wiring, lifecycle, commands.

mod addresses;
mod backends;
mod client;
mod commands;
mod config;
mod key;
mod lifecycle;
mod listen;
mod roles;
mod telemetry;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

use crate::commands::Cli;

fn main() -> ExitCode {
    // Parsed before anything starts, so that a wrong command line costs nothing.
    let cli = Cli::parse();
    let run = || -> anyhow::Result<()> {
        if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
            anyhow::bail!("another crypto library is already installed");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let done = runtime.block_on(cli.run());
        // Nothing that is left may hold up the end: whoever had something to finish was waited for.
        runtime.shutdown_background();
        done
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bugle: {error:#}");
            ExitCode::FAILURE
        }
    }
}
