//! What the server says about itself, seen through its API.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::http::Connection;
use super::world::World;

/// A push must have ended after so long.
const PATIENCE: Duration = Duration::from_secs(600);

/// Sums of the server's metrics.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counters {
    /// Pushes accepted.
    pub(super) accepted: f64,
    /// Outcomes: of each target one, unless it was tried again.
    pub(super) outcomes: f64,
    /// Commits of the database's writer.
    pub(super) commits: f64,
    /// What was written in them.
    pub(super) writes: f64,
    /// Seconds that they took: writing and syncing the log, not running the statements.
    pub(super) commit_seconds: f64,
}

impl Counters {
    /// Pushes to one device each that have no outcome yet.
    pub(super) fn backlog(&self) -> f64 {
        (self.accepted - self.outcomes).max(0.0)
    }

    /// What has been counted since.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            accepted: self.accepted - before.accepted,
            outcomes: self.outcomes - before.outcomes,
            commits: self.commits - before.commits,
            writes: self.writes - before.writes,
            commit_seconds: self.commit_seconds - before.commit_seconds,
        }
    }
}

/// A connection for questions beside the load.
pub(super) struct Observer(Connection);

impl Observer {
    pub(super) async fn of(world: &World) -> anyhow::Result<Self> {
        Ok(Self(Connection::open(world.api).await?))
    }

    pub(super) async fn counters(&mut self) -> anyhow::Result<Counters> {
        let text = std::str::from_utf8(self.0.get("/metrics").await?)?;
        Ok(Counters {
            accepted: sum(text, "bugle_service_pushes_accepted_total"),
            outcomes: sum(text, "bugle_sender_outcomes_total"),
            commits: sum(text, "bugle_store_group_jobs_count"),
            writes: sum(text, "bugle_store_group_jobs_sum"),
            commit_seconds: sum(text, "bugle_store_commit_seconds_sum"),
        })
    }

    /// Waits until every accepted push to one device has an outcome.
    pub(super) async fn drained(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.counters().await?.backlog() > 0.0 {
            ensure!(began.elapsed() < PATIENCE, "pushes wait for {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    pub(super) async fn call(&mut self, method: &str, params: &Value) -> anyhow::Result<Value> {
        self.0.call(method, params).await
    }

    /// How many of a push's targets were sent, and whether it has ended.
    pub(super) async fn sent(&mut self, uid: &str) -> anyhow::Result<(f64, bool)> {
        let status = self.0.call("push_status", &json!({ "uid": uid })).await?;
        let sent = status["sent"]
            .as_f64()
            .context("the account does not say what was sent")?;
        Ok((sent, status.get("ended_at").is_some()))
    }

    /// The account of a push to so many once it has ended. Asked for every so often in the end, and more seldom before: asking costs the server
    /// time, too.
    pub(super) async fn ended(&mut self, uid: &str, devices: u64, every: Duration) -> anyhow::Result<Value> {
        let began = Instant::now();
        loop {
            let status = self.0.call("push_status", &json!({ "uid": uid })).await?;
            if status.get("ended_at").is_some() {
                return Ok(status);
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "a push has not ended after {PATIENCE:?}: {status}"
            );
            let sent = status["sent"].as_u64().unwrap_or(0);
            let much_is_left = sent < devices / 5 * 4;
            tokio::time::sleep(if much_is_left { every * 5 } else { every }).await;
        }
    }
}

/// The uid in the answer of `send_push_notification`.
pub(super) fn uid_in(answer: &[u8]) -> anyhow::Result<String> {
    let answer: Value = serde_json::from_slice(answer)?;
    let uid = answer["result"]["uid"].as_str().context("the answer has no uid")?;
    Ok(uid.to_owned())
}

/// Of a metric, over all its labels.
fn sum(text: &str, name: &str) -> f64 {
    text.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_not_confused_with_longer_names() {
        let text = "# TYPE a_total counter\na_total{x=\"1 2\"} 3\na_total{x=\"2\"} 4\na_total_seconds 100\na_total 5\n";
        assert!((sum(text, "a_total") - 12.0).abs() < f64::EPSILON);
        assert!(sum(text, "b").abs() < f64::EPSILON);
    }
}
