//! How an accepted push is laid down: in its own row, or as legs.

use std::collections::BTreeMap;

use bugle_model::{DeviceId, DeviceKey, MAX_INLINE, MAX_PAGE, Recipient, Route, Token};

use crate::codec::targets::{self, Stored, What};
use crate::{Error, Result};

/// What is written for a push.
pub(crate) enum Plan {
    /// In its own row, which is its only page.
    Own {
        route: Route,
        expected: usize,
        /// Encoded.
        targets: Vec<u8>,
    },
    /// As legs that walk an audience; a JSON list of channels.
    Audience(String),
    /// As legs with explicit pages.
    Split(Vec<Part>),
}

/// What goes over one route.
#[derive(Default)]
pub(crate) struct Part {
    pub(crate) route: Route,
    pub(crate) targets: Vec<Stored>,
    /// Known at once not to be sent to.
    pub(crate) skipped: u64,
}

/// A leg at its beginning.
pub(crate) struct NewLeg {
    pub(crate) route: Route,
    /// No audience is walked for it.
    pub(crate) closed: bool,
    pub(crate) pages: usize,
    pub(crate) waiting: u64,
    pub(crate) skipped: u64,
}

impl NewLeg {
    /// One whose audience is to be walked.
    pub(crate) fn of_audience(route: Route) -> Self {
        Self {
            route,
            closed: false,
            pages: 0,
            waiting: 0,
            skipped: 0,
        }
    }

    /// One with explicit pages.
    pub(crate) fn of_part(part: &Part) -> Self {
        Self {
            route: part.route,
            closed: true,
            pages: part.targets.len().div_ceil(MAX_PAGE),
            waiting: part.targets.len() as u64,
            skipped: part.skipped,
        }
    }
}

impl Plan {
    /// The plan of a push whose targets need no look-up; `None` = ids that are to be split by route.
    pub(crate) fn of(recipient: &Recipient) -> Result<Option<Self>> {
        let plan = match recipient {
            Recipient::Devices(ids) if ids.len() > MAX_INLINE => return Ok(None),
            Recipient::Devices(ids) => Self::own(Route::UNKNOWN, ids.iter().map(|id| What::Id(id.as_str().to_owned()))),
            Recipient::Channels(channels) => {
                let names: Vec<&str> = channels.iter().map(bugle_model::Channel::as_str).collect();
                Self::Audience(serde_json::to_string(&names).map_err(|e| Error::Unavailable(e.into()))?)
            }
            Recipient::Tokens(provider, tokens) if tokens.len() > MAX_INLINE => Self::Split(vec![Part {
                route: Route::raw(*provider),
                targets: whats(tokens).map(Stored::fresh).collect(),
                skipped: 0,
            }]),
            Recipient::Tokens(provider, tokens) => Self::own(Route::raw(*provider), whats(tokens)),
            Recipient::Topic(provider, topic) => Self::own(Route::raw(*provider), [What::Topic(topic.clone())]),
            Recipient::Condition(provider, text) => Self::own(Route::raw(*provider), [What::Condition(text.clone())]),
        };
        Ok(Some(plan))
    }

    fn own(route: Route, whats: impl IntoIterator<Item = What>) -> Self {
        let stored: Vec<Stored> = whats.into_iter().map(Stored::fresh).collect();
        Self::Own {
            route,
            expected: stored.len(),
            targets: targets::encode(&stored),
        }
    }

    /// Sorts ids by route. Unknown ones, and those whose route the push does not serve, are only counted.
    pub(crate) fn split(
        ids: &[DeviceId],
        mut find: impl FnMut(&DeviceId) -> Result<Option<(DeviceKey, Route)>>,
        serves: impl Fn(Route) -> bool,
    ) -> Result<Self> {
        let mut parts: BTreeMap<Route, Part> = BTreeMap::new();
        for id in ids {
            let device = find(id)?;
            let route = device.map_or(Route::UNKNOWN, |(_, route)| route);
            let part = parts.entry(route).or_default();
            part.route = route;
            match device {
                Some((key, _)) if serves(route) => part.targets.push(Stored::fresh(What::Device(key))),
                _ => part.skipped += 1,
            }
        }
        Ok(Self::Split(parts.into_values().collect()))
    }
}

fn whats(tokens: &[Token]) -> impl Iterator<Item = What> {
    tokens.iter().map(|token| What::Token(token.clone()))
}
