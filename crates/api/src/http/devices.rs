//! `device_register`, `device_remove`, `device_restore`, `device_list` on the wire.

use std::collections::BTreeMap;

use bugle_model::{AppId, DeviceDetails, Listing};
use bugle_service::{DeviceWords, Error, ListDevices, RegisterDevice, RemoveDevices, Service, Words};
use serde::{Deserialize, Serialize};

use super::methods::{Empty, Operation};
use super::read::Object;

/// A device in answers.
#[derive(Serialize)]
pub(super) struct Device {
    id: String,
    platform: String,
    provider: &'static str,
    token: String,
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<BTreeMap<String, String>>,
    created_at: i64,
    updated_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    topics: Option<Vec<String>>,
    timezone: String,
    locale: String,
}

impl Device {
    fn new(details: DeviceDetails, with_meta: bool) -> Self {
        let device = details.device;
        Self {
            id: device.id.to_string(),
            platform: device.platform,
            provider: device.provider.as_str(),
            token: device.token.as_str().to_owned(),
            user: device.user,
            meta: with_meta.then_some(device.meta),
            created_at: device.created_at.as_secs(),
            updated_at: device.updated_at.as_secs(),
            topics: details.channels,
            timezone: device.timezone,
            locale: device.locale,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Register {
    id: Option<String>,
    provider: Option<String>,
    platform: Option<String>,
    token: Option<String>,
    user: Option<String>,
    meta: Option<BTreeMap<String, String>>,
    timezone: Option<String>,
    locale: Option<String>,
    channels: Option<Vec<String>>,
    topics: Option<Vec<String>>,
}

#[derive(Serialize)]
pub(super) struct Registered {
    device: Device,
    id: String,
}

impl Operation for Register {
    type Answer = Registered;

    async fn run(self, service: &Service, app: &AppId) -> Result<Registered, Error> {
        let asked = RegisterDevice {
            id: self.id.unwrap_or_default(),
            provider: self.provider.unwrap_or_default(),
            platform: self.platform.unwrap_or_default(),
            token: self.token.unwrap_or_default(),
            user: self.user.unwrap_or_default(),
            meta: self.meta.unwrap_or_default(),
            timezone: self.timezone.unwrap_or_default(),
            locale: self.locale.unwrap_or_default(),
            channels: self.channels,
            topics: self.topics,
        };
        let device = service.register_device(app, asked).await?;
        let details = DeviceDetails { device, channels: None };
        Ok(Registered {
            id: details.device.id.to_string(),
            device: Device::new(details, true),
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Remove {
    ids: Option<Vec<String>>,
    tokens: Option<Vec<String>>,
    users: Option<Vec<String>>,
}

impl Operation for Remove {
    type Answer = Empty;

    async fn run(self, service: &Service, app: &AppId) -> Result<Empty, Error> {
        let asked = RemoveDevices {
            ids: Words::new("ids", self.ids),
            tokens: Words::new("tokens", self.tokens),
            users: Words::new("users", self.users),
        };
        service.remove_devices(app, asked).await.map(|()| Empty {})
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Restore {
    since: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct Restored {
    restored: u64,
}

impl Operation for Restore {
    type Answer = Restored;

    async fn run(self, service: &Service, app: &AppId) -> Result<Restored, Error> {
        let restored = service.restore_devices(app, self.since).await?;
        Ok(Restored { restored })
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct List {
    ids: Option<Vec<String>>,
    platforms: Option<Vec<String>>,
    tokens: Option<Vec<String>>,
    users: Option<Vec<String>>,
    filter: Option<Object<Filter>>,
    since: Option<String>,
    cursor: Option<String>,
    limit: Option<i64>,
    include_meta: Option<bool>,
    include_topics: Option<bool>,
    include_total_count: Option<bool>,
    include_webpush_keys: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Filter {
    ids: Option<Vec<String>>,
    users: Option<Vec<String>>,
    topics: Option<Vec<String>>,
    providers: Option<Vec<String>>,
    platforms: Option<Vec<String>>,
}

#[derive(Serialize)]
pub(super) struct Page<T> {
    items: Vec<T>,
    has_more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_count: Option<u64>,
}

impl<T> Page<T> {
    /// The listing as it goes out; the next page begins after the last id of this one.
    pub(super) fn new<R>(listing: Listing<R>, id: impl Fn(&R) -> String, wire: impl Fn(R) -> T) -> Self {
        let next_cursor = listing.items.last().filter(|_| listing.has_more).map(id);
        Self {
            items: listing.items.into_iter().map(wire).collect(),
            has_more: listing.has_more,
            next_cursor,
            total_count: listing.total,
        }
    }
}

impl Operation for List {
    type Answer = Page<Device>;

    async fn run(self, service: &Service, app: &AppId) -> Result<Page<Device>, Error> {
        if self.include_webpush_keys.unwrap_or_default() {
            return Err(Error::Unavailable("include_webpush_keys is not built yet".to_owned()));
        }
        let with_meta = self.include_meta.unwrap_or_default();
        let Object(filter) = self.filter.unwrap_or_default();
        let either =
            |field, own, filter_field, filter| Words::either(Words::new(field, own), Words::new(filter_field, filter));
        let asked = ListDevices {
            filter: DeviceWords {
                ids: either("ids", self.ids, "filter.ids", filter.ids)?,
                platforms: either("platforms", self.platforms, "filter.platforms", filter.platforms)?,
                users: either("users", self.users, "filter.users", filter.users)?,
                tokens: Words::new("tokens", self.tokens),
                providers: Words::new("filter.providers", filter.providers),
                channels: Words::new("filter.topics", filter.topics),
            },
            since: self.since.unwrap_or_default(),
            cursor: self.cursor.unwrap_or_default(),
            limit: self.limit.unwrap_or_default(),
            with_channels: self.include_topics.unwrap_or_default(),
            count_total: self.include_total_count.unwrap_or_default(),
        };
        let listing = service.list_devices(app, asked).await?;
        let id = |details: &DeviceDetails| details.device.id.to_string();
        Ok(Page::new(listing, id, |details| Device::new(details, with_meta)))
    }
}
