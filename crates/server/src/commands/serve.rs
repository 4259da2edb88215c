//! `bugle serve`

use std::io::Write;
use std::path::PathBuf;

use bugle_model::Period;
use clap::Args;
use secrecy::ExposeSecret;

use crate::config::Settings;
use crate::lifecycle::Lifecycle;
use crate::roles::Role;
use crate::{backends, telemetry, wiring};

/// Run the server.
///
/// Without any configuration it keeps its data in ./bugle-data, listens on 127.0.0.1:8000 and prints an API key that it makes at the first start. To send, it needs a
/// provider: set fcm.credentials_file to your Firebase project's service account file.
///
/// Several machines for one installation: set store.url to PostgreSQL, and start this on each. roles says what a process does: api, fanout, sender.
///
/// The database is migrated at start. SIGTERM or Ctrl-C stops gracefully: nothing new leaves, what is open ends within sender.grace; a second signal ends at once.
///
/// Every key of the configuration can be set in the environment instead: BUGLE__HTTP__LISTEN=0.0.0.0:8000 is http.listen. See config.example.toml for all of them.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Serve {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Send nothing: every push is counted as accepted by FCM, after this time. Needs no credentials
    #[arg(long, value_name = "LATENCY", num_args = 0..=1, default_missing_value = "50ms")]
    dry_run: Option<Period>,
}

impl Serve {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let settings = Settings::load(self.config.as_deref())?;
        telemetry::log(&settings.log)?;
        let metrics = telemetry::metrics()?;
        let life = Lifecycle::default();
        life.listen()?;
        let started = wiring::start(&settings, &life, metrics, self.dry_run).await?;
        tracing::info!(
            address = %started.addr,
            roles = %settings.roles,
            store = backends::store_words(&settings),
            queue = backends::queue_words(&settings),
            "listening on http://{}", started.addr
        );
        if settings.api.insecure && settings.roles.has(Role::Api) {
            tracing::warn!("api.insecure is on: whoever reaches the API may use it");
        }
        if self.dry_run.is_some() {
            tracing::warn!("dry run: nothing is sent, everything counts as accepted");
        } else if !settings.fcm.is_on() {
            tracing::warn!(
                "no provider is configured: devices can be registered, pushes are refused; set fcm.credentials_file"
            );
        }
        if let Some(key) = &started.new_key {
            let mut out = std::io::stdout().lock();
            writeln!(
                out,
                "API key (shown once, kept in {}): {}",
                settings.data.dir.join("api-key").display(),
                key.expose_secret()
            )?;
            out.flush()?;
        }
        life.stop.cancelled().await;
        tracing::info!("stopping: nothing new leaves, open requests end");
        started.ended(&life).await?;
        tracing::info!("stopped");
        Ok(())
    }
}
