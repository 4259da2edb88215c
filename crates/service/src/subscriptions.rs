//! Subscriptions: add, remove, list.

use bugle_model::{AppId, Channel, DeviceId, Listing, Subscription, SubscriptionFilter};

use crate::{DeviceWords, Error, Result, Service, check};

/// Channels of one device.
#[derive(Debug, Clone, Default)]
pub struct ChangeSubscriptions {
    /// The device's id.
    pub device_id: String,
    /// The channels, at least one.
    pub channels: Vec<String>,
}

/// A list of subscriptions that is asked for.
#[derive(Debug, Clone, Default)]
pub struct ListSubscriptions {
    /// Of which devices and channels.
    pub filter: DeviceWords,
    /// The last id of the page before; empty = from the beginning.
    pub since: String,
    /// Another name of `since`.
    pub cursor: String,
    /// 0 = 100; more than 1 000 = 1 000.
    pub limit: i64,
    /// Count all that match, too.
    pub count_total: bool,
}

const NO_DEVICE: Error = Error::NotFound("device not found");

impl Service {
    /// Subscribes a device to channels, all or none. Those it has are no error.
    pub async fn subscribe(&self, app: &AppId, asked: ChangeSubscriptions) -> Result<()> {
        let (device, channels) = self.checked_change(asked)?;
        let known = self.store.subscribe(app, &device, &channels, self.clock.now()).await?;
        if known { Ok(()) } else { Err(NO_DEVICE) }
    }

    /// Takes channels from a device, whoever gave them. Those it does not have are no error.
    pub async fn unsubscribe(&self, app: &AppId, asked: ChangeSubscriptions) -> Result<()> {
        let (device, channels) = self.checked_change(asked)?;
        let known = self.store.unsubscribe(app, &device, &channels).await?;
        if known { Ok(()) } else { Err(NO_DEVICE) }
    }

    fn checked_change(&self, asked: ChangeSubscriptions) -> Result<(DeviceId, Vec<Channel>)> {
        self.needs_registry()?;
        let device = DeviceId::parse(asked.device_id).map_err(Error::at("device_id"))?;
        if asked.channels.is_empty() {
            return Err(Error::invalid("channels", "must not be empty"));
        }
        let channels = check::channels("channels", asked.channels, &self.limits)?;
        Ok((device, channels))
    }

    /// Lists subscriptions in the order of their ids.
    pub async fn list_subscriptions(&self, app: &AppId, asked: ListSubscriptions) -> Result<Listing<Subscription>> {
        self.needs_registry()?;
        let filter = SubscriptionFilter {
            device: asked.filter.checked(&self.limits)?,
            channel_prefix: String::new(),
        };
        let paging = check::paging(asked.since, asked.cursor, asked.limit, asked.count_total)?;
        Ok(self.store.subscriptions(app, &filter, &paging).await?)
    }
}
