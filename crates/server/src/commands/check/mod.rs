//! `bugle check`: is everything there that a server needs?
//!
//! Looks and changes nothing: no lock is taken, nothing is migrated, no file is made but a probe that is gone at once. So it can be run beside a running server.

mod machine;
mod network;
mod secrets;
mod servers;

use std::path::PathBuf;

use anyhow::bail;
use bugle_provider::{Finding, State};
use clap::Args;
use serde_json::json;

use crate::commands::say;
use crate::config::Settings;

/// Check that everything is there that a server needs.
///
/// Looks at the configuration, files and who may read them, the database, PostgreSQL and Redis, free disk space, the address to listen on, the clock, and whether each provider can be reached
/// and lets this server in; the last is tried with a push that the provider checks and delivers to nobody. Every failure comes with a remedy.
///
/// Changes nothing and can be run while a server runs on the same data. The exit code is 0 if nothing failed, and 1 otherwise.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Check {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let found = self.look().await;
        let failed = found.iter().filter(|finding| finding.state == State::Failed).count();
        if self.json {
            say(&serde_json::to_string_pretty(
                &json!({"ok": failed == 0, "checks": found}),
            )?)?;
        } else {
            say(table(&found).trim_end())?;
        }
        if failed > 0 {
            bail!("{failed} of {} checks failed", found.len());
        }
        Ok(())
    }

    async fn look(&self) -> Vec<Finding> {
        const CONFIGURATION: &str = "configuration";
        let settings = match Settings::load(self.config.as_deref()) {
            Ok(settings) => settings,
            Err(error) => {
                let remedy = "correct the key that is named; config.example.toml has all keys with their defaults";
                return vec![
                    Finding::failed(CONFIGURATION, format!("{error:#}"), remedy),
                    Finding::skipped("everything else", "needs a configuration"),
                ];
            }
        };
        let whence = match &self.config {
            Some(file) => format!("{} and the environment", file.display()),
            None => "the defaults and the environment; no --config was given".to_owned(),
        };
        let mut found = vec![Finding::ok(CONFIGURATION, whence)];
        found.extend(machine::check(&settings));
        found.extend(servers::check(&settings).await);
        found.extend(secrets::check(&settings, self.config.as_deref()));
        found.extend(network::check(&settings).await);
        found
    }
}

fn table(found: &[Finding]) -> String {
    let width = found
        .iter()
        .map(|finding| finding.item.chars().count())
        .max()
        .unwrap_or_default();
    let line = |finding: &Finding| {
        let mark = match finding.state {
            State::Ok => '✓',
            State::Failed => '✗',
            State::Skipped => '–',
        };
        let remedy = match finding.remedy.as_str() {
            "" => String::new(),
            remedy => format!("  {:<width$}  → {remedy}\n", ""),
        };
        format!("{mark} {:<width$}  {}\n{remedy}", finding.item, finding.finding)
    };
    found.iter().map(line).collect::<Vec<_>>().concat()
}
