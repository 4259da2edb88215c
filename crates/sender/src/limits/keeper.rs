//! Draws permits ahead of need, and carries throttles to and from the other processes.

use std::sync::Arc;
use std::time::Duration;

use bugle_model::{AppId, Provider};
use bugle_store::{Draw, Grant, Throttle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Quota;

/// What others have heard is asked for so often.
const REFRESH: Duration = Duration::from_secs(1);
/// After an error, and where nothing is to be had, it is asked again after so long.
const PAUSE: Duration = Duration::from_millis(250);
/// The first draw after a quiet time.
const FIRST: u32 = 16;

/// What one quota's keeper remembers.
struct Keeper {
    quota: Arc<Quota>,
    /// Permits that may not be used yet: from when on, and until when.
    pending: Option<(Instant, Instant, Grant)>,
    /// When what the process has is too old.
    lapse: Option<Instant>,
    /// No draw before.
    not_before: Instant,
    refresh: Instant,
    /// What the next draw asks for.
    ask: u32,
    /// What bulk's part is reckoned from.
    owed: u32,
}

/// Runs until the stop.
pub(super) async fn run<F>(
    quota: Arc<Quota>,
    draw: impl Fn(Draw) -> F,
    obey: impl Fn(&AppId, Provider, Duration),
    stop: CancellationToken,
) where
    F: Future<Output = bugle_store::Result<Grant>>,
{
    let now = Instant::now();
    let mut keeper = Keeper {
        quota: Arc::clone(&quota),
        pending: None,
        lapse: None,
        not_before: now,
        refresh: now,
        ask: FIRST,
        owed: 0,
    };
    while !stop.is_cancelled() {
        keeper.turn(Instant::now());
        let Some(asked) = keeper.next(Instant::now()) else {
            tokio::select! {
                () = quota.wanted.notified() => {}
                () = tokio::time::sleep_until(keeper.event()) => {}
                () = stop.cancelled() => return,
            }
            continue;
        };
        // The permits' time runs from the answer on: that is late rather than early.
        match draw(asked).await {
            Ok(grant) => keeper.got(&asked, grant, Instant::now(), &obey),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot draw from a provider's quota: the store failed"
                );
                keeper.failed(asked.throttle);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Keeper {
    /// What is due by now happens.
    fn turn(&mut self, now: Instant) {
        if self.lapse.is_some_and(|at| at <= now) {
            self.quota.budget.lapse();
            self.lapse = None;
            self.ask = FIRST;
        }
        if let Some((_, until, grant)) = self.pending.take_if(|(from, ..)| *from <= now) {
            if until <= now {
                return;
            }
            self.owed = self.quota.budget.add(grant.permits, grant.most, self.owed);
            self.lapse = Some(until);
        }
    }

    /// Is there something to ask or tell now?
    fn next(&mut self, now: Instant) -> Option<Draw> {
        let throttle = self.quota.take_told();
        let free = self.pending.is_none() && self.not_before <= now;
        let short = self.quota.pace.is_limited() && free && self.quota.budget.is_short();
        if throttle.is_none() && !short && self.refresh > now {
            return None;
        }
        if short && self.quota.budget.was_refused() {
            self.ask = self.ask.saturating_mul(4);
        }
        Some(Draw {
            pace: self.quota.pace,
            permits: if short { self.ask } else { 0 },
            throttle,
        })
    }

    /// When the next thing is due.
    fn event(&self) -> Instant {
        let blocked = self.quota.pace.is_limited() && self.quota.budget.is_short() && self.pending.is_none();
        let draw = blocked.then_some(self.not_before);
        let pending = self.pending.map(|(from, ..)| from);
        [self.lapse, pending, draw]
            .into_iter()
            .flatten()
            .fold(self.refresh, Instant::min)
    }

    fn got(&mut self, asked: &Draw, grant: Grant, now: Instant, obey: &impl Fn(&AppId, Provider, Duration)) {
        self.refresh = now + REFRESH;
        if !grant.throttled.is_zero() {
            obey(&self.quota.app, self.quota.provider, grant.throttled);
        }
        if grant.permits > 0 {
            self.ask = self.ask.min(grant.most.max(FIRST));
            self.pending = Some((now + grant.wait, now + grant.lasts, grant));
        } else if asked.permits > 0 {
            let pause = grant.throttled.max(grant.wait).clamp(Duration::from_millis(1), REFRESH);
            self.not_before = now + pause;
        }
    }

    /// What was to be told is still to be told.
    fn failed(&mut self, throttle: Option<Throttle>) {
        if let Some(throttle) = throttle {
            self.quota.tell(throttle);
        }
    }
}
