//! `device_subscription_add`, `device_subscription_remove`, `device_subscription_list` on the wire.

use bugle_model::{AppId, Subscription};
use bugle_service::{ChangeSubscriptions, DeviceWords, Error, ListSubscriptions, Service, Words};
use serde::{Deserialize, Serialize};

use super::devices::Page;
use super::methods::{Empty, Operation};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Add {
    device_id: Option<String>,
    channels: Option<Vec<String>>,
}

impl Operation for Add {
    type Answer = Empty;

    async fn run(self, service: &Service, app: &AppId) -> Result<Empty, Error> {
        let asked = ChangeSubscriptions {
            device_id: self.device_id.unwrap_or_default(),
            channels: self.channels.unwrap_or_default(),
        };
        service.subscribe(app, asked).await.map(|()| Empty {})
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Remove {
    device_id: Option<String>,
    channels: Option<Vec<String>>,
}

impl Operation for Remove {
    type Answer = Empty;

    async fn run(self, service: &Service, app: &AppId) -> Result<Empty, Error> {
        let asked = ChangeSubscriptions {
            device_id: self.device_id.unwrap_or_default(),
            channels: self.channels.unwrap_or_default(),
        };
        service.unsubscribe(app, asked).await.map(|()| Empty {})
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct List {
    device_ids: Option<Vec<String>>,
    device_providers: Option<Vec<String>>,
    device_platforms: Option<Vec<String>>,
    device_tokens: Option<Vec<String>>,
    device_users: Option<Vec<String>>,
    channels: Option<Vec<String>>,
    since: Option<String>,
    cursor: Option<String>,
    limit: Option<i64>,
    include_total_count: Option<bool>,
}

/// A subscription in answers.
#[derive(Serialize)]
pub(super) struct DeviceSubscription {
    id: String,
    device_id: String,
    device_token: String,
    device_platform: String,
    device_user: String,
    channel: String,
}

impl From<Subscription> for DeviceSubscription {
    fn from(subscription: Subscription) -> Self {
        let device = subscription.device;
        Self {
            id: subscription.id,
            device_id: device.id.to_string(),
            device_token: device.token.as_str().to_owned(),
            device_platform: device.platform,
            device_user: device.user,
            channel: subscription.channel,
        }
    }
}

impl Operation for List {
    type Answer = Page<DeviceSubscription>;

    async fn run(self, service: &Service, app: &AppId) -> Result<Self::Answer, Error> {
        let asked = ListSubscriptions {
            filter: DeviceWords {
                ids: Words::new("device_ids", self.device_ids),
                providers: Words::new("device_providers", self.device_providers),
                platforms: Words::new("device_platforms", self.device_platforms),
                tokens: Words::new("device_tokens", self.device_tokens),
                users: Words::new("device_users", self.device_users),
                channels: Words::new("channels", self.channels),
            },
            since: self.since.unwrap_or_default(),
            cursor: self.cursor.unwrap_or_default(),
            limit: self.limit.unwrap_or_default(),
            count_total: self.include_total_count.unwrap_or_default(),
        };
        let listing = service.list_subscriptions(app, asked).await?;
        let id = |subscription: &Subscription| subscription.id.clone();
        Ok(Page::new(listing, id, DeviceSubscription::from))
    }
}
