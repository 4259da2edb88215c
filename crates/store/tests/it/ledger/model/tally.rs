//! What the test itself has counted, target by target.

use std::collections::BTreeMap;

use bugle_model::{Counts, PushKey, Route, Taken, Target, TargetKind};

/// Whom a target stands for, whatever page it is on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Device(i64),
    Token(String),
    Unknown(i64, i64),
}

/// What the test knows of a push.
#[derive(Default)]
pub(super) struct Tally {
    /// How everybody ended who ended in a worker's hands.
    pub(super) ended: BTreeMap<Who, &'static str>,
    /// Counted as skipped at acceptance.
    pub(super) skipped_at_once: u64,
    pub(super) key: Option<PushKey>,
    pub(super) stopped: bool,
    /// How many were named; `None` = an audience.
    pub(super) named: Option<u64>,
    /// Devices, by id, that were meant at acceptance and have not changed since: key.
    pub(super) steady: BTreeMap<String, i64>,
}

impl Tally {
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts {
            skipped: self.skipped_at_once,
            ..Counts::default()
        };
        for how in self.ended.values() {
            match *how {
                "sent" => counts.sent += 1,
                "failed" => counts.failed += 1,
                "invalid" => counts.invalid += 1,
                "skipped" => counts.skipped += 1,
                "cancelled" => counts.cancelled += 1,
                _ => counts.expired += 1,
            }
        }
        counts
    }
}

pub(super) fn who(taken: &Taken, target: &Target) -> Who {
    match (&target.device, &target.kind) {
        (Some(key), _) => Who::Device(key.0),
        (None, TargetKind::Token(to)) => Who::Token(to.as_str().to_owned()),
        // A page number of its own for each leg is enough to tell strangers apart.
        _ => Who::Unknown(
            i64::from(taken.id.leg.map_or(255, Route::code)) * 1_000 + taken.id.seq,
            target.position,
        ),
    }
}
