use bugle_model::{DeviceFilter, Paging, Platform, Provider, SubscriptionFilter};
use proptest::prelude::*;
use proptest::sample::subsequence;
use rusqlite::Connection;

use super::{FEW, devices, subscriptions};

/// Two apps with 60 devices each, in a few channels.
fn filled() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(include_str!("../../../migrations/sqlite/0001_registry.sql"))
        .unwrap();
    conn.execute_batch(
        "INSERT INTO apps VALUES (1, 'default'), (2, 'tenant');
         WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 119)
         INSERT INTO devices SELECT NULL, n % 2 + 1, 'd' || (n * 37 % 60), n % 4 + 1, n % 3 + 1, 'android', 't' || n, n,
            iif(n % 5, 'u' || n % 5, ''), '{}', '', '', 0, 0 FROM n;
         INSERT INTO subscriptions SELECT d.app, c.value, d.provider * 4 + d.platform, d.key, 1
            FROM devices d, json_each('[\"a\", \"ab\", \"b\", \"c\"]') c WHERE d.key % (c.key + 1) = 0;",
    )
    .unwrap();
    conn
}

fn some(of: &[&str]) -> impl Strategy<Value = Vec<String>> + use<> {
    let of: Vec<String> = of.iter().map(|text| (*text).to_owned()).collect();
    prop_oneof![1 => Just(Vec::new()), 1 => subsequence(of, 1..3)]
}

fn filter() -> impl Strategy<Value = DeviceFilter> {
    let parts = (
        some(&["", "u1", "u2"]),
        some(&["a", "ab", "c", "none"]),
        subsequence(Provider::ALL.to_vec(), 0..4),
        subsequence(Platform::ALL.to_vec(), 0..3),
    );
    parts.prop_map(|(users, channels, providers, platforms)| DeviceFilter {
        users,
        channels,
        providers,
        platforms,
        ..DeviceFilter::default()
    })
}

proptest! {
    /// What is read whole and sorted is compared with a naive model by the contract's tests.
    #[test]
    fn a_walk_in_the_lists_order_finds_what_sorting_finds(
        filter in filter(),
        prefix in prop_oneof!["", "a", "ab", "c"],
        after in prop_oneof!["", "d2", "d5[0-9]", "00000000000000[0-7][0-9a-f]-[abc]"],
        limit in 1..50_u32,
    ) {
        let conn = filled();
        let paging = Paging { after: Some(after), limit, count_total: true };
        let [sorted, walked] = [FEW, 0].map(|few| {
            let list = devices(&conn, 1, &filter, &paging, true, few).unwrap();
            (list.items, list.has_more, list.total)
        });
        prop_assert_eq!(sorted, walked);
        let filter = SubscriptionFilter { device: filter, channel_prefix: prefix };
        let [sorted, walked] = [FEW, 0].map(|few| {
            let list = subscriptions(&conn, 1, &filter, &paging, few).unwrap();
            (list.items, list.has_more, list.total)
        });
        prop_assert_eq!(sorted, walked);
    }
}
