//! What all sender threads know of each route: is it on hold, what speaks against it, until when must it wait.
//!
//! The ledger's holds are the truth; this is their copy in the process, changed here first so that nothing more leaves, written to the ledger after that, and read
//! from there regularly, so that a hold which another process placed is obeyed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bugle_model::{AppId, Clock, Hold, HoldReason, Outcome, Provider, Route};

use crate::evidence::{Evidence, Failure};

/// Until when each app's provider must be left alone.
type Throttles = HashMap<(AppId, Option<Provider>), Arc<AtomicI64>>;

/// All routes that have been seen.
pub(crate) struct Routes {
    clock: Arc<dyn Clock>,
    began: Instant,
    states: RwLock<HashMap<(AppId, Route), Arc<RouteState>>>,
    throttles: Mutex<Throttles>,
}

/// One route of one app.
pub(crate) struct RouteState {
    pub(crate) app: AppId,
    pub(crate) route: Route,
    began: Instant,
    held: AtomicBool,
    /// When something was last accepted, in milliseconds since `began`.
    accepted: AtomicI64,
    /// Is there evidence to clear? Spares the lock on every acceptance.
    suspected: AtomicBool,
    /// Until when the app's provider must be left alone, in milliseconds since `began`; shared by its routes.
    throttled: Arc<AtomicI64>,
    inner: Mutex<Inner>,
}

struct Inner {
    hold: Hold,
    evidence: Evidence,
    probed: Option<Instant>,
    /// When this process placed the hold.
    placed: Option<Instant>,
}

impl Routes {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            began: Instant::now(),
            states: RwLock::default(),
            throttles: Mutex::default(),
        }
    }

    pub(crate) fn get(&self, app: &AppId, route: Route) -> Arc<RouteState> {
        let key = (app.clone(), route);
        if let Some(state) = self.states.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(state);
        }
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(states.entry(key).or_insert_with(|| Arc::new(self.fresh(app, route))))
    }

    fn fresh(&self, app: &AppId, route: Route) -> RouteState {
        let mut throttles = self.throttles.lock().unwrap_or_else(PoisonError::into_inner);
        let throttled = throttles
            .entry((app.clone(), route.provider))
            .or_insert_with(|| Arc::new(AtomicI64::new(i64::MIN)));
        let hold = Hold {
            app: app.clone(),
            route,
            reason: None,
            since: self.clock.now(),
            paused_ms: 0,
        };
        RouteState {
            app: app.clone(),
            route,
            began: self.began,
            held: AtomicBool::new(false),
            accepted: AtomicI64::new(i64::MIN),
            suspected: AtomicBool::new(false),
            throttled: Arc::clone(throttled),
            inner: Mutex::new(Inner {
                hold,
                evidence: Evidence::default(),
                probed: None,
                placed: None,
            }),
        }
    }

    /// Every route that is on hold in this process.
    pub(crate) fn held(&self) -> Vec<Arc<RouteState>> {
        self.states
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .filter(|state| state.is_held())
            .cloned()
            .collect()
    }
}

impl RouteState {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn elapsed(&self, at: Instant) -> i64 {
        i64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(i64::MAX)
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Takes over what the ledger says. `true` = the route was not on hold before and is now, or the other way round.
    pub(crate) fn adopt(&self, hold: Hold) -> bool {
        let held = hold.reason.is_some();
        let mut inner = self.inner();
        inner.hold = hold;
        if self.held.swap(held, Ordering::AcqRel) == held {
            return false;
        }
        inner.evidence.clear();
        inner.probed = held.then(Instant::now);
        self.suspected.store(false, Ordering::Release);
        true
    }

    /// The time on the route's own clock, in milliseconds.
    pub(crate) fn clock(&self, clock: &dyn Clock) -> i64 {
        self.inner().hold.route_clock(clock.now())
    }

    /// Something was accepted: whatever spoke against the route is void.
    pub(crate) fn accepted(&self, now: Instant) {
        let now = self.elapsed(now);
        if self.accepted.load(Ordering::Relaxed) < now {
            self.accepted.store(now, Ordering::Relaxed);
        }
        if self.suspected.load(Ordering::Acquire) {
            self.inner().evidence.clear();
            self.suspected.store(false, Ordering::Release);
        }
    }

    /// Was anything accepted since then?
    pub(crate) fn accepted_since(&self, started: Instant) -> bool {
        self.accepted.load(Ordering::Relaxed) >= self.elapsed(started)
    }

    /// Weighs a failure. `Some` = the route is on hold from now on, and the caller writes that down.
    pub(crate) fn failed(
        &self,
        outcome: &Outcome,
        target: u64,
        suspect: bool,
        clock: &dyn Clock,
    ) -> Option<HoldReason> {
        if self.is_held() {
            return None;
        }
        let mut inner = self.inner();
        let reason = inner.evidence.weigh(&Failure {
            outcome,
            target,
            suspect,
        });
        self.suspected.store(!inner.evidence.is_empty(), Ordering::Release);
        if reason.is_some() && !self.held.swap(true, Ordering::AcqRel) {
            inner.hold.reason = reason;
            inner.hold.since = clock.now();
            inner.probed = Some(Instant::now());
            inner.placed = inner.probed;
            return reason;
        }
        None
    }

    /// Did this process place the hold so short a time ago?
    pub(crate) fn placed_within(&self, time: Duration) -> bool {
        self.inner().placed.is_some_and(|at| at.elapsed() < time)
    }

    /// May it be probed again? `true` once per interval.
    pub(crate) fn probe_due(&self, every: Duration) -> bool {
        let mut inner = self.inner();
        let due = inner.probed.is_none_or(|at| at.elapsed() >= every);
        if due {
            inner.probed = Some(Instant::now());
        }
        due
    }

    /// A probe could not be made: the next one need not wait.
    pub(crate) fn probe_missed(&self) {
        self.inner().probed = None;
    }

    /// The provider asked everybody to wait.
    pub(crate) fn throttle(&self, wait: Duration) {
        let until = self
            .elapsed(Instant::now())
            .saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        self.throttled.fetch_max(until, Ordering::AcqRel);
    }

    /// How long everybody still has to wait.
    pub(crate) fn throttled(&self) -> Option<Duration> {
        let until = self.throttled.load(Ordering::Acquire);
        if until == i64::MIN {
            return None;
        }
        let left = until.saturating_sub(self.elapsed(Instant::now()));
        u64::try_from(left)
            .ok()
            .filter(|left| *left > 0)
            .map(Duration::from_millis)
    }
}
