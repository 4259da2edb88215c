//! A provider's message quota, shared by all processes: what may be drawn from it, and what comes of that.

use std::time::Duration;

/// How fast an app may send to a provider.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Messages a second. 0 = as fast as it goes; then only throttles are shared.
    pub per_second: f64,
    /// How long it takes from nothing to the full rate. Zero = at once.
    pub ramp_up: Duration,
}

impl Pace {
    /// No limit.
    pub const UNLIMITED: Self = Self {
        per_second: 0.0,
        ramp_up: Duration::ZERO,
    };

    /// So many messages a minute; 0 = no limit.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate, not an account")]
    pub fn per_minute(messages: u64, ramp_up: Duration) -> Self {
        Self {
            per_second: messages as f64 / 60.0,
            ramp_up,
        }
    }

    /// Is there a limit?
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.per_second > 0.0
    }
}

/// The provider asked the whole app to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// For so long, an hour at most. `None` = it did not say: a minute, doubled with every time that it says so again soon, 15 minutes at most.
    pub after: Option<Duration>,
}

/// What a process asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// How fast the app may send. All processes must say the same.
    pub pace: Pace,
    /// Messages that it would like to send soon. 0 = it only tells or asks of throttles.
    pub permits: u32,
    /// What it has been told.
    pub throttle: Option<Throttle>,
}

/// What it gets. Lengths of time count from the call's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grant {
    /// Messages that it may send, at most as many as it asked for.
    pub permits: u32,
    /// Not before this has passed.
    pub wait: Duration,
    /// They lapse after so long.
    pub lasts: Duration,
    /// The most that one call may get at present. Tells how fine permits must be shared out.
    pub most: u32,
    /// Nobody may send for so long; zero = nothing is in the way.
    pub throttled: Duration,
}
