//! Pages: how they are named, where their targets are, how many they stand for.

use bugle_model::{DeviceKey, PageId, Progress, PushKey, Timestamp};

/// Where a page's targets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// The devices after the first key, up to the second.
    Range(DeviceKey, DeviceKey),
    /// Written down in `page_targets`.
    Explicit,
}

impl Content {
    /// Of the two columns, which are both null or neither.
    pub(crate) fn of(after: Option<i64>, upto: Option<i64>) -> Self {
        match (after, upto) {
            (Some(after), Some(upto)) => Self::Range(DeviceKey(after), DeviceKey(upto)),
            _ => Self::Explicit,
        }
    }
}

/// The place of a page in the order of all that wait: by due time, push (its own page first), route, number.
pub(crate) type Place = (Timestamp, PageId);

/// The name of a push's own page.
pub(crate) fn own_page(push: PushKey) -> PageId {
    PageId {
        push,
        leg: None,
        seq: 0,
    }
}

/// How many targets a page stands for while it is in work: those that were expected, or more if more turned up. A device with an old key may
/// subscribe after the walk, so that more are found than were expected.
pub(crate) fn targeted(expected: u64, progress: &Progress) -> u64 {
    let found = progress.ended() + (progress.open.len() + progress.left_over.len()) as u64;
    expected.max(found)
}
