//! Routes on which nothing is sent for the moment.

use crate::{AppId, Route, Timestamp};

/// Why a route is on hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HoldReason {
    /// The provider refuses the app's credentials.
    Credential,
    /// The provider does not answer, or only with its own trouble.
    Outage,
}

impl HoldReason {
    /// The name on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Outage => "outage",
        }
    }

    /// The reason of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Credential, Self::Outage]
            .into_iter()
            .find(|r| r.as_str() == name)
    }
}

/// The state of one route of one app: on hold now, or how long it has been on hold so far.
///
/// The route has a clock of its own that stands still during holds ([`Hold::route_clock`]). Give-up times are measured on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The app.
    pub app: AppId,
    /// The provider and the platform.
    pub route: Route,
    /// Why it is on hold now; `None` = it is not.
    pub reason: Option<HoldReason>,
    /// When the hold began; meaningless without a reason.
    pub since: Timestamp,
    /// How long it was on hold before, all ended holds together, in milliseconds.
    pub paused_ms: i64,
}

impl Hold {
    /// The time on the route's own clock, in milliseconds: the time of day without all holds.
    #[must_use]
    pub fn route_clock(&self, now: Timestamp) -> i64 {
        let held_now = if self.reason.is_some() {
            now.0.saturating_sub(self.since.0).max(0)
        } else {
            0
        };
        now.0.saturating_sub(self.paused_ms).saturating_sub(held_now)
    }
}
