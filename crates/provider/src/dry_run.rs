//! A provider that sends nothing: everything is accepted after a while. For trying a configuration, an audience or a load without reaching anybody.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bugle_model::{Invalid, Outcome, Provider as ProviderName, TargetKind};
use futures_util::future::LocalBoxFuture;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;

use crate::{Client, Held, Outcomes, Prepared, Provider, Slot, Ticket};

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

    fn client(self: Arc<Self>, threads: usize, outcomes: Rc<dyn Outcomes>) -> Box<dyn Client> {
        let streams = (self.open / threads.max(1)).max(1);
        Box::new(DryClient {
            latency: self.latency,
            streams,
            free: Arc::new(Semaphore::new(streams)),
            numbers: Cell::default(),
            outcomes,
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
    numbers: Cell<u64>,
    outcomes: Rc<dyn Outcomes>,
}

impl Client for DryClient {
    fn prepare(&self, body: &RawValue) -> Result<Prepared, Invalid> {
        Ok(Prepared(Rc::new(body.get().len())))
    }

    fn try_slot(&self, _now: std::time::Instant) -> Option<Slot> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Slot(Held::Dry { _permit: permit }))
    }

    fn slot(&self) -> LocalBoxFuture<'_, Result<Slot, Outcome>> {
        Box::pin(async {
            let permit = Arc::clone(&self.free)
                .acquire_owned()
                .await
                .map_err(|_| Outcome::Unprocessed)?;
            Ok(Slot(Held::Dry { _permit: permit }))
        })
    }

    fn send(&self, slot: Slot, push: &Prepared, target: &TargetKind, ticket: Ticket) {
        let bytes = push.0.downcast_ref::<usize>().copied().unwrap_or_default();
        let kind = match target {
            TargetKind::Token(_) => "token",
            TargetKind::Topic(_) => "topic",
            TargetKind::Condition(_) => "condition",
            TargetKind::Skip(_) => "nobody",
        };
        let number = self.numbers.get() + 1;
        self.numbers.set(number);
        let (latency, outcomes) = (self.latency, Rc::clone(&self.outcomes));
        spawn_local(async move {
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            drop(slot);
            tracing::debug!(to = kind, payload_bytes = bytes, "dry run: not sent");
            outcomes.outcome(ticket, Outcome::Accepted, &format!("dry-run-{number}"));
        });
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
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
    use tokio::task::LocalSet;

    use super::*;

    struct Told(UnboundedSender<(Ticket, Outcome)>);

    impl Outcomes for Told {
        fn outcome(&self, ticket: Ticket, outcome: Outcome, _: &str) {
            self.0.send((ticket, outcome)).unwrap();
        }
    }

    #[tokio::test]
    async fn it_accepts_after_the_latency_and_bounds_what_is_open() {
        let (told, mut outcomes) = unbounded_channel();
        let client = DryRun::new(ProviderName::Fcm, Duration::from_millis(50), 4).client(2, Rc::new(Told(told)));
        let body = RawValue::from_string("{}".to_owned()).unwrap();
        let push = client.prepare(&body).unwrap();
        let target = TargetKind::Topic("news".into());
        let (first, second) = (
            client.slot().await.unwrap(),
            client.try_slot(std::time::Instant::now()).unwrap(),
        );
        assert!(
            client.try_slot(std::time::Instant::now()).is_none(),
            "two of four are this thread's"
        );
        assert!(
            tokio::time::timeout(Duration::from_millis(10), client.slot())
                .await
                .is_err(),
            "two of four are this thread's"
        );
        let began = std::time::Instant::now();
        let tasks = LocalSet::new();
        let outcome = tasks.run_until(async {
            client.send(first, &push, &target, Ticket(7));
            outcomes.recv().await
        });
        assert_eq!(outcome.await, Some((Ticket(7), Outcome::Accepted)));
        assert!(began.elapsed() >= Duration::from_millis(50));
        drop(second);
        assert!(client.slot().await.is_ok());
        client.close();
        assert_eq!(client.slot().await.err(), Some(Outcome::Unprocessed));
    }
}
