//! Devices that have not registered for long.

use bugle_model::DeviceKey;
use bugle_store::Registry;
use rstest::rstest;

use super::*;
use crate::backend::Backend;
use crate::fixture::Fresh;

/// Walks the whole registry; returns how many were removed.
async fn clean(store: &dyn Registry, before: i64, now: i64) -> u64 {
    let (mut removed, mut from) = (0, Some(DeviceKey(0)));
    while let Some(key) = from {
        let (step, next) = store.remove_inactive(key, at(before), at(now)).await.unwrap();
        assert!(step <= 256);
        removed += step;
        from = next;
    }
    removed
}

#[rstest]
#[tokio::test]
async fn devices_that_have_not_registered_for_long_are_set_aside_and_can_be_put_back(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let fresh = Fresh::new(backend).await;
    let store: &dyn Registry = &*fresh.store;
    for i in 0..700 {
        let old = Registration {
            channels: Some(channels(&["news"])),
            ..named(&format!("old-{i:03}"), &format!("t-{i}"))
        };
        register(store, old, 0).await;
    }
    for i in 0..10 {
        register(store, named(&format!("new-{i}"), &format!("n-{i}")), 100).await;
    }
    // Registered again: active.
    register(store, named("old-007", "t-7"), 100).await;

    assert_eq!(clean(store, 100, 200).await, 699);
    assert_eq!(clean(store, 100, 200).await, 0);
    let mut left = ids(store).await;
    left.sort();
    assert_eq!(left.len(), 11);
    assert_eq!(left.last().unwrap(), "old-007");

    assert_eq!(store.restore(&app(), at(200)).await.unwrap(), 699);
    assert_eq!(ids(store).await.len(), 710);
    assert_eq!(channels_of(store, &id("old-123")).await, ["news"]);
}
