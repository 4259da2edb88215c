//! What a worker does with a page: each target ends somehow, and a report says how.

use bugle_model::{Dead, LeftOver, Next, Progress, Report, Taken, Target, TargetKind, Timestamp};

/// What a worker lets become of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Sent,
    Failed,
    Dead,
    Again(Timestamp),
}

/// A report in the middle of the work, with nothing in it.
pub(crate) fn report_on(taken: &Taken, next: Next) -> Report {
    Report {
        id: taken.id,
        epoch: taken.epoch,
        progress: taken.progress.clone(),
        answered: 0,
        payload: 0,
        dead: Vec::new(),
        next,
    }
}

/// Sends everything that was taken, and settles the page.
pub(crate) fn settle(taken: &Taken, mut fate: impl FnMut(&Target) -> Fate) -> Report {
    let mut report = report_on(taken, Next::Settle);
    for target in &taken.targets {
        enter(&mut report, target, fate(target));
    }
    report.progress.open.clear();
    report
}

/// Enters one target. Those that only count are skipped whatever their fate.
pub(crate) fn enter(report: &mut Report, target: &Target, fate: Fate) {
    let progress: &mut Progress = &mut report.progress;
    progress.position = progress.position.max(target.position);
    progress.open.retain(|position| *position != target.position);
    let counts = progress.counts_mut(target.route);
    match (&target.kind, fate) {
        (TargetKind::Skip(_), _) => counts.skipped += 1,
        (_, Fate::Sent) => {
            counts.sent += 1;
            report.answered += 1;
        }
        (_, Fate::Failed) => counts.failed += 1,
        (TargetKind::Token(token), Fate::Dead) => {
            counts.invalid += 1;
            report.answered += 1;
            report.dead.push(Dead {
                route: target.route,
                token: token.clone(),
                reason: "UNREGISTERED",
                registered_before: None,
            });
        }
        (_, Fate::Dead) => counts.invalid += 1,
        (_, Fate::Again(due)) => progress.left_over.push(LeftOver {
            position: target.position,
            route: target.route,
            due,
            attempts: target.attempts + 1,
            first_try: if target.first_try == 0 { 1 } else { target.first_try },
            suspect: false,
        }),
    }
}
