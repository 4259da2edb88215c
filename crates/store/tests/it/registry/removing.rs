//! Removing.

use bugle_model::{AppId, DeviceSelector, Registration, SubscriptionFilter};
use rstest::rstest;

use super::{app, at, channels, ids, named, page, register, texts, token};
use crate::backend::Backend;
use crate::fixture::Fresh;

#[rstest]
#[tokio::test]
async fn fields_are_ored_and_each_device_counts_once(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let f = Fresh::new(backend).await;
    for (name, user) in [("a", "anna"), ("b", "anna"), ("c", "carl"), ("d", ""), ("e", "")] {
        let registration = Registration {
            user: user.to_owned(),
            ..named(name, &format!("token-{name}"))
        };
        register(&*f.store, registration, 0).await;
    }
    let which = DeviceSelector {
        ids: texts(&["a", "a", "nobody", "not an id \u{0} '"]),
        tokens: texts(&["token-a", "token-d", ""]),
        users: texts(&["anna"]),
    };
    assert_eq!(f.store.remove(&app(), &which).await.unwrap(), 3);
    assert_eq!(ids(&*f.store).await, ["c", "e"]);
    assert_eq!(f.store.remove(&app(), &which).await.unwrap(), 0);
}

#[rstest]
#[tokio::test]
async fn an_empty_selector_and_the_empty_user_remove_nobody(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let f = Fresh::new(backend).await;
    register(&*f.store, named("a", "1"), 0).await;
    let nobody = DeviceSelector {
        users: texts(&[""]),
        ..DeviceSelector::default()
    };
    assert_eq!(f.store.remove(&app(), &DeviceSelector::default()).await.unwrap(), 0);
    assert_eq!(f.store.remove(&app(), &nobody).await.unwrap(), 0);
    assert_eq!(ids(&*f.store).await, ["a"]);
}

#[rstest]
#[tokio::test]
async fn other_apps_keep_their_devices(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let f = Fresh::new(backend).await;
    register(&*f.store, named("a", "1"), 0).await;
    let which = DeviceSelector {
        ids: texts(&["a"]),
        tokens: texts(&["1"]),
        ..DeviceSelector::default()
    };
    let tenant = AppId::parse("tenant").unwrap();
    assert_eq!(f.store.remove(&tenant, &which).await.unwrap(), 0);
    f.store.register(&tenant, token("2"), at(0)).await.unwrap();
    assert_eq!(f.store.remove(&tenant, &which).await.unwrap(), 0);
    assert_eq!(ids(&*f.store).await, ["a"]);
}

#[rstest]
#[tokio::test]
async fn more_than_one_step_is_removed_whole(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let f = Fresh::new(backend).await;
    for n in 0..600 {
        let registration = Registration {
            user: "anna".to_owned(),
            channels: Some(channels(&["news"])),
            ..token(&format!("t{n}"))
        };
        register(&*f.store, registration, 0).await;
    }
    let by_token = DeviceSelector {
        tokens: (0..300).map(|n| format!("t{n}")).collect(),
        ..DeviceSelector::default()
    };
    assert_eq!(f.store.remove(&app(), &by_token).await.unwrap(), 300);
    let by_user = DeviceSelector {
        users: texts(&["anna"]),
        ..DeviceSelector::default()
    };
    assert_eq!(f.store.remove(&app(), &by_user).await.unwrap(), 300);
    assert!(ids(&*f.store).await.is_empty());
    let left = f
        .store
        .subscriptions(&app(), &SubscriptionFilter::default(), &page(None, 10))
        .await;
    assert!(left.unwrap().items.is_empty(), "subscriptions go with their device");
}
