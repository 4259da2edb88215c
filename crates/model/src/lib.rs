//! The words that every crate of bugle shares. No I/O, no databases, no HTTP.
//!
//! # Glossary
//!
//! | word | meaning |
//! |---|---|
//! | **app** | a tenant: its own keys, devices, channels, pushes ([`AppId`]) |
//! | **device** | one installation of an app on one phone or browser: a token, a provider, a platform ([`Device`]) |
//! | **token** | what the provider knows the device by ([`Token`]); a secret |
//! | **channel** | a name that devices subscribe to and pushes are sent to ([`Channel`]) |
//! | **push** | one accepted request to notify somebody ([`NewPush`]) |
//! | **route** | a provider and a platform: the unit of pace, holds and accounts ([`Route`]) |
//! | **leg** | the part of one push that goes over one route |
//! | **page** | at most 1 000 targets of one leg, handed out as one piece of work ([`PageId`]) |
//! | **target** | one message to one token, topic or condition ([`Target`]) |
//! | **outcome** | what a provider said to one target ([`Outcome`]), of one of seven scopes |
//! | **left-over** | a target of a page that must be tried again ([`LeftOver`]) |
//! | **report** | what has become of a page so far, written down at once for many pages ([`Report`]) |
//! | **hold** | a route of an app on which nothing is sent for the moment ([`Hold`]) |
//! | **account** | the exact counts of a push, per leg ([`Counts`], [`PushStatus`]) |
//! | **gone** | a device that was removed because its token is dead; can be put back |
//! | **lane** | urgent or bulk ([`Lane`]) |

mod account;
mod app;
mod channel;
mod device;
mod hold;
mod id;
mod outcome;
mod page;
mod period;
mod push;
mod quota;
mod route;
mod time;
mod token;

pub use account::{Counts, LegStatus, PushState, PushStatus};
pub use app::AppId;
pub use channel::{Channel, Origins};
pub use device::{
    Device, DeviceDetails, DeviceFilter, DeviceSelector, Listing, Locale, Paging, Registration, Subscription,
    SubscriptionFilter, TimeZone,
};
pub use hold::{Hold, HoldReason};
pub use id::{DeviceId, DeviceKey, PushKey, PushUid};
pub use outcome::{Outcome, Scope};
pub use page::{
    Dead, Flow, Lane, LeftOver, MAX_WAIT, Next, PageId, PageRef, Progress, Report, Skip, Taken, Target, TargetKind,
    Verdict,
};
pub use period::Period;
pub use push::{Accepted, MAX_INLINE, MAX_PAGE, NewPush, Recipient};
pub use quota::PerMinute;
pub use route::{Platform, Provider, Route};
pub use time::{Clock, SystemClock, Timestamp};
pub use token::{Token, TokenTexts};

/// A text that does not fit its type.
///
/// `problem` reads after the field's name: `token: must not be empty`. It never contains the text itself, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct Invalid {
    /// What is wrong and what was expected.
    pub problem: String,
}

impl Invalid {
    /// A problem in words.
    #[must_use]
    pub fn new(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
        }
    }
}
