//! Sets devices aside that have not registered for long: apps that were deleted, phones that were sold.

use std::sync::Arc;
use std::time::Duration;

use bugle_model::{Clock, DeviceKey};
use bugle_store::{Result, Store};
use tokio_util::sync::CancellationToken;

use crate::{DevicesConfig, metrics as names};

/// The registry is walked so often, or more often where `devices.max_inactive` is shorter.
const EVERY: Duration = Duration::from_secs(3_600);
/// The pause between two steps: the walk takes a few per cent of a reader, and nobody waits for it.
const BREATH: Duration = Duration::from_millis(50);

/// The loop that removes inactive devices.
pub struct Cleaner {
    /// The registry.
    pub store: Arc<dyn Store>,
    /// What is long ago.
    pub clock: Arc<dyn Clock>,
    /// How long.
    pub config: DevicesConfig,
}

impl Cleaner {
    /// Runs until it is stopped; does nothing where nothing is to be removed.
    pub async fn run(self, stop: CancellationToken) {
        let longest = self.config.max_inactive.get();
        if longest.is_zero() {
            return stop.cancelled().await;
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                walked = self.walk() => if let Err(error) = walked {
                    metrics::counter!(names::FAILED_ROUNDS, "loop" => "inactive").increment(1);
                    tracing::error!(error = &error as &dyn std::error::Error, "cannot remove inactive devices: the store failed");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY.min(longest)) => {}
            }
        }
    }

    /// Walks the registry once. Returns how many devices were removed.
    pub async fn walk(&self) -> Result<u64> {
        let (mut removed, mut from) = (0, Some(DeviceKey(0)));
        while let Some(key) = from {
            let now = self.clock.now();
            let (step, next) = self
                .store
                .remove_inactive(key, now.minus(self.config.max_inactive.get()), now)
                .await?;
            metrics::counter!(names::INACTIVE_DEVICES).increment(step);
            removed += step;
            from = next;
            tokio::time::sleep(BREATH).await;
        }
        if removed > 0 {
            tracing::info!(
                devices = removed,
                "removed devices that had not registered for devices.max_inactive"
            );
        }
        Ok(removed)
    }
}
