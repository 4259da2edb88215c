//! Many callers at once.

use std::collections::HashSet;
use std::sync::Arc;

use bugle_model::{DeviceSelector, Registration, SubscriptionFilter, Timestamp};
use rstest::rstest;
use tokio::task::JoinSet;

use super::{all, app, at, channels, id, ids, named, page, register, texts, token};
use crate::backend::Backend;
use crate::fixture::Fresh;

fn moment(second: usize) -> Timestamp {
    at(i64::try_from(second).unwrap())
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn two_first_registrations_of_one_token_at_once_get_the_same_id(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let f = Fresh::new(backend).await;
    let stores = f.processes().await;
    let mut tasks = JoinSet::new();
    for n in 0..64_usize {
        let store = Arc::clone(&stores[n % stores.len()]);
        tasks.spawn(async move { store.register(&app(), token("same"), moment(n)).await.unwrap() });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|r| r.created).count(), 1);
    let got: HashSet<_> = answers.iter().map(|r| r.device.id.clone()).collect();
    assert_eq!(got.len(), 1);
    assert_eq!(ids(&*f.store).await.len(), 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn one_token_stays_one_device_whoever_fights_for_it(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let f = Fresh::new(backend).await;
    let stores = f.processes().await;
    let mut tasks = JoinSet::new();
    for n in 0..64_usize {
        let store = Arc::clone(&stores[n % stores.len()]);
        tasks.spawn(async move {
            let registration = Registration {
                channels: Some(channels(&["news"])),
                ..named(&format!("d{}", n % 8), &format!("t{}", n % 7))
            };
            store.register(&app(), registration, moment(n)).await.unwrap();
        });
    }
    tasks.join_all().await;
    let devices = all(&*f.store).await;
    let tokens: HashSet<_> = devices.iter().map(|d| d.device.token.as_str().to_owned()).collect();
    assert_eq!(tokens.len(), devices.len(), "no token twice");
    assert!(!tokens.is_empty() && tokens.len() <= 7);
    let subscriptions = f
        .store
        .subscriptions(&app(), &SubscriptionFilter::default(), &page(None, 100))
        .await
        .unwrap();
    let subscribed: HashSet<_> = subscriptions.items.iter().map(|s| s.device.id.clone()).collect();
    assert_eq!(subscribed.len(), subscriptions.items.len());
    assert_eq!(subscribed, devices.into_iter().map(|d| d.device.id).collect());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn registering_subscribing_and_removing_at_once_leave_no_subscription_behind(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let f = Fresh::new(backend).await;
    let stores = f.processes().await;
    let mut tasks = JoinSet::new();
    for n in 0..120_usize {
        let store = Arc::clone(&stores[n % stores.len()]);
        tasks.spawn(async move {
            match n % 3 {
                0 => drop(store.register(&app(), named("d", "t"), moment(n)).await.unwrap()),
                1 => drop(
                    store
                        .subscribe(&app(), &id("d"), &channels(&["news"]), moment(n))
                        .await
                        .unwrap(),
                ),
                _ => {
                    let which = DeviceSelector {
                        ids: texts(&["d"]),
                        ..DeviceSelector::default()
                    };
                    assert!(store.remove(&app(), &which).await.unwrap() <= 1);
                }
            }
        });
    }
    tasks.join_all().await;
    let which = DeviceSelector {
        tokens: texts(&["t"]),
        ..DeviceSelector::default()
    };
    f.store.remove(&app(), &which).await.unwrap();
    register(&*f.store, named("d", "t"), 200).await;
    let left = f
        .store
        .subscriptions(&app(), &SubscriptionFilter::default(), &page(None, 10))
        .await
        .unwrap();
    assert!(left.items.is_empty(), "a new device inherits nothing");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_hangs_up_leaves_a_whole_device_or_none(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let f = Fresh::new(backend).await;
    let stores = f.processes().await;
    let mut tasks = JoinSet::new();
    for n in 0..200_usize {
        let store = Arc::clone(&stores[n % stores.len()]);
        tasks.spawn(async move {
            let registration = Registration {
                channels: Some(channels(&["a", "b"])),
                ..token(&format!("t{n}"))
            };
            store.register(&app(), registration, moment(n)).await.unwrap();
        });
    }
    tasks.join_next().await.unwrap().unwrap();
    tasks.shutdown().await;
    // Whatever was queued is done once a later write is.
    register(&*f.store, token("last"), 300).await;
    for details in all(&*f.store).await {
        let whole = details.channels.is_some_and(|names| names == ["a", "b"]);
        assert!(whole || details.device.token.as_str() == "last");
    }
}
