//! Lists against a model that looks at every row.

use bugle_model::{Device, DeviceFilter, Paging, Platform, Provider, Registration, SubscriptionFilter};
use bugle_store::Registry;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::{app, at, channels, named, page, texts};
use crate::backend::Backend;
use crate::fixture::Fresh;

const CHANNELS: [&str; 5] = ["a", "ab", "b", "b%_", "é"];
const USERS: [&str; 3] = ["", "anna", "carl"];

#[derive(Debug, Clone)]
struct Known {
    registration: Registration,
    channels: Vec<&'static str>,
}

fn known(number: usize) -> impl Strategy<Value = Known> {
    let platforms = [
        (Platform::Android, "android"),
        (Platform::Ios, "ios"),
        (Platform::Web, "web"),
    ];
    let parts = (
        select(&Provider::ALL[..]),
        select(platforms.to_vec()),
        select(&USERS[..]),
        subsequence(CHANNELS.to_vec(), 0..CHANNELS.len()),
    );
    parts.prop_map(move |(provider, (platform, platform_word), user, in_channels)| Known {
        registration: Registration {
            provider,
            platform,
            platform_word,
            user: user.to_owned(),
            channels: Some(channels(&in_channels)),
            // Neither order of ids nor tokens is that of registration; some tokens are the same text for two providers.
            ..named(&format!("d{}", number * 5 % 12), &format!("t{}", number * 7 % 12))
        },
        channels: in_channels,
    })
}

fn registry() -> impl Strategy<Value = Vec<Known>> {
    (0..12_usize).map(known).collect::<Vec<_>>()
}

/// Some of these, or mostly none, so that filters have few fields.
fn some(of: Vec<String>) -> impl Strategy<Value = Vec<String>> {
    let most = of.len();
    prop_oneof![3 => Just(Vec::new()), 2 => subsequence(of, 1..most)]
}

fn filter() -> impl Strategy<Value = DeviceFilter> {
    let numbered = |letter: &str| (0..14).map(|n| format!("{letter}{n}")).collect::<Vec<_>>();
    let providers = prop_oneof![2 => Just(Vec::new()), 1 => subsequence(Provider::ALL.to_vec(), 1..4)];
    let platforms = prop_oneof![2 => Just(Vec::new()), 1 => subsequence(Platform::ALL.to_vec(), 1..3)];
    let mut users = texts(&USERS);
    users.push("nobody".to_owned());
    let mut names = texts(&CHANNELS);
    names.push("empty".to_owned());
    let parts = (
        some(numbered("d")),
        some(numbered("t")),
        some(users),
        some(names),
        providers,
        platforms,
    );
    parts.prop_map(|(ids, tokens, users, channels, providers, platforms)| DeviceFilter {
        ids,
        providers,
        platforms,
        tokens,
        users,
        channels,
    })
}

fn passes(filter: &DeviceFilter, device: &Device) -> bool {
    let platform = Platform::parse(&device.platform).unwrap();
    (filter.ids.is_empty() || filter.ids.contains(&device.id.to_string()))
        && (filter.tokens.is_empty() || filter.tokens.contains(&device.token.as_str().to_owned()))
        && (filter.users.is_empty() || filter.users.contains(&device.user))
        && (filter.providers.is_empty() || filter.providers.contains(&device.provider))
        && (filter.platforms.is_empty() || filter.platforms.contains(&platform))
}

async fn fill(store: &dyn Registry, registry: &[Known]) -> Vec<(Device, Vec<&'static str>)> {
    let mut model = Vec::new();
    for known in registry {
        let device = store
            .register(&app(), known.registration.clone(), at(0))
            .await
            .unwrap()
            .device;
        model.push((device, known.channels.clone()));
    }
    model.sort_by(|a, b| a.0.id.cmp(&b.0.id));
    model
}

fn names(filter: &DeviceFilter, channel: &str) -> bool {
    filter.channels.is_empty() || filter.channels.iter().any(|name| name == channel)
}

async fn check_devices(store: &dyn Registry, model: &[(Device, Vec<&str>)], filter: &DeviceFilter, limit: u32) {
    let expected: Vec<_> = model
        .iter()
        .filter(|(d, c)| passes(filter, d) && (filter.channels.is_empty() || c.iter().any(|c| names(filter, c))))
        .map(|(device, _)| device.clone())
        .collect();
    let (mut got, mut after) = (Vec::new(), None);
    loop {
        let paging = Paging {
            count_total: true,
            ..page(after, limit)
        };
        let list = store.devices(&app(), filter, &paging, false).await.unwrap();
        assert_eq!(list.total, Some(expected.len() as u64));
        got.extend(list.items.into_iter().map(|d| d.device));
        if !list.has_more {
            break;
        }
        after = got.last().map(|d: &Device| d.id.to_string());
    }
    assert_eq!(got, expected);
}

async fn check_subscriptions(
    store: &dyn Registry,
    model: &[(Device, Vec<&str>)],
    filter: &SubscriptionFilter,
    limit: u32,
) {
    let mut expected: Vec<_> = model
        .iter()
        .filter(|(device, _)| passes(&filter.device, device))
        .flat_map(|(device, names)| names.iter().map(|name| (device.id.to_string(), (*name).to_owned())))
        .filter(|(_, name)| names(&filter.device, name) && name.starts_with(&filter.channel_prefix))
        .collect();
    let (mut got, mut after) = (Vec::new(), None);
    loop {
        let paging = Paging {
            count_total: true,
            ..page(after.take(), limit)
        };
        let list = store.subscriptions(&app(), filter, &paging).await.unwrap();
        assert_eq!(list.total, Some(expected.len() as u64));
        got.extend(list.items);
        if !list.has_more {
            break;
        }
        after = got.last().map(|s| s.id.clone());
    }
    assert!(got.windows(2).all(|pair| pair[0].id < pair[1].id));
    let mut got: Vec<_> = got.into_iter().map(|s| (s.device.id.to_string(), s.channel)).collect();
    got.sort();
    expected.sort();
    assert_eq!(got, expected);
}

async fn check(backend: Backend, registry: Vec<Known>, filters: Vec<(DeviceFilter, &'static str, u32)>) {
    let fresh = Fresh::new(backend).await;
    let store = &*fresh.store;
    let model = fill(store, &registry).await;
    for (filter, prefix, limit) in filters {
        check_devices(store, &model, &filter, limit).await;
        let filter = SubscriptionFilter {
            device: filter,
            channel_prefix: prefix.to_owned(),
        };
        check_subscriptions(store, &model, &filter, limit).await;
    }
}

fn filters() -> impl Strategy<Value = Vec<(DeviceFilter, &'static str, u32)>> {
    proptest::collection::vec((filter(), select(vec!["", "a", "b%", "é", "x"]), 1..6_u32), 20)
}

fn block_on(check: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(check);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn lists_of_sqlite_hold_what_the_filter_says(registry in registry(), filters in filters()) {
        block_on(check(Backend::Sqlite, registry, filters));
    }

    #[test]
    fn lists_of_postgresql_hold_what_the_filter_says(registry in registry(), filters in filters()) {
        block_on(check(Backend::Postgres, registry, filters));
    }
}
