//! Logs to standard error, metrics to whoever asks.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Bounds of the histograms: times in seconds, from a commit to a request's time-out, and sizes of groups.
const BUCKETS: [f64; 16] = [
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0, 100.0, 1_000.0, 10_000.0,
];

/// The exporter keeps every sample of a histogram until somebody asks for the metrics, or this comes round.
const UPKEEP: Duration = Duration::from_secs(5);

/// Keeps the collected samples from piling up where nobody asks for them.
pub(crate) async fn upkeep(handle: PrometheusHandle, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(UPKEEP) => handle.run_upkeep(),
        }
    }
}

/// Starts logging.
pub(crate) fn log(settings: &Log) -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_new(&settings.level).with_context(|| format!("log.level: cannot read {:?}", settings.level))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let done = match settings.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    done.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

/// Starts collecting metrics.
pub(crate) fn metrics() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets(&BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .context("cannot start collecting metrics")?;
    bugle_api::metrics::describe();
    bugle_service::metrics::describe();
    Ok(handle)
}
