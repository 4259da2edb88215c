//! A provider that sends nothing: everything is accepted after a while. For trying a configuration, an audience or a load without reaching anybody.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bugle_model::{Invalid, Outcome, Provider as ProviderName, TargetKind};
use futures_util::future::LocalBoxFuture;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Client, Prepared, Provider, Slot};

/// Stands in for a provider.
pub struct DryRun {
    name: ProviderName,
    latency: Duration,
    open: usize,
}

impl DryRun {
    /// Stands in for `name`: answers after `latency`, with at most `open` requests open at once over all threads.
    #[must_use]
    pub fn new(name: ProviderName, latency: Duration, open: usize) -> Arc<Self> {
        Arc::new(Self {
            name,
            latency,
            open: open.max(1),
        })
    }
}

impl Provider for DryRun {
    fn name(&self) -> ProviderName {
        self.name
    }

    fn client(self: Arc<Self>, threads: usize) -> Box<dyn Client> {
        let streams = (self.open / threads.max(1)).max(1);
        Box::new(DryClient {
            latency: self.latency,
            streams,
            free: Arc::new(Semaphore::new(streams)),
            numbers: Rc::default(),
        })
    }

    fn max_open(&self) -> usize {
        self.open
    }
}

struct DryClient {
    latency: Duration,
    streams: usize,
    free: Arc<Semaphore>,
    numbers: Rc<Cell<u64>>,
}

impl Client for DryClient {
    fn prepare(&self, body: &RawValue) -> Result<Prepared, Invalid> {
        Ok(Prepared(Rc::new(body.get().len())))
    }

    fn slot(&self) -> LocalBoxFuture<'_, Result<Slot, Outcome>> {
        Box::pin(async {
            let permit = Arc::clone(&self.free)
                .acquire_owned()
                .await
                .map_err(|_| Outcome::Unprocessed)?;
            Ok(Slot(Box::new(permit)))
        })
    }

    fn send(&self, slot: Slot, push: &Prepared, target: &TargetKind) -> LocalBoxFuture<'static, Outcome> {
        let bytes = push.0.downcast_ref::<usize>().copied().unwrap_or_default();
        let kind = match target {
            TargetKind::Token(_) => "token",
            TargetKind::Topic(_) => "topic",
            TargetKind::Condition(_) => "condition",
            TargetKind::Skip(_) => "nobody",
        };
        let number = self.numbers.get() + 1;
        self.numbers.set(number);
        let latency = self.latency;
        Box::pin(async move {
            let permit: Option<Box<OwnedSemaphorePermit>> = slot.0.downcast().ok();
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            drop(permit);
            tracing::debug!(to = kind, payload_bytes = bytes, "dry run: not sent");
            Outcome::Accepted {
                message_id: format!("dry-run-{number}").into(),
            }
        })
    }

    fn capacity(&self) -> usize {
        self.streams
    }

    fn close(&self) {
        self.free.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_accepts_after_the_latency_and_bounds_what_is_open() {
        let client = DryRun::new(ProviderName::Fcm, Duration::from_millis(50), 4).client(2);
        let body = RawValue::from_string("{}".to_owned()).unwrap();
        let push = client.prepare(&body).unwrap();
        let target = TargetKind::Topic("news".into());
        let (first, second) = (client.slot().await.unwrap(), client.slot().await.unwrap());
        assert!(
            tokio::time::timeout(Duration::from_millis(10), client.slot())
                .await
                .is_err(),
            "two of four are this thread's"
        );
        let began = std::time::Instant::now();
        let outcome = client.send(first, &push, &target).await;
        assert!(matches!(outcome, Outcome::Accepted { .. }));
        assert!(began.elapsed() >= Duration::from_millis(50));
        drop(second);
        assert!(client.slot().await.is_ok());
        client.close();
        assert_eq!(client.slot().await.err(), Some(Outcome::Unprocessed));
    }
}
