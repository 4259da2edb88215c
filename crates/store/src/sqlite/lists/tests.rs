use std::path::Path;

use bugle_model::{DeviceFilter, Paging, Platform, Provider, SubscriptionFilter};
use proptest::prelude::*;
use proptest::sample::subsequence;
use rusqlite::Connection;

use super::{FEW, devices, subscriptions};
use crate::sqlite::lists::{devices as device_list, subscriptions as subscription_list};
use crate::sqlite::migrate::migrate;

/// Two apps with 60 devices each, in a few channels.
fn filled() -> Connection {
    let mut conn = Connection::open_in_memory().unwrap();
    migrate(&mut conn, Path::new("lists.db")).unwrap();
    conn.execute_batch(
        "INSERT INTO apps VALUES (1, 'default'), (2, 'tenant');
         WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 119)
         INSERT INTO devices SELECT NULL, n % 2 + 1, 'd' || (n / 2 * 37 % 60), n / 2 % 4 + 1, n % 3 + 1, 'android', 't' || n, n,
            iif(n % 5, 'u' || n % 5, ''), '{}', '', '', 0, 0 FROM n;
         INSERT INTO subscriptions SELECT d.app, c.value, d.provider * 4 + d.platform, d.key, 1, d.token
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

/// What a statement walks, in one line.
fn plan(conn: &Connection, sql: &str) -> String {
    let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    // Nothing is bound: it is not run.
    let mut rows = statement.raw_query();
    let mut steps = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        steps.push(row.get::<_, String>(3).unwrap());
    }
    steps.join("; ")
}

/// The plans of both lists with this filter, the part about order left out.
fn plans(conn: &Connection, filter: DeviceFilter, few: i64) -> [String; 2] {
    let mut query = device_list::query(conn, 1, &filter, few).unwrap();
    query.and("d.id > :after");
    let devices = plan(conn, &query.sql("d.key", device_list::IN_ORDER));
    let filter = SubscriptionFilter {
        device: filter,
        channel_prefix: String::new(),
    };
    let (mut query, columns) = subscription_list::query(conn, 1, &filter, few).unwrap();
    query.and(columns.after);
    [
        devices,
        plan(conn, &query.sql(columns.named, subscription_list::IN_ORDER)),
    ]
}

#[test]
fn each_list_walks_an_index_that_its_filter_narrows() {
    let conn = filled();
    let all = DeviceFilter::default;
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let assert_walks = |filter: DeviceFilter, few, steps: [&str; 2]| {
        for (plan, steps) in plans(&conn, filter, few).iter().zip(steps) {
            for step in steps.split("; ") {
                assert!(plan.contains(step), "{plan}\n has no {step}");
            }
            assert!(!plan.contains("SCAN d") && !plan.contains("SCAN s"), "{plan}");
        }
    };
    let id = "SEARCH d USING COVERING INDEX devices_by_id (app=? AND id=?)";
    let token = "SEARCH d USING INDEX devices_by_token (app=? AND token_hash=?)";
    let user = "SEARCH d USING COVERING INDEX devices_by_user (app=? AND user=?";
    let of_device = |step: &str| format!("{step}; SEARCH s USING COVERING INDEX subscriptions_by_device (key=?)");
    let (ids, tokens) = (texts(&["d1", "d2"]), texts(&["t1", "t2"]));
    assert_walks(DeviceFilter { ids, ..all() }, FEW, [id, &of_device(id)]);
    assert_walks(DeviceFilter { tokens, ..all() }, FEW, [token, &of_device(token)]);
    for users in [texts(&["u1"]), texts(&["u1", "u2"])] {
        assert_walks(DeviceFilter { users, ..all() }, FEW, [user, &of_device(user)]);
    }
    let channels = texts(&["a"]);
    let members = "USING PRIMARY KEY (app=? AND channel=?)";
    assert_walks(
        DeviceFilter {
            channels: channels.clone(),
            ..all()
        },
        FEW,
        [members, members],
    );
    let in_order = "SEARCH d USING COVERING INDEX devices_by_id (app=? AND id>?)";
    let by_device = "SEARCH s USING COVERING INDEX subscriptions_by_device ((key,channel)>(?,?))";
    assert_walks(all(), 0, [in_order, by_device]);
    assert_walks(all(), FEW, [in_order, "SEARCH s USING PRIMARY KEY (app=?)"]);
    let probes = format!("{in_order}; SEARCH s EXISTS USING COVERING INDEX subscriptions_by_device (key=?");
    assert_walks(
        DeviceFilter { channels, ..all() },
        0,
        [&format!("{probes} AND channel=?)"), by_device],
    );
    let channels = texts(&["a", "b"]);
    assert_walks(
        DeviceFilter { channels, ..all() },
        0,
        [&format!("{probes})"), by_device],
    );
}
