//! What may be asked of the registry, and its rules, which are the same whatever database keeps it.
//!
//! | file | answers |
//! |---|---|
//! | `record` | how values of a device are written down and read back |
//! | `origins` | what a registration makes of the device's subscriptions |
//! | `filter` | what filters and selectors mean, and what a list is walked by |
//! | `place` | the ids of subscriptions, and their order |
//! | `gone` | in which order the dead are put back, and how many at once |
//! | `apps` | app names and the numbers that stand for them |

pub(crate) mod apps;
pub(crate) mod filter;
pub(crate) mod gone;
pub(crate) mod origins;
pub(crate) mod place;
pub(crate) mod record;

use async_trait::async_trait;
use bugle_model::{
    AppId, Channel, Device, DeviceDetails, DeviceFilter, DeviceId, DeviceKey, DeviceSelector, Listing, Paging,
    Registration, Subscription, SubscriptionFilter, Timestamp,
};

use crate::Result;

/// A device as it stands after a registration.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The device.
    pub device: Device,
    /// It was not there before.
    pub created: bool,
}

/// Devices, their subscriptions, and what was removed because a provider declared it dead.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Creates or updates a device by the rules of the API's table "Registering", in one transaction.
    async fn register(&self, app: &AppId, registration: Registration, now: Timestamp) -> Result<Registered>;

    /// Removes the devices that the selector names, with their subscriptions. Returns how many there were.
    ///
    /// In steps of at most 256: a failure in the middle leaves the steps before it done.
    async fn remove(&self, app: &AppId, which: &DeviceSelector) -> Result<u64>;

    /// Lists devices in the order of their ids.
    async fn devices(
        &self,
        app: &AppId,
        filter: &DeviceFilter,
        paging: &Paging,
        with_channels: bool,
    ) -> Result<Listing<DeviceDetails>>;

    /// Adds origin channel to the device's subscriptions to these channels. `false` = no such device, nothing written.
    async fn subscribe(&self, app: &AppId, device: &DeviceId, channels: &[Channel], now: Timestamp) -> Result<bool>;

    /// Takes these channels from the device, whatever their origin. `false` = no such device.
    async fn unsubscribe(&self, app: &AppId, device: &DeviceId, channels: &[Channel]) -> Result<bool>;

    /// Lists subscriptions in the order of their ids.
    async fn subscriptions(
        &self,
        app: &AppId,
        filter: &SubscriptionFilter,
        paging: &Paging,
    ) -> Result<Listing<Subscription>>;

    /// Puts devices back that were removed as dead at or after `since`, with their subscriptions, in steps.
    ///
    /// A device whose id or token has been registered again meanwhile stays gone. Returns how many came back.
    async fn restore(&self, app: &AppId, since: Timestamp) -> Result<u64>;

    /// Walks on over the devices of all apps, from after `from`, and sets those aside whose latest registration is before `before`: they can be put back.
    ///
    /// Does a bounded step; returns how many those were, and where to go on (`None` = that was the end).
    async fn remove_inactive(
        &self,
        from: DeviceKey,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<(u64, Option<DeviceKey>)>;

    /// Answers if the database does.
    async fn ping(&self) -> Result<()>;
}
