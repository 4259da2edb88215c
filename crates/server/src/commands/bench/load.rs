//! Clients that each send the next request when they have the answer to the last one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::http::{Connection, Template};

/// Who asks, what, and for how long.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) addr: SocketAddr,
    pub(super) clients: usize,
    pub(super) template: Template,
    /// Numbers begin again after so many.
    pub(super) wrap: u64,
    /// The first number that was not used yet.
    pub(super) next: Arc<AtomicU64>,
    pub(super) end: End,
    /// Offers so many commands a second at most, whatever the server could take.
    pub(super) pace: Option<f64>,
}

/// When it is over.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// After so long.
    After(Duration),
    /// When so many numbers are used.
    At(u64),
}

/// What came of it.
pub(super) struct Done {
    /// Commands that were answered.
    pub(super) commands: u64,
    /// From the first request to the last answer.
    pub(super) took: Duration,
    /// Of each request, in microseconds, ascending.
    latencies: Vec<u32>,
}

impl Done {
    /// Commands a second.
    pub(super) fn rate(&self) -> f64 {
        per_second(self.commands, self.took)
    }

    /// The time, in milliseconds, within which this share of the requests was answered.
    pub(super) fn quantile_ms(&self, share: f64) -> f64 {
        quantile(&self.latencies, share) / 1_000.0
    }
}

/// A rate.
#[expect(clippy::cast_precision_loss, reason = "a rate for the eye")]
pub(super) fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// When the turn of a command comes.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn turn(number: u64, pace: f64) -> Duration {
    Duration::from_secs_f64(number as f64 / pace)
}

/// Of ascending values; 0 of none.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index into memory"
)]
pub(super) fn quantile(ascending: &[u32], share: f64) -> f64 {
    let at = (ascending.len() as f64 * share) as usize;
    ascending
        .get(at.min(ascending.len().saturating_sub(1)))
        .copied()
        .map_or(0.0, f64::from)
}

impl Load {
    /// Runs all clients to the end. `answered` sees each answer's first number, when its request left, and its body.
    pub(super) async fn run<F>(self, answered: F) -> anyhow::Result<Done>
    where
        F: Fn(u64, Instant, &[u8]) + Clone + Send + Sync + 'static,
    {
        let mut connections = Vec::with_capacity(self.clients);
        for _ in 0..self.clients {
            connections.push(Connection::open(self.addr).await?);
        }
        let began = Instant::now();
        let start = self.next.load(Ordering::Relaxed);
        let mut clients = JoinSet::new();
        for connection in connections {
            clients.spawn(self.clone().client(connection, began, start, answered.clone()));
        }
        let mut latencies = Vec::new();
        while let Some(client) = clients.join_next().await {
            latencies.extend(client??);
        }
        let took = began.elapsed();
        latencies.sort_unstable();
        let commands = latencies.len() as u64 * self.template.commands();
        Ok(Done {
            commands,
            took,
            latencies,
        })
    }

    async fn client(
        mut self,
        mut connection: Connection,
        began: Instant,
        start: u64,
        answered: impl Fn(u64, Instant, &[u8]),
    ) -> anyhow::Result<Vec<u32>> {
        let mut latencies = Vec::new();
        let step = self.template.commands();
        loop {
            let over = match self.end {
                End::After(time) => began.elapsed() >= time,
                End::At(_) => false,
            };
            if over {
                return Ok(latencies);
            }
            let first = self.next.fetch_add(step, Ordering::Relaxed);
            if let End::At(end) = self.end
                && first >= end
            {
                return Ok(latencies);
            }
            if let Some(pace) = self.pace {
                tokio::time::sleep_until((began + turn(first - start, pace)).into()).await;
            }
            let wrap = self.wrap;
            let left = Instant::now();
            let body = connection.ask(self.template.fill(first, |n| n % wrap)).await?;
            latencies.push(u32::try_from(left.elapsed().as_micros()).unwrap_or(u32::MAX));
            answered(first, left, body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_few_and_of_no_values() {
        assert!(quantile(&[], 0.5).abs() < f64::EPSILON);
        assert!((quantile(&[7], 0.99) - 7.0).abs() < f64::EPSILON);
        let hundred: Vec<u32> = (0..100).collect();
        assert!((quantile(&hundred, 0.5) - 50.0).abs() < f64::EPSILON);
        assert!((quantile(&hundred, 1.0) - 99.0).abs() < f64::EPSILON);
    }
}
