//! Targets of a page, once their devices have been looked up.

use bugle_model::{DeviceKey, Progress, Route, Skip, Target, TargetKind, Token};

use crate::codec::targets::{Stored, What};

/// The explicit targets that are still to be sent, with their positions: what was open, and all above the highest started one.
pub(crate) fn rest<'a>(stored: &'a [Stored], progress: &'a Progress) -> impl Iterator<Item = (i64, &'a Stored)> {
    let above = progress.position.saturating_add(1)..=i64::try_from(stored.len()).unwrap_or(i64::MAX);
    let open = progress.open.iter().copied();
    open.chain(above).filter_map(move |position| {
        let at = usize::try_from(position).ok()?.checked_sub(1)?;
        Some((position, stored.get(at)?))
    })
}

/// What a target is sent to that needs no look-up; `None` = a device.
pub(crate) fn named(what: &What) -> Option<TargetKind> {
    match what {
        What::Token(token) => Some(TargetKind::Token(token.clone())),
        What::Topic(topic) => Some(TargetKind::Topic(topic.as_str().into())),
        What::Condition(text) => Some(TargetKind::Condition(text.as_str().into())),
        What::Device(_) | What::Id(_) => None,
    }
}

/// Why a device is not sent to, if it is not. `matches` = it is in the push's audience, or the push has none; `served` = there is a payload for its provider.
pub(crate) fn skip(matches: bool, served: bool) -> Option<Skip> {
    if !matches {
        Some(Skip::NoLongerMatches)
    } else if !served {
        Some(Skip::NoPayload)
    } else {
        None
    }
}

/// A target that was written down.
pub(crate) fn explicit(
    (position, stored): (i64, &Stored),
    (route, kind, device): (Route, TargetKind, Option<DeviceKey>),
) -> Target {
    Target {
        position,
        route,
        kind,
        device,
        attempts: stored.attempts,
        first_try: stored.first_try,
        suspect: stored.suspect,
    }
}

/// A device of a range: its key is its position.
pub(crate) fn of_range(key: DeviceKey, route: Route, token: Token) -> Target {
    Target {
        position: key.0,
        route,
        kind: TargetKind::Token(token),
        device: Some(key),
        attempts: 0,
        first_try: 0,
        suspect: false,
    }
}
