//! Works through a page: starts its targets one after the other as streams become free, each as a task of its own, until the page ends or must be given back.

mod at_once;
mod ready;

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bugle_model::{Flow, Next, Outcome, Target, TargetKind, Timestamp};
use bugle_provider::Slot;

use crate::delivery::Batch;
use crate::page::Page;
use crate::routes::RouteState;
use crate::thread::Thread;
use crate::work::at_once::Pass;
use crate::work::ready::Unready;

/// A target that was read longer ago is read again before it leaves.
pub(crate) const STALE: Duration = Duration::from_secs(2);
/// Everybody waits so long for a throttle at most; for a longer one the page is given back.
const SHORT_THROTTLE: Duration = Duration::from_secs(2);
/// What a page is worked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All of it.
    All,
    /// One target, on a route that is on hold, to see whether it goes again.
    Probe,
}

/// Why no more targets of a page are started.
enum Stop {
    /// All have been started.
    Exhausted,
    /// It waits until then.
    Back(Timestamp),
    /// The push no longer runs.
    Ended(Flow),
    /// Somebody else has it.
    Lost,
}

/// What is to be done with the next target.
enum Step {
    Go(Slot, Rc<Batch>),
    /// Look again: something changed while waiting.
    Again,
    /// No request could leave, which is its answer.
    Answered,
    /// It is dealt with, and says nothing of the provider.
    Done,
    Stop(Stop),
}

/// One page's work.
pub(crate) struct Work {
    thread: Rc<Thread>,
    page: Rc<Page>,
    targets: VecDeque<Target>,
    body: Option<Vec<u8>>,
    read: Instant,
    mode: Mode,
    /// The route of the last target: pages of a leg have one.
    route: Option<Arc<RouteState>>,
    /// What the last target was sent with: mostly the next one's, too.
    batch: Option<Rc<Batch>>,
    /// Lets pass what leaves at once.
    pass: Pass,
}

impl Work {
    pub(crate) fn new(
        thread: Rc<Thread>,
        page: Rc<Page>,
        (targets, read): (Vec<Target>, Instant),
        body: Option<Vec<u8>>,
        mode: Mode,
    ) -> Self {
        thread.add_unstarted(page.lane, targets.len());
        Self {
            thread,
            page,
            targets: targets.into(),
            body,
            read,
            mode,
            route: None,
            batch: None,
            pass: Pass::default(),
        }
    }

    /// Works the page to its end, or until it must be given back.
    pub(crate) async fn run(mut self) {
        let stop = self.start_all().await;
        if self.targets.is_empty() {
            // The last answers may be long in coming, and the room of a thousand targets is not needed for them.
            self.targets = VecDeque::new();
        }
        self.thread.remove_unstarted(self.page.lane, self.targets.len());
        self.wait_for_answers().await;
        let next = match stop {
            _ if self.page.in_flight() > 0 => Next::GiveBack(self.thread.clock.now()),
            Stop::Exhausted => Next::Settle,
            Stop::Back(due) => Next::GiveBack(due),
            Stop::Ended(flow) => {
                self.page.end_rest(self.targets.make_contiguous(), flow);
                Next::Settle
            }
            Stop::Lost => return self.thread.finished(self.page.lane),
        };
        self.page.finish(next);
        self.thread.finished(self.page.lane);
    }

    async fn start_all(&mut self) -> Stop {
        while let Some(target) = self.targets.pop_front() {
            self.thread.remove_unstarted(self.page.lane, 1);
            if let Some((slot, now)) = self.at_once(&target) {
                self.start(slot, target, now);
                continue;
            }
            let step = self.step(&target).await;
            // Time has passed.
            self.pass = Pass::default();
            match step {
                Step::Go(slot, batch) => {
                    self.batch = Some(batch);
                    self.start(slot, target, Instant::now());
                    if self.mode == Mode::Probe {
                        return self.after_probe();
                    }
                }
                Step::Again => self.put_back(target),
                // One target a probe, whether its request left or not.
                Step::Answered if self.mode == Mode::Probe => return self.after_probe(),
                Step::Answered | Step::Done => {}
                Step::Stop(stop) => {
                    self.put_back(target);
                    return stop;
                }
            }
        }
        Stop::Exhausted
    }

    fn after_probe(&self) -> Stop {
        if self.targets.is_empty() {
            Stop::Exhausted
        } else {
            Stop::Back(self.thread.clock.now())
        }
    }

    fn put_back(&mut self, target: Target) {
        self.thread.add_unstarted(self.page.lane, 1);
        self.targets.push_front(target);
    }

    /// Waits until no request of the page is open, or the grace period of a stop is over.
    async fn wait_for_answers(&self) {
        while self.page.in_flight() > 0 {
            let changed = self.page.changed.notified();
            tokio::select! {
                () = changed => {}
                () = self.thread.abort.cancelled() => return,
            }
        }
    }

    async fn step(&mut self, target: &Target) -> Step {
        if let Some(stop) = self.must_stop() {
            return Step::Stop(stop);
        }
        if matches!(target.kind, TargetKind::Skip(_)) {
            self.page.count(target, |counts| counts.skipped += 1);
            return Step::Done;
        }
        let route = self.route(target);
        if self.mode == Mode::All && route.is_held() {
            return self.wait_elsewhere(target, self.thread.clock.now());
        }
        if let Some(wait) = route.throttled() {
            return self.throttled(target, wait).await;
        }
        match self.ready(target).await {
            Ok(batch) => self.permitted(target, batch).await,
            Err(Unready::Refused(outcome)) => {
                self.refuse(target, &route, &outcome);
                Step::Answered
            }
            Err(Unready::Later) => Step::Stop(Stop::Back(self.thread.clock.now().plus(Duration::from_secs(1)))),
        }
    }

    /// Must the page stop before its next target?
    fn must_stop(&self) -> Option<Stop> {
        if self.page.is_lost() {
            return Some(Stop::Lost);
        }
        if self.thread.stop.is_cancelled() {
            return Some(Stop::Back(self.thread.clock.now()));
        }
        let now = self.thread.clock.now();
        match self.page.flow() {
            Flow::Running if now >= self.page.expires_at => Some(Stop::Ended(Flow::Expired)),
            Flow::Running => None,
            Flow::Paused => Some(Stop::Back(now.plus(Duration::from_secs(1)))),
            flow => Some(Stop::Ended(flow)),
        }
    }

    fn route(&mut self, target: &Target) -> Arc<RouteState> {
        match &self.route {
            Some(state) if state.route == target.route => Arc::clone(state),
            _ => {
                let state = self.thread.routes.get(&self.page.app, target.route);
                self.route = Some(Arc::clone(&state));
                state
            }
        }
    }

    /// A page of one leg goes back as a whole; of the push's own row, which may have other routes, only this target is put off.
    fn wait_elsewhere(&self, target: &Target, due: Timestamp) -> Step {
        if self.page.id.leg.is_some() {
            return Step::Stop(Stop::Back(due));
        }
        self.page.put_off(target, due);
        Step::Done
    }

    async fn throttled(&self, target: &Target, wait: Duration) -> Step {
        let until = self.thread.clock.now().plus(wait);
        if self.mode == Mode::Probe {
            // Putting off would go on to the next target, and put off that one, too.
            return Step::Stop(Stop::Back(until));
        }
        if wait > SHORT_THROTTLE {
            return self.wait_elsewhere(target, until);
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.page.changed.notified() => {}
            () = self.thread.stop.cancelled() => {}
        }
        Step::Again
    }

    /// A target whose request cannot even be made ends as if it had been answered so.
    fn refuse(&self, target: &Target, route: &RouteState, outcome: &Outcome) {
        self.page.start(target.position);
        self.thread
            .answered(&self.page, route, target, outcome, Instant::now(), self.mode);
    }

    /// With a permit, where messages are counted. It is had before the slot is asked for: who waits for it holds up nobody.
    async fn permitted(&mut self, target: &Target, batch: Rc<Batch>) -> Step {
        let lane = self.page.lane;
        let permits = batch.way.permits.clone().filter(|_| self.mode == Mode::All);
        if let Some(Err(wait)) = permits.as_ref().map(|permits| permits.admit(lane)) {
            return self.throttled(target, wait).await;
        }
        let step = self.slot(target, batch).await;
        if let Some(permits) = permits.filter(|_| !matches!(step, Step::Go(..))) {
            permits.refund(lane);
        }
        step
    }

    async fn slot(&mut self, target: &Target, batch: Rc<Batch>) -> Step {
        if !self.thread.gate.is_open() {
            tokio::select! {
                () = self.thread.gate.pass() => {}
                () = self.page.changed.notified() => {}
                () = self.thread.stop.cancelled() => {}
            }
            return Step::Again;
        }
        if self.page.lease_too_short(Instant::now(), self.thread.longest_request) {
            tokio::select! {
                () = self.page.changed.notified() => {}
                () = self.thread.stop.cancelled() => {}
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
            return Step::Again;
        }
        let slot = tokio::select! {
            biased;
            slot = batch.slot(self.page.lane) => slot,
            () = self.thread.stop.cancelled() => return Step::Again,
        };
        match slot {
            Err(outcome) => {
                self.refuse(target, &batch.route, &outcome);
                Step::Answered
            }
            Ok(slot) => self.check_again(slot, batch, target).await,
        }
    }

    /// The stream is there; waiting for it may have taken long.
    async fn check_again(&mut self, slot: Slot, batch: Rc<Batch>, target: &Target) -> Step {
        let held = self.mode == Mode::All && (batch.route.is_held() || batch.route.throttled().is_some());
        // The lease, too: a process that was stopped for a while wakes up with its stream, and somebody else has the page.
        let outlived = self.page.lease_too_short(Instant::now(), self.thread.longest_request);
        if held || outlived || !self.thread.gate.is_open() || self.must_stop().is_some() {
            return Step::Again;
        }
        if self.read.elapsed() < STALE {
            return Step::Go(slot, batch);
        }
        // The slot is kept while the targets are read again: without it the next wait could make them stale once more, for ever.
        match self.reread(target).await {
            Err(()) => Step::Stop(Stop::Back(self.thread.clock.now().plus(Duration::from_secs(1)))),
            Ok(true) => Step::Go(slot, batch),
            Ok(false) => Step::Done,
        }
    }

    /// Reads this target and all after it once more. `true` = this one is as it was; otherwise what it is now stands at the head of the queue, or it is gone.
    async fn reread(&mut self, target: &Target) -> Result<bool, ()> {
        let fresh = self
            .thread
            .store
            .reread(self.page.id, target.position - 1)
            .await
            .map_err(|error| {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot read targets again");
            })?;
        let waiting: BTreeSet<i64> = self
            .targets
            .iter()
            .map(|t| t.position)
            .chain([target.position])
            .collect();
        let started = self.page.position();
        let same = fresh.first() == Some(target);
        // Only what still waited: other positions up to the highest that was started have been dealt with, here or by an earlier holder.
        let fresh: Vec<Target> = fresh
            .into_iter()
            .filter(|t| waiting.contains(&t.position) || t.position > started)
            .collect();
        let found: BTreeSet<i64> = fresh.iter().map(|t| t.position).collect();
        for gone in waiting.difference(&found) {
            self.page.vanished(*gone);
        }
        let rest: VecDeque<Target> = fresh.into_iter().skip(usize::from(same)).collect();
        self.thread.remove_unstarted(self.page.lane, self.targets.len());
        self.thread.add_unstarted(self.page.lane, rest.len());
        self.targets = rest;
        self.read = Instant::now();
        Ok(same)
    }
}
