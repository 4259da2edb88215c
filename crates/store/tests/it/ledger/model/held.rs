//! A page in a worker's hands.

use std::time::Duration;

use bugle_model::{Flow, Report, Skip, Taken, Target, TargetKind};

use super::super::world::{Fate, enter};
use super::tally::{Who, who};

/// A page in a worker's hands.
pub(super) struct Held {
    pub(super) taken: Taken,
    /// Those that have not ended.
    pub(super) rest: Vec<Target>,
    /// Those that ended since the last report that was written.
    pub(super) news: Vec<(Who, &'static str)>,
    pub(super) report: Report,
}

/// Ends one target as a worker would under this flow.
pub(super) fn end(held: &mut Held, target: &Target, flow: Flow, fate: u8, now: bugle_model::Timestamp) {
    let progress = &mut held.report.progress;
    progress.position = progress.position.max(target.position);
    let how = match flow {
        Flow::Cancelled => {
            progress.counts_mut(target.route).cancelled += 1;
            "cancelled"
        }
        Flow::Expired => {
            progress.counts_mut(target.route).expired += 1;
            "expired"
        }
        _ => {
            let fate = match fate {
                0 => Fate::Dead,
                1 => Fate::Failed,
                2 | 3 => Fate::Again(now.plus(Duration::from_secs(u64::from(fate)))),
                _ => Fate::Sent,
            };
            enter(&mut held.report, target, fate);
            match (&target.kind, fate) {
                (TargetKind::Skip(Skip::Unknown | Skip::NoLongerMatches | Skip::NoPayload), _) => "skipped",
                (_, Fate::Sent) => "sent",
                (_, Fate::Failed) => "failed",
                (_, Fate::Dead) => "invalid",
                (_, Fate::Again(_)) => return,
            }
        }
    };
    held.news.push((who(&held.taken, target), how));
}
