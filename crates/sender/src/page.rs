//! A page in work: what has become of each of its targets, and what of that is not written down yet.
//!
//! Invariant, the ledger's: every started target is in exactly one of `open`, `counts` and `left_over`; positions above `position` have not been started. A dead token
//! stays open until the report that carries it: a report takes at most [`DEAD_PER_REPORT`].

mod open;

use std::cell::{Ref, RefCell};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bugle_model::{
    AppId, Counts, Dead, Flow, Lane, LeftOver, Next, Outcome, PageId, Progress, Report, Route, Scope, Taken, Target,
    TargetKind, Timestamp, Verdict,
};
use tokio::sync::Notify;

use self::open::Open;
use crate::verdict::Ending;

/// The ledger's transactions take no more removals.
pub(crate) const DEAD_PER_REPORT: usize = 256;

/// A page in work.
pub(crate) struct Page {
    pub(crate) id: PageId,
    pub(crate) epoch: u64,
    pub(crate) app: AppId,
    pub(crate) lane: Lane,
    pub(crate) expires_at: Timestamp,
    state: RefCell<State>,
    /// The last open request was answered, the lease was prolonged, or the push's flow changed.
    pub(crate) changed: Notify,
}

struct State {
    flow: Flow,
    lost: bool,
    lease_until: Instant,
    position: i64,
    open: Open,
    counts: Progress,
    left_over: Vec<LeftOver>,
    dead: Vec<(i64, Dead)>,
    answered: u32,
    payload: u32,
    in_flight: usize,
    /// Answers that no written report contains.
    unwritten: usize,
    dirty: bool,
    reported: Instant,
    end: Option<Next>,
}

/// What a report that is under way contains, so that it can be taken off once it is written.
pub(crate) struct Sent {
    answers: usize,
    dead: usize,
    answered: u32,
    payload: u32,
    /// The page ends with this report.
    pub(crate) last: bool,
}

impl Page {
    pub(crate) fn new(taken: &Taken, lease_until: Instant) -> Self {
        let waiting: BTreeSet<i64> = taken.targets.iter().map(|target| target.position).collect();
        let counts = Progress {
            counts: taken.progress.counts.clone(),
            ..Progress::default()
        };
        let state = State {
            flow: taken.flow,
            lost: false,
            lease_until,
            position: taken.progress.position,
            // What was open and is no longer there (a device that was removed meanwhile) was never counted, and is dropped.
            open: taken
                .progress
                .open
                .iter()
                .copied()
                .filter(|position| waiting.contains(position))
                .collect(),
            counts,
            left_over: taken.progress.left_over.clone(),
            dead: Vec::new(),
            answered: 0,
            payload: 0,
            in_flight: 0,
            unwritten: 0,
            dirty: true,
            reported: Instant::now(),
            end: None,
        };
        let Taken {
            id,
            epoch,
            app,
            lane,
            expires_at,
            ..
        } = taken;
        Self {
            id: *id,
            epoch: *epoch,
            app: app.clone(),
            lane: *lane,
            expires_at: *expires_at,
            state: RefCell::new(state),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    pub(crate) fn flow(&self) -> Flow {
        self.state().flow
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.state().lost
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.state().in_flight
    }

    /// The highest position that was started.
    pub(crate) fn position(&self) -> i64 {
        self.state().position
    }

    /// The device at this position left the registry before it was sent to: it was never meant.
    pub(crate) fn vanished(&self, position: i64) {
        let mut state = self.state.borrow_mut();
        state.dirty |= state.open.remove(position);
    }

    /// Would a request of that length outlive the lease?
    pub(crate) fn lease_too_short(&self, now: Instant, request: Duration) -> bool {
        self.state().lease_until.saturating_duration_since(now) <= request
    }

    pub(crate) fn prolonged(&self, lease_until: Instant) {
        self.state.borrow_mut().lease_until = lease_until;
        self.changed.notify_waiters();
    }

    /// A request for the target leaves.
    pub(crate) fn start(&self, position: i64) {
        let mut state = self.state.borrow_mut();
        state.position = state.position.max(position);
        state.open.insert(position);
        state.in_flight += 1;
        state.dirty = true;
    }

    /// A started target's answer came.
    pub(crate) fn answer(&self, target: &Target, outcome: &Outcome, ending: Ending) {
        let mut state = self.state.borrow_mut();
        state.in_flight -= 1;
        state.unwritten += 1;
        state.dirty = true;
        match outcome.scope() {
            Scope::Accepted | Scope::Device | Scope::Mismatch => state.answered += 1,
            Scope::Payload => {
                state.answered += 1;
                state.payload += 1;
            }
            Scope::Credential | Scope::Throttle | Scope::Transient => {}
        }
        match ending {
            Ending::Dead(reason) => {
                if let TargetKind::Token(token) = &target.kind {
                    let dead = Dead {
                        route: target.route,
                        token: token.clone(),
                        reason,
                        registered_before: None,
                    };
                    state.dead.push((target.position, dead));
                } else {
                    // A native topic cannot be dead; a provider that says so refuses the push.
                    state.count(target, |counts| counts.failed += 1);
                }
            }
            Ending::Sent => state.count(target, |counts| counts.sent += 1),
            Ending::Failed => state.count(target, |counts| counts.failed += 1),
            Ending::Again(left_over) => state.leave_over(left_over),
        }
        let last = state.in_flight == 0;
        drop(state);
        if last {
            self.changed.notify_waiters();
        }
    }

    /// A target is counted without a request.
    pub(crate) fn count(&self, target: &Target, how: impl FnOnce(&mut Counts)) {
        let mut state = self.state.borrow_mut();
        state.position = state.position.max(target.position);
        state.count(target, how);
    }

    /// A target waits in a page of its own, as it is.
    pub(crate) fn put_off(&self, target: &Target, due: Timestamp) {
        let mut state = self.state.borrow_mut();
        state.position = state.position.max(target.position);
        state.leave_over(LeftOver {
            position: target.position,
            route: target.route,
            due: due.min(self.expires_at),
            attempts: target.attempts,
            first_try: target.first_try,
            suspect: target.suspect,
        });
    }

    /// The push no longer runs: `rest`, what waits in `left_over` and what is open without a request end as the flow says.
    pub(crate) fn end_rest(&self, rest: &[Target], flow: Flow) {
        let ended = |counts: &mut Counts| match flow {
            Flow::Cancelled => counts.cancelled += 1,
            Flow::Rejected => counts.failed += 1,
            Flow::Expired | Flow::Running | Flow::Paused => counts.expired += 1,
        };
        for target in rest {
            match target.kind {
                TargetKind::Skip(_) => self.count(target, |counts| counts.skipped += 1),
                _ => self.count(target, ended),
            }
        }
        let mut state = self.state.borrow_mut();
        for left_over in std::mem::take(&mut state.left_over) {
            ended(state.counts.counts_mut(left_over.route));
        }
        state.dirty = true;
    }

    /// Nothing more will be started; the next report says what happens to the page.
    pub(crate) fn finish(&self, next: Next) {
        let mut state = self.state.borrow_mut();
        state.end = Some(next);
        state.dirty = true;
    }

    /// Will nothing more be started, nor any answer come?
    pub(crate) fn is_over(&self) -> bool {
        let state = self.state();
        state.end.is_some() || state.lost && state.in_flight == 0
    }

    /// Is it time to report, given how long progress may wait?
    pub(crate) fn wants_report(&self, after: Duration) -> bool {
        let state = self.state();
        state.end.is_some() || state.dirty && state.reported.elapsed() >= after
    }

    /// What has become of the page so far.
    pub(crate) fn report(&self) -> (Report, Sent) {
        let mut state = self.state.borrow_mut();
        let dead_now = state.dead.len().min(DEAD_PER_REPORT);
        let left_dead = state.dead.len() - dead_now;
        let carried: Vec<(i64, Dead)> = state.dead[..dead_now].to_vec();
        let next = match state.end {
            Some(next) if left_dead == 0 => next,
            _ => Next::Continue,
        };
        let mut counts = Progress {
            counts: state.counts.counts.clone(),
            ..Progress::default()
        };
        for (_, dead) in &carried {
            counts.counts_mut(dead.route).invalid += 1;
        }
        let carried_at: BTreeSet<i64> = carried.iter().map(|(position, _)| *position).collect();
        let progress = Progress {
            position: state.position,
            open: state
                .open
                .iter()
                .filter(|position| !carried_at.contains(position))
                .collect(),
            counts: counts.counts,
            left_over: state.left_over.clone(),
        };
        let sent = Sent {
            answers: state.unwritten - left_dead,
            dead: dead_now,
            answered: state.answered,
            payload: state.payload,
            last: next != Next::Continue,
        };
        state.dirty = left_dead > 0;
        state.reported = Instant::now();
        let dead = carried.into_iter().map(|(_, dead)| dead).collect();
        (
            Report {
                id: self.id,
                epoch: self.epoch,
                progress,
                answered: sent.answered,
                payload: sent.payload,
                dead,
                next,
            },
            sent,
        )
    }

    /// The ledger's word on a report. Returns how many answers need no longer be remembered.
    pub(crate) fn reported(&self, sent: &Sent, verdict: Verdict) -> usize {
        let mut state = self.state.borrow_mut();
        let released = match verdict {
            Verdict::Written(flow) => {
                state.flow = flow;
                state.forget(sent);
                sent.answers
            }
            Verdict::Lost => {
                state.lost = true;
                std::mem::take(&mut state.unwritten)
            }
        };
        drop(state);
        self.changed.notify_waiters();
        released
    }

    /// The report could not be written: everything in it is still to be reported.
    pub(crate) fn unreported(&self) {
        self.state.borrow_mut().dirty = true;
    }

    /// The ledger's word on a prolongation.
    pub(crate) fn extended(&self, verdict: Verdict, lease_until: Instant) {
        match verdict {
            Verdict::Written(flow) => {
                self.state.borrow_mut().flow = flow;
                self.prolonged(lease_until);
            }
            Verdict::Lost => {
                self.state.borrow_mut().lost = true;
                self.changed.notify_waiters();
            }
        }
    }

    /// Answers that were never written, of a page that is given up.
    pub(crate) fn take_unwritten(&self) -> usize {
        std::mem::take(&mut self.state.borrow_mut().unwritten)
    }
}

impl State {
    fn count(&mut self, target: &Target, how: impl FnOnce(&mut Counts)) {
        self.open.remove(target.position);
        how(self.counts.counts_mut(target.route));
        self.dirty = true;
    }

    fn leave_over(&mut self, left_over: LeftOver) {
        self.open.remove(left_over.position);
        self.left_over.push(left_over);
        self.dirty = true;
    }

    /// Takes off what a written report contained.
    fn forget(&mut self, sent: &Sent) {
        let carried: Vec<(i64, Dead)> = self.dead.drain(..sent.dead).collect();
        for (position, dead) in carried {
            self.open.remove(position);
            let route: Route = dead.route;
            self.counts.counts_mut(route).invalid += 1;
        }
        self.unwritten -= sent.answers;
        self.answered -= sent.answered;
        self.payload -= sent.payload;
    }
}

#[cfg(test)]
mod tests;
