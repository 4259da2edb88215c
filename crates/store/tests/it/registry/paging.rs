//! Walking lists page by page.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bugle_model::{AppId, DeviceFilter, Paging, Registration, SubscriptionFilter};
use bugle_store::Registry;
use rstest::rstest;

use super::{app, at, channels, named, page, register, texts, token};
use crate::backend::Backend;
use crate::fixture::Fresh;

/// All ids of the list, page by page.
async fn walk_devices(store: &dyn Registry, filter: &DeviceFilter, limit: u32) -> Vec<String> {
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let list = store.devices(&app(), filter, &page(after, limit), false).await.unwrap();
        assert!(list.items.len() <= limit as usize);
        seen.extend(list.items.iter().map(|d| d.device.id.to_string()));
        if !list.has_more {
            return seen;
        }
        assert_eq!(list.items.len(), limit as usize, "a page before the last is full");
        after = seen.last().cloned();
    }
}

async fn walk_subscriptions(store: &dyn Registry, filter: &SubscriptionFilter, limit: u32) -> Vec<String> {
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let list = store.subscriptions(&app(), filter, &page(after, limit)).await.unwrap();
        seen.extend(list.items.iter().map(|s| s.id.clone()));
        if !list.has_more {
            return seen;
        }
        assert_eq!(list.items.len(), limit as usize, "a page before the last is full");
        after = seen.last().cloned();
    }
}

fn is_ascending(ids: &[String]) -> bool {
    ids.windows(2).all(|pair| pair[0] < pair[1])
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_walk_meets_everything_once_while_others_register(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let f = Fresh::new(backend).await;
    for n in 0..150 {
        let registration = Registration {
            channels: Some(channels(&["a", "b"])),
            ..named(&format!("device-{:03}", n * 7 % 150), &format!("t{n}"))
        };
        register(&*f.store, registration, 0).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let noise = {
        let (store, stop) = (Arc::clone(&f.store), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut n = 0;
            // Not for ever: who reads one at a time may never come to the end of a list that grows as fast.
            while n < 2_000 && !stop.load(Ordering::Relaxed) {
                let registration = Registration {
                    channels: Some(channels(&["a"])),
                    ..named(&format!("device-{:03}-{n}", n * 11 % 150), &format!("noise{n}"))
                };
                store.register(&app(), registration, at(1)).await.unwrap();
                // Registering again must not move a device in the lists.
                store
                    .register(
                        &app(),
                        named(&format!("device-{:03}", n % 150), &format!("again{n}")),
                        at(n),
                    )
                    .await
                    .unwrap();
                n += 1;
            }
            n
        })
    };
    let mut made_noise = 0;
    // Until the walks have met something that was registered meanwhile: a busy machine may need more than one round.
    while made_noise == 0 {
        for limit in [1, 7, 150] {
            let ids = walk_devices(&*f.store, &DeviceFilter::default(), limit).await;
            assert!(is_ascending(&ids));
            let first: BTreeSet<_> = ids.iter().filter(|id| id.len() == "device-000".len()).collect();
            assert_eq!(first.len(), 150);
            let ids = walk_subscriptions(&*f.store, &SubscriptionFilter::default(), limit).await;
            assert!(is_ascending(&ids));
            made_noise += ids.len() - 300;
        }
    }
    stop.store(true, Ordering::Relaxed);
    assert!(noise.await.unwrap() > 0, "there was something to be disturbed by");
}

#[rstest]
#[tokio::test]
async fn a_page_that_is_just_full_is_the_last(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let f = Fresh::new(backend).await;
    for n in 0..3 {
        register(&*f.store, token(&format!("t{n}")), n).await;
    }
    let list = f
        .store
        .devices(&app(), &DeviceFilter::default(), &page(None, 3), false)
        .await
        .unwrap();
    assert!(!list.has_more && list.items.len() == 3 && list.total.is_none());
    let list = f
        .store
        .devices(&app(), &DeviceFilter::default(), &page(None, 2), false)
        .await
        .unwrap();
    assert!(list.has_more);
}

#[rstest]
#[tokio::test]
async fn any_text_is_a_place_to_go_on_from(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let f = Fresh::new(backend).await;
    for name in ["a", "c", "e"] {
        let registration = Registration {
            channels: Some(channels(&["x"])),
            ..named(name, name)
        };
        register(&*f.store, registration, 0).await;
    }
    let count = |after: &'static str| {
        let store = &f.store;
        async move {
            let place = page(Some(after.to_owned()), 10);
            let devices = store
                .devices(&app(), &DeviceFilter::default(), &place, false)
                .await
                .unwrap();
            let subscriptions = store
                .subscriptions(&app(), &SubscriptionFilter::default(), &place)
                .await
                .unwrap();
            (devices.items.len(), subscriptions.items.len())
        }
    };
    assert_eq!(count("").await, (3, 3));
    assert_eq!(count("b").await.0, 2);
    assert_eq!(count("b; DROP TABLE devices").await.0, 2);
    assert_eq!(count("\u{10ffff}").await, (0, 0));
    assert_eq!(count("00").await, (3, 3));
    assert_eq!(count("0000000000000002-").await.1, 2);
    assert_eq!(count("0000000000000002-x").await.1, 1);
}

#[rstest]
#[tokio::test]
async fn the_total_counts_all_pages_and_one_app_only(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let f = Fresh::new(backend).await;
    let tenant = AppId::parse("tenant").unwrap();
    let counting = Paging {
        after: Some("d2".to_owned()),
        limit: 1,
        count_total: true,
    };
    let nothing = f
        .store
        .devices(&tenant, &DeviceFilter::default(), &counting, false)
        .await
        .unwrap();
    assert_eq!(
        (nothing.items.len(), nothing.has_more, nothing.total),
        (0, false, Some(0))
    );
    for n in 0..5 {
        let registration = Registration {
            channels: Some(channels(&["a", "b"])),
            ..named(&format!("d{n}"), &format!("t{n}"))
        };
        register(&*f.store, registration.clone(), 0).await;
        f.store.register(&tenant, registration, at(0)).await.unwrap();
    }
    let list = f
        .store
        .devices(&app(), &DeviceFilter::default(), &counting, false)
        .await
        .unwrap();
    assert_eq!((list.items.len(), list.has_more, list.total), (1, true, Some(5)));
    let list = f
        .store
        .subscriptions(&tenant, &SubscriptionFilter::default(), &counting)
        .await
        .unwrap();
    assert_eq!((list.items.len(), list.total), (0, Some(10)));
}

#[rstest]
#[tokio::test]
async fn a_thousand_members_of_a_filter_are_no_trouble(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let f = Fresh::new(backend).await;
    for n in 0..20 {
        register(&*f.store, named(&format!("d{n}"), &format!("t{n}")), 0).await;
    }
    let many = |letter: char| (0..1_000).map(|n| format!("{letter}{n}")).collect::<Vec<_>>();
    for filter in [
        DeviceFilter {
            ids: many('d'),
            ..DeviceFilter::default()
        },
        DeviceFilter {
            tokens: many('t'),
            ..DeviceFilter::default()
        },
        DeviceFilter {
            ids: many('d'),
            tokens: many('t'),
            users: texts(&["", "x"]),
            ..DeviceFilter::default()
        },
    ] {
        assert_eq!(walk_devices(&*f.store, &filter, 7).await.len(), 20);
    }
}
