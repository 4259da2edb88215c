//! Pages that end without being sent: by what they expected and had not counted, left-overs included.

use bugle_model::{Counts, Progress, PushState, Route, Target};

use super::page::targeted;

/// So many pushes expire in one step of a sweep.
pub(crate) const EXPIRING: u32 = 100;

/// What targets end as that are not sent to.
#[derive(Clone, Copy)]
pub(crate) enum Bucket {
    Cancelled,
    Expired,
    Failed,
}

impl Bucket {
    /// What those of a push end as that runs no more.
    pub(crate) fn of(state: PushState) -> Self {
        match state {
            PushState::Cancelled => Self::Cancelled,
            _ => Self::Expired,
        }
    }

    /// The counts of a leg's page that ends so.
    pub(crate) fn end_page(self, leg: Route, expected: u64, progress: &Progress) -> Vec<(Route, Counts)> {
        let rest = targeted(expected, progress) - progress.ended();
        self.end(progress, [(leg, rest)])
    }

    /// The same of a push's own page; see [`waiting_by_route`].
    pub(crate) fn end_own_page(
        self,
        route: Route,
        expected: u64,
        progress: &Progress,
        targets: &[Target],
    ) -> Vec<(Route, Counts)> {
        self.end(progress, waiting_by_route(route, expected, progress, targets))
    }

    fn end(self, progress: &Progress, rest: impl IntoIterator<Item = (Route, u64)>) -> Vec<(Route, Counts)> {
        let mut ended = Progress {
            counts: progress.counts.clone(),
            ..Progress::default()
        };
        for (route, targets) in rest {
            let counts = ended.counts_mut(route);
            match self {
                Self::Cancelled => counts.cancelled += targets,
                Self::Expired => counts.expired += targets,
                Self::Failed => counts.failed += targets,
            }
        }
        ended.counts
    }
}

/// How much of a step's room a push's own page takes: its targets have to be looked up.
pub(crate) fn room_of_own_page(expected: u64) -> u64 {
    1 + expected / 10
}

/// How many targets of an unsettled own page have not ended, by the route that they would go over now. `targets` are those that are still to be sent,
/// `route` and `expected` what the push's row has of them.
pub(crate) fn waiting_by_route(
    route: Route,
    expected: u64,
    progress: &Progress,
    targets: &[Target],
) -> Vec<(Route, u64)> {
    let mut waiting: Vec<(Route, u64)> = Vec::new();
    let mut add = |route: Route, targets: u64| match waiting.iter_mut().find(|(r, _)| *r == route) {
        Some((_, sum)) => *sum += targets,
        None => waiting.push((route, targets)),
    };
    let left_over = progress.left_over.iter().map(|left| left.route);
    for route in targets.iter().map(|target| target.route).chain(left_over) {
        add(route, 1);
    }
    let found = (targets.len() + progress.left_over.len()) as u64;
    // Every target is open, left over, above the position, or counted. Should one be none of it, it still waits.
    let missing = (targeted(expected, progress) - progress.ended()).saturating_sub(found);
    if missing > 0 {
        add(route, missing);
    }
    waiting
}
