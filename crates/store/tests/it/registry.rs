//! The contract of [`bugle_store::Registry`].

mod concurrency;
mod filters;
mod gone;
mod inactive;
mod paging;
mod plans;
mod race;
mod registering;
mod removing;

use std::collections::BTreeMap;

use bugle_model::{
    AppId, Channel, Device, DeviceDetails, DeviceFilter, DeviceId, Paging, Platform, Provider, Registration,
    Subscription, SubscriptionFilter, Timestamp, Token,
};
use bugle_store::{Registered, Registry};

/// A moment; those of tests are a second apart.
fn at(second: i64) -> Timestamp {
    Timestamp(1_780_000_000_000 + second * 1_000)
}

fn app() -> AppId {
    AppId::default_app()
}

fn id(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

fn channels(names: &[&str]) -> Vec<Channel> {
    names.iter().map(|name| Channel::parse(*name).unwrap()).collect()
}

fn texts(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

/// A registration that declares nothing but a token.
fn token(text: &str) -> Registration {
    Registration {
        id: None,
        provider: Provider::Fcm,
        platform: Platform::Android,
        platform_word: "android",
        token: Token::parse(text).unwrap(),
        user: String::new(),
        meta: BTreeMap::new(),
        timezone: None,
        locale: None,
        channels: None,
        topics: None,
    }
}

/// The same under an id.
fn named(device: &str, text: &str) -> Registration {
    Registration {
        id: Some(id(device)),
        ..token(text)
    }
}

async fn register(store: &dyn Registry, registration: Registration, second: i64) -> Registered {
    store.register(&app(), registration, at(second)).await.unwrap()
}

/// All devices, on one page.
async fn all(store: &dyn Registry) -> Vec<DeviceDetails> {
    let page = page(None, 1_000);
    let list = store.devices(&app(), &DeviceFilter::default(), &page, true).await;
    list.unwrap().items
}

async fn ids(store: &dyn Registry) -> Vec<String> {
    all(store).await.iter().map(|d| d.device.id.to_string()).collect()
}

async fn device(store: &dyn Registry, device: &DeviceId) -> Option<Device> {
    let found = all(store).await.into_iter().find(|d| d.device.id == *device);
    found.map(|d| d.device)
}

/// The channels of a device, by the list of subscriptions; the list of devices must say the same.
async fn channels_of(store: &dyn Registry, device: &DeviceId) -> Vec<String> {
    let filter = SubscriptionFilter {
        device: DeviceFilter {
            ids: vec![device.to_string()],
            ..DeviceFilter::default()
        },
        ..SubscriptionFilter::default()
    };
    let list = store.subscriptions(&app(), &filter, &page(None, 1_000)).await.unwrap();
    let names: Vec<_> = list.items.into_iter().map(|s: Subscription| s.channel).collect();
    let listed = all(store).await.into_iter().find(|d| d.device.id == *device);
    assert_eq!(listed.and_then(|d| d.channels).unwrap_or_default(), names);
    names
}

fn page(after: Option<String>, limit: u32) -> Paging {
    Paging {
        after,
        limit,
        count_total: false,
    }
}
