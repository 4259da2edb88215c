//! Walks the audiences of open legs and hands out pages.

use std::sync::Arc;
use std::time::Duration;

use bugle_model::{AppId, Clock, Route};
use bugle_store::{Expansion, OpenLeg, Result, Store, Walk};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::share::rooms;
use crate::{Config, metrics as names};

/// So many legs are looked at in one round, oldest push first.
const LEGS_PER_ROUND: u32 = 1_000;
/// So many targets are walked at a stretch: one transaction stays small, and other legs get their turn.
const STRETCH: u32 = 16_000;
/// After a round that had nothing to hand out the next one comes no sooner: each settled page rings, and what is handed out lasts for longer.
const BREATH: Duration = Duration::from_millis(20);

/// The loop that expands legs.
pub struct Expander {
    /// The registry and the ledger.
    pub store: Arc<dyn Store>,
    /// What is due.
    pub clock: Arc<dyn Clock>,
    /// The window.
    pub config: Config,
    /// Rung when there may be something to expand.
    pub wake: Arc<Notify>,
}

impl Expander {
    /// Runs until it is stopped. A store that fails is asked again, ever more slowly.
    pub async fn run(self, stop: CancellationToken) {
        let mut failures = 0u32;
        while !stop.is_cancelled() {
            let pause = match self.round().await {
                Ok(true) => {
                    failures = 0;
                    continue;
                }
                Ok(false) => {
                    failures = 0;
                    Duration::from_secs(1)
                }
                Err(error) => {
                    failures += 1;
                    metrics::counter!(names::FAILED_ROUNDS, "loop" => "expand").increment(1);
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot expand pushes: the store failed"
                    );
                    Duration::from_millis(100) * 2u32.pow(failures.min(6))
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.rung_after_a_breath(), if failures == 0 => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn rung_after_a_breath(&self) {
        tokio::time::sleep(BREATH).await;
        self.wake.notified().await;
    }

    /// Gives every open leg what it has room for, at most a stretch each. Says whether anything was handed out.
    pub async fn round(&self) -> Result<bool> {
        let now = self.clock.now();
        let legs = self.store.open_legs(now, LEGS_PER_ROUND).await?;
        if legs.is_empty() {
            return Ok(false);
        }
        let held: Vec<(AppId, Route)> = self
            .store
            .holds()
            .await?
            .into_iter()
            .filter(|hold| hold.reason.is_some())
            .map(|hold| (hold.app, hold.route))
            .collect();
        let outstanding = self.store.outstanding().await?;
        let is_held = |app: &AppId, route: Route| held.iter().any(|(a, r)| a == app && *r == route);
        let rooms = rooms(&self.config, &legs, &outstanding, is_held);
        let roomy: Vec<(&OpenLeg, u32)> = legs.iter().zip(rooms).filter(|(_, room)| *room > 0).collect();
        let mut moved = false;
        // The legs of a push stand together. At once, they cost a small audience one transaction.
        for legs in roomy.chunk_by(|(one, _), (other, _)| one.push == other.push) {
            moved |= self.expand(legs).await?;
        }
        Ok(moved)
    }

    /// Expands legs of one push, each by what it has room for.
    async fn expand(&self, legs: &[(&OpenLeg, u32)]) -> Result<bool> {
        let Some((first, _)) = legs.first() else {
            return Ok(false);
        };
        let legs: Vec<(Route, u32)> = legs
            .iter()
            .map(|(leg, room)| (leg.route, (*room).min(STRETCH)))
            .collect();
        let walks = self.store.walk(first.push, &legs).await?;
        let counts: Vec<u64> = walks.iter().map(Walk::count).collect();
        let answers = self.store.expand(walks, self.clock.now()).await?;
        // Of what is stale another process was faster, or the push was called off: the next round reads it anew.
        let done = || {
            counts
                .iter()
                .zip(&answers)
                .filter(|(_, answer)| **answer == Expansion::Done)
        };
        metrics::counter!(names::EXPANDED).increment(done().map(|(count, _)| count).sum());
        Ok(done().next().is_some())
    }
}
