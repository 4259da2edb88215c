//! The API's table "Registering", row by row.

use std::collections::BTreeMap;

use bugle_model::{AppId, Locale, Platform, Provider, Registration, TimeZone};
use bugle_store::Registry;
use rstest::rstest;

use super::{all, app, at, channels, channels_of, device, id, ids, named, register, token};
use crate::backend::Backend;
use crate::fixture::Fresh;

#[rstest]
#[tokio::test]
async fn no_id_and_an_unknown_token_is_a_new_device(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let f = Fresh::new(backend).await;
    let first = register(&*f.store, token("a"), 0).await;
    let second = register(&*f.store, token("b"), 1).await;
    assert!(first.created && second.created);
    assert_eq!(
        ids(&*f.store).await,
        [first.device.id.to_string(), second.device.id.to_string()]
    );
    assert_eq!((first.device.created_at, first.device.updated_at), (at(0), at(0)));
}

#[rstest]
#[tokio::test]
async fn no_id_and_a_known_token_updates_that_device(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let f = Fresh::new(backend).await;
    let first = register(&*f.store, token("a"), 0).await;
    let changed = Registration {
        user: "anna".to_owned(),
        ..token("a")
    };
    let again = register(&*f.store, changed, 5).await;
    assert!(!again.created);
    assert_eq!(again.device.id, first.device.id);
    assert_eq!((again.device.created_at, again.device.updated_at), (at(0), at(5)));
    assert_eq!(all(&*f.store).await[0].device, again.device);
}

#[rstest]
#[tokio::test]
async fn a_token_of_another_provider_or_another_app_is_another_token(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let f = Fresh::new(backend).await;
    let fcm = register(&*f.store, token("a"), 0).await;
    let apns = Registration {
        provider: Provider::Apns,
        platform: Platform::Ios,
        platform_word: "apns",
        ..token("a")
    };
    let apns = register(&*f.store, apns, 0).await;
    let tenant = AppId::parse("tenant").unwrap();
    let other = f.store.register(&tenant, token("a"), at(0)).await.unwrap();
    assert!(apns.created && other.created);
    assert_eq!(ids(&*f.store).await.len(), 2);
    assert_ne!(fcm.device.id, apns.device.id);
    assert_eq!(apns.device.platform, "apns");
}

#[rstest]
#[tokio::test]
async fn a_known_id_replaces_its_token(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let f = Fresh::new(backend).await;
    let first = register(&*f.store, token("old"), 0).await;
    let changed = register(&*f.store, named(first.device.id.as_str(), "new"), 3).await;
    assert!(!changed.created);
    assert_eq!(changed.device.token.as_str(), "new");
    assert_eq!((changed.device.created_at, changed.device.updated_at), (at(0), at(3)));
    assert_eq!(all(&*f.store).await[0].device, changed.device);
    // The old token is free: it belongs to a new device now.
    assert!(register(&*f.store, token("old"), 4).await.created);
}

#[rstest]
#[tokio::test]
async fn a_known_id_takes_the_token_from_the_device_that_holds_it(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let f = Fresh::new(backend).await;
    let store = &*f.store;
    register(store, named("one", "1"), 0).await;
    let two = Registration {
        channels: Some(channels(&["news"])),
        ..named("two", "2")
    };
    register(store, two, 0).await;
    let one = register(store, named("one", "2"), 1).await;
    assert!(!one.created);
    assert_eq!(ids(store).await, ["one"]);
    assert!(
        channels_of(store, &id("one")).await.is_empty(),
        "subscriptions do not move with a token"
    );
    assert!(channels_of(store, &id("two")).await.is_empty());
    assert!(register(store, token("1"), 2).await.created, "its old token is free");
}

#[rstest]
#[tokio::test]
async fn an_unknown_id_is_created_and_takes_the_token_from_the_device_that_holds_it(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let f = Fresh::new(backend).await;
    let holder = register(&*f.store, token("a"), 0).await;
    let brought = register(&*f.store, named("Brought_from-elsewhere", "a"), 7).await;
    assert!(brought.created);
    assert_eq!(brought.device.created_at, at(7));
    assert_eq!(ids(&*f.store).await, ["Brought_from-elsewhere"]);
    assert_eq!(device(&*f.store, &holder.device.id).await, None);
}

#[rstest]
#[tokio::test]
async fn a_registration_declares_the_whole_state(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let f = Fresh::new(backend).await;
    let full = Registration {
        user: "anna".to_owned(),
        meta: BTreeMap::from([
            ("k \"'\u{0}é".to_owned(), "v\\\n{}".to_owned()),
            (String::new(), String::new()),
        ]),
        timezone: Some(TimeZone::parse("Europe/Berlin").unwrap()),
        locale: Some(Locale::parse("de-AT").unwrap()),
        ..named("d", "a")
    };
    let declared = register(&*f.store, full.clone(), 0).await.device;
    assert_eq!(device(&*f.store, &id("d")).await.as_ref(), Some(&declared));
    assert_eq!((&declared.user, &declared.meta), (&full.user, &full.meta));
    assert_eq!(
        (declared.timezone.as_str(), declared.locale.as_str()),
        ("Europe/Berlin", "de-AT")
    );

    let bare = register(&*f.store, named("d", "a"), 1).await.device;
    assert_eq!(device(&*f.store, &id("d")).await.as_ref(), Some(&bare));
    assert_eq!((bare.user.as_str(), bare.meta.len()), ("", 0));
    assert_eq!((bare.timezone.as_str(), bare.locale.as_str()), ("", ""));
}

#[rstest]
#[tokio::test]
async fn registering_again_as_it_was_changes_the_time_only(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let f = Fresh::new(backend).await;
    let first = register(&*f.store, named("d", "a"), 0).await.device;
    let again = register(&*f.store, named("d", "a"), 9).await;
    assert!(!again.created);
    assert_eq!(again.device.updated_at, at(9));
    let stored = device(&*f.store, &id("d")).await.unwrap();
    assert_eq!(stored, again.device);
    assert_eq!(
        bugle_model::Device {
            updated_at: at(0),
            ..stored
        },
        first
    );
}

#[rstest]
#[tokio::test]
async fn the_platforms_word_is_kept_as_it_was_registered(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let f = Fresh::new(backend).await;
    let ios = |word| Registration {
        platform: Platform::Ios,
        platform_word: word,
        ..named("d", "a")
    };
    register(&*f.store, ios("apns"), 0).await;
    assert_eq!(all(&*f.store).await[0].device.platform, "apns");
    register(&*f.store, ios("ios"), 1).await;
    assert_eq!(all(&*f.store).await[0].device.platform, "ios");
}

/// Registers device `d` with these lists.
async fn declare(store: &dyn Registry, in_channels: Option<&[&str]>, topics: Option<&[&str]>) {
    let registration = Registration {
        channels: in_channels.map(channels),
        topics: topics.map(channels),
        ..named("d", "a")
    };
    register(store, registration, 0).await;
}

#[rstest]
#[tokio::test]
async fn channels_replace_the_origin_channel_and_nothing_else(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let f = Fresh::new(backend).await;
    let store = &*f.store;
    declare(store, Some(&["a", "b", "b"]), Some(&["t", "b"])).await;
    assert_eq!(channels_of(store, &id("d")).await, ["a", "b", "t"]);
    declare(store, None, None).await;
    assert_eq!(
        channels_of(store, &id("d")).await,
        ["a", "b", "t"],
        "absent leaves them"
    );
    declare(store, Some(&["c"]), None).await;
    assert_eq!(
        channels_of(store, &id("d")).await,
        ["b", "c", "t"],
        "b still has the origin topic"
    );
    declare(store, None, Some(&["c"])).await;
    assert_eq!(channels_of(store, &id("d")).await, ["c"]);
    declare(store, Some(&[]), None).await;
    assert_eq!(channels_of(store, &id("d")).await, ["c"], "c has the origin topic too");
    declare(store, None, Some(&[])).await;
    assert!(channels_of(store, &id("d")).await.is_empty());
}

#[rstest]
#[tokio::test]
async fn subscribing_adds_the_origin_channel_and_unsubscribing_clears_all(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let f = Fresh::new(backend).await;
    let store = &*f.store;
    declare(store, None, Some(&["t"])).await;
    assert!(
        store
            .subscribe(&app(), &id("d"), &channels(&["a", "t", "a"]), at(1))
            .await
            .unwrap()
    );
    declare(store, None, Some(&[])).await;
    assert_eq!(
        channels_of(store, &id("d")).await,
        ["a", "t"],
        "t has the origin channel too"
    );
    declare(store, None, Some(&["t", "u"])).await;
    assert!(
        store
            .unsubscribe(&app(), &id("d"), &channels(&["t", "never"]))
            .await
            .unwrap()
    );
    assert_eq!(channels_of(store, &id("d")).await, ["a", "u"]);
}

#[rstest]
#[tokio::test]
async fn an_unknown_device_cannot_be_subscribed(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let f = Fresh::new(backend).await;
    let tenant = AppId::parse("tenant").unwrap();
    register(&*f.store, named("d", "a"), 0).await;
    for (of, who) in [(&app(), "e"), (&tenant, "d")] {
        assert!(!f.store.subscribe(of, &id(who), &channels(&["a"]), at(1)).await.unwrap());
        assert!(!f.store.unsubscribe(of, &id(who), &channels(&["a"])).await.unwrap());
    }
    assert!(channels_of(&*f.store, &id("d")).await.is_empty());
}

#[rstest]
#[tokio::test]
async fn subscriptions_follow_their_device_to_another_provider(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let f = Fresh::new(backend).await;
    let store = &*f.store;
    declare(store, Some(&["a", "b"]), Some(&["b"])).await;
    let moved = Registration {
        provider: Provider::WebPush,
        platform: Platform::Web,
        platform_word: "web",
        channels: Some(channels(&["c"])),
        ..named("d", "a")
    };
    register(store, moved, 1).await;
    assert_eq!(channels_of(store, &id("d")).await, ["b", "c"]);
    let found = |provider| {
        let mut filter = bugle_model::SubscriptionFilter::default();
        filter.device.channels = vec!["b".to_owned(), "c".to_owned()];
        filter.device.providers = vec![provider];
        async move {
            store
                .subscriptions(&app(), &filter, &super::page(None, 10))
                .await
                .unwrap()
                .items
                .len()
        }
    };
    assert_eq!(found(Provider::Fcm).await, 0);
    assert_eq!(found(Provider::WebPush).await, 2);
    assert!(store.unsubscribe(&app(), &id("d"), &channels(&["b"])).await.unwrap());
    assert_eq!(channels_of(store, &id("d")).await, ["c"]);
}

#[rstest]
#[tokio::test]
async fn what_was_answered_is_there_after_a_restart(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let f = Fresh::new(backend).await;
    let tenant = AppId::parse("tenant").unwrap();
    let declared = register(&*f.store, named("d", "a"), 0).await.device;
    f.store.register(&tenant, named("d", "b"), at(0)).await.unwrap();
    f.store
        .subscribe(&app(), &id("d"), &channels(&["news"]), at(0))
        .await
        .unwrap();
    let f = f.reopen().await;
    assert_eq!(device(&*f.store, &id("d")).await, Some(declared));
    assert_eq!(channels_of(&*f.store, &id("d")).await, ["news"]);
    assert!(!f.store.register(&tenant, token("b"), at(1)).await.unwrap().created);
}

#[rstest]
#[tokio::test]
async fn a_healthy_store_answers_a_ping(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    Fresh::new(backend).await.store.ping().await.unwrap();
}
