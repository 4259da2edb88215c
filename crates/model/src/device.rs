//! Registered devices, their subscriptions, and how both are looked for.

use std::collections::BTreeMap;

use crate::{Channel, DeviceId, Invalid, Platform, Provider, Timestamp, Token};

/// A name of the IANA time zone database, like `Europe/Berlin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeZone(String);

impl TimeZone {
    /// Reads a name; it must be in the bundled database.
    pub fn parse(name: &str) -> Result<Self, Invalid> {
        jiff::tz::db()
            .get(name)
            .map(|_| Self(name.to_owned()))
            .map_err(|_| Invalid::new("expected a name of the IANA time zone database, like Europe/Berlin"))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A language tag of the form that BCP 47 gives: parts of 1 to 8 letters or digits, joined by `-` (or `_`), the first of 2 to 8 letters; at most 35 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locale(String);

impl Locale {
    /// Reads a tag.
    pub fn parse(tag: &str) -> Result<Self, Invalid> {
        let mut parts = tag.split(['-', '_']);
        let language = parts.next().unwrap_or_default();
        let language_fits = (2..=8).contains(&language.len()) && language.bytes().all(|b| b.is_ascii_alphabetic());
        let part_fits = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
        if tag.len() > 35 || !language_fits || !parts.all(part_fits) {
            return Err(Invalid::new("expected a language tag like en or pt-BR"));
        }
        Ok(Self(tag.to_owned()))
    }

    /// The tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A device as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The public id.
    pub id: DeviceId,
    /// Who delivers to it.
    pub provider: Provider,
    /// The platform's word as it was registered: `android`, `apns`, `ios` or `web`.
    pub platform: String,
    /// What the provider knows it by.
    pub token: Token,
    /// The user, or the empty text.
    pub user: String,
    /// Free key-value pairs of the application.
    pub meta: BTreeMap<String, String>,
    /// IANA name, or the empty text.
    pub timezone: String,
    /// Language tag, or the empty text.
    pub locale: String,
    /// First registration.
    pub created_at: Timestamp,
    /// Latest registration.
    pub updated_at: Timestamp,
}

/// A device and, where asked for, its channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceDetails {
    /// The device.
    pub device: Device,
    /// Its channels in text order; `None` unless asked for.
    pub channels: Option<Vec<String>>,
}

/// A registration that has been checked: the device's whole state as its app declares it.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The id that the app remembers, if any.
    pub id: Option<DeviceId>,
    /// Who delivers.
    pub provider: Provider,
    /// What it runs on.
    pub platform: Platform,
    /// The platform's word as it was given.
    pub platform_word: &'static str,
    /// What the provider knows it by.
    pub token: Token,
    /// The user, or the empty text.
    pub user: String,
    /// Free key-value pairs; empty resets them.
    pub meta: BTreeMap<String, String>,
    /// `None` resets it.
    pub timezone: Option<TimeZone>,
    /// `None` resets it.
    pub locale: Option<Locale>,
    /// Replaces the subscriptions of origin channel; `None` leaves them.
    pub channels: Option<Vec<Channel>>,
    /// Replaces the subscriptions of origin topic; `None` leaves them.
    pub topics: Option<Vec<Channel>>,
}

/// Which devices to remove. Fields are `ORed`; all empty selects none.
#[derive(Debug, Clone, Default)]
pub struct DeviceSelector {
    /// By public id; ids that cannot exist select nothing.
    pub ids: Vec<String>,
    /// By token, of any provider.
    pub tokens: Vec<String>,
    /// By user.
    pub users: Vec<String>,
}

/// Which devices to list. Fields are `ANDed`, members `ORed`, an empty field does not filter.
#[derive(Debug, Clone, Default)]
pub struct DeviceFilter {
    /// Public ids.
    pub ids: Vec<String>,
    /// Providers.
    pub providers: Vec<Provider>,
    /// Platforms.
    pub platforms: Vec<Platform>,
    /// Tokens.
    pub tokens: Vec<String>,
    /// Users.
    pub users: Vec<String>,
    /// Channels that the device is subscribed to.
    pub channels: Vec<String>,
}

/// Which subscriptions to list. Fields are `ANDed`, members `ORed`, an empty field does not filter.
#[derive(Debug, Clone, Default)]
pub struct SubscriptionFilter {
    /// Of these devices, channels and so on; see [`DeviceFilter`].
    pub device: DeviceFilter,
    /// Channels whose name begins so; empty does not filter.
    pub channel_prefix: String,
}

/// Where a list goes on and how far.
#[derive(Debug, Clone)]
pub struct Paging {
    /// The last id of the page before; rows after it are listed. An unknown id is a place in the order like any other.
    pub after: Option<String>,
    /// At most so many rows, 1 to 1 000.
    pub limit: u32,
    /// Count all rows that the filter matches, too.
    pub count_total: bool,
}

/// One page of a list, in the order of the rows' id text.
#[derive(Debug, Clone)]
pub struct Listing<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Are there more after them?
    pub has_more: bool,
    /// All rows that the filter matches, where asked for.
    pub total: Option<u64>,
}

/// One device in one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Names it; lists are ordered by this text.
    pub id: String,
    /// The channel.
    pub channel: String,
    /// The device.
    pub device: Device,
}
