use bugle_model::{DeviceFilter, Paging, Platform, Provider, SubscriptionFilter};
use bugle_testkit::postgres::Database;
use proptest::prelude::*;
use proptest::sample::subsequence;
use sqlx::{Connection as _, PgConnection};

use super::devices::{ROWS, by, page, query, removal};
use super::query::{Query, fetch};
use super::subscriptions::{NAMES, Walk};
use super::{FEW, devices, subscriptions};
use crate::postgres::{connect, migrate};
use crate::registry::place::Place;

/// A connection with the store's settings to a database in its form.
async fn connect(database: &Database) -> PgConnection {
    let mut conn = PgConnection::connect(&database.url()).await.unwrap();
    sqlx::raw_sql(connect::SETTINGS).execute(&mut conn).await.unwrap();
    migrate::migrate(&mut conn).await.unwrap();
    conn
}

/// Two apps with as many devices each, in a few channels, a few users.
async fn fill(conn: &mut PgConnection, devices: u32) {
    let sql = format!(
        "INSERT INTO apps (name) VALUES ('default'), ('tenant');
         INSERT INTO devices (app, id, provider, platform, platform_word, token, token_hash, user_id, meta, timezone, locale, created_at, updated_at)
            SELECT n % 2 + 1, 'd' || (n / 2 * 37 % {devices}), n / 2 % 4 + 1, n % 3 + 1, 'android', 't' || n, substr(sha256(('t' || n)::bytea), 1, 16),
                CASE n % 5 WHEN 0 THEN '' ELSE 'u' || n % {} END, '{{}}', '', '', 0, 0
            FROM generate_series(0, {devices} * 2 - 1) n;
         INSERT INTO subscriptions SELECT d.app, c.value, d.provider * 4 + d.platform, d.key, 1
            FROM devices d, unnest(ARRAY['a', 'ab', 'b', 'c', 'é']) WITH ORDINALITY c (value, n) WHERE d.key / 2 % c.n = 0;
         ANALYZE",
        (devices / 20).max(5)
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(conn).await.unwrap();
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn some(of: &[&str]) -> impl Strategy<Value = Vec<String>> + use<> {
    prop_oneof![1 => Just(Vec::new()), 1 => subsequence(texts(of), 1..3)]
}

fn filter() -> impl Strategy<Value = DeviceFilter> {
    let parts = (
        some(&["", "u1", "u2", "u\0"]),
        some(&["a", "ab", "c", "é", "none"]),
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

type Asked = (DeviceFilter, &'static str, String, u32);

/// What is read whole and sorted is compared with a naive model by the contract's tests.
async fn compare(conn: &mut PgConnection, (filter, prefix, after, limit): Asked) {
    let paging = Paging {
        after: Some(after),
        limit,
        count_total: true,
    };
    let mut lists = Vec::new();
    for few in [FEW, 0] {
        let list = devices(conn, 1, &filter, &paging, true, few).await.unwrap();
        let filter = SubscriptionFilter {
            device: filter.clone(),
            channel_prefix: prefix.to_owned(),
        };
        let subscribed = subscriptions(conn, 1, &filter, &paging, few).await.unwrap();
        assert!(list.items.is_sorted_by(|a, b| a.device.id < b.device.id));
        lists.push((
            (list.items, list.has_more, list.total),
            (subscribed.items, subscribed.has_more, subscribed.total),
        ));
    }
    assert_eq!(lists[0], lists[1], "{filter:?} {prefix:?} {paging:?}");
}

#[test]
fn a_walk_in_the_lists_order_finds_what_sorting_finds() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let database = bugle_testkit::postgres::database();
    let conn = runtime.block_on(async {
        let mut conn = connect(&database).await;
        fill(&mut conn, 60).await;
        tokio::sync::Mutex::new(conn)
    });
    let after = prop_oneof!["", "d2", "d5[0-9]", "d2\0[0-9]", "00000000000000[0-7][0-9a-f]-[abc]"];
    let asked = (
        filter(),
        prop_oneof![Just(""), Just("a"), Just("ab"), Just("c"), Just("c\0")],
        after,
        1..50_u32,
    );
    let result = proptest::test_runner::TestRunner::default().run(&asked, |asked| {
        runtime.block_on(async { compare(&mut *conn.lock().await, asked).await });
        Ok(())
    });
    result.unwrap();
}

/// What a statement walks.
async fn plan(conn: &mut PgConnection, query: Query) -> String {
    let lines = fetch(conn, query, |row| Ok(sqlx::Row::try_get::<String, _>(row, 0)?));
    lines.await.unwrap().join("\n")
}

/// Must walk these indexes and nothing else, and sort only where it may.
fn assert_walks(plan: &str, indexes: &[&str], sorts: bool) {
    let used = plan
        .lines()
        .filter(|line| line.contains(" using ") || line.contains("Bitmap Index Scan on"));
    let used: Vec<&str> = used.collect();
    assert_eq!(used.len(), indexes.len(), "{plan}");
    for index in indexes {
        assert!(used.iter().any(|line| line.contains(index)), "no {index}:\n{plan}");
    }
    assert_eq!(
        plan.matches("Index Cond").count(),
        indexes.len(),
        "an index is read from end to end:\n{plan}"
    );
    assert!(!plan.contains("Seq Scan"), "{plan}");
    assert_eq!(plan.contains("Sort"), sorts, "{plan}");
}

/// The plans of both lists with this filter, and what they are walked by.
async fn plans(conn: &mut PgConnection, filter: &DeviceFilter, few: i64) -> (String, String) {
    let by = by(conn, 1, filter, few).await.unwrap();
    let listed = query(&format!("EXPLAIN (COSTS OFF) {ROWS}"), by, 1, filter);
    let devices = plan(conn, page(listed, by, Some("d5"), 101)).await;
    let filter = SubscriptionFilter {
        device: filter.clone(),
        channel_prefix: String::new(),
    };
    let walk = Walk::of(conn, 1, &filter, few).await.unwrap();
    let place = Place::after("0000000000000002-a").unwrap();
    let listed = walk.page(&format!("EXPLAIN (COSTS OFF) {NAMES}"), 1, &filter, &place, 101);
    (devices, plan(conn, listed).await)
}

const ID: &str = "devices_by_id";
const OF_DEVICE: &str = "subscriptions_by_device";

async fn filled() -> (Database, PgConnection) {
    let database = bugle_testkit::postgres::database();
    let mut conn = connect(&database).await;
    fill(&mut conn, 20_000).await;
    (database, conn)
}

/// A filter that names devices, the index that they are found by, and whether they are sorted.
fn naming() -> [(DeviceFilter, &'static str, bool); 4] {
    let filters = [
        [&["d1", "d2"][..], &[], &[]],
        [&[], &["t2", "t4"], &[]],
        [&[], &[], &["u1"]],
        [&[], &[], &["u1", "u2"]],
    ];
    let indexes = [
        (ID, true),
        ("devices_by_token", true),
        ("devices_by_user", false),
        ("devices_by_user", true),
    ];
    let mut indexes = indexes.into_iter();
    filters.map(|[ids, tokens, users]| {
        let (index, sorts) = indexes.next().unwrap();
        let filter = DeviceFilter {
            ids: texts(ids),
            tokens: texts(tokens),
            users: texts(users),
            ..DeviceFilter::default()
        };
        (filter, index, sorts)
    })
}

#[tokio::test]
async fn lists_of_named_devices_walk_the_index_that_names_them() {
    let (_database, mut conn) = filled().await;
    for (filter, index, sorts) in naming() {
        let (devices, subscriptions) = plans(&mut conn, &filter, FEW).await;
        assert_walks(&devices, &[index], sorts);
        assert_walks(&subscriptions, &[index, OF_DEVICE], true);
        let removed = removal("EXPLAIN (COSTS OFF) SELECT d.key", 1, &filter, 256);
        assert_walks(&plan(&mut conn, removed).await, &[index], true);
        // The same devices of some channels, providers and platforms.
        let filter = DeviceFilter {
            channels: texts(&["a", "b"]),
            providers: vec![Provider::Fcm],
            platforms: vec![Platform::Ios],
            ..filter
        };
        let (devices, subscriptions) = plans(&mut conn, &filter, FEW).await;
        assert_walks(&devices, &[index, OF_DEVICE], sorts);
        assert_walks(&subscriptions, &[index, OF_DEVICE], true);
    }
}

#[tokio::test]
async fn all_other_lists_walk_few_members_or_the_lists_order() {
    let (_database, mut conn) = filled().await;
    let all = DeviceFilter::default;
    let of = |channels| DeviceFilter { channels, ..all() };
    let (devices, subscriptions) = plans(&mut conn, &of(texts(&["c"])), FEW).await;
    assert_walks(&devices, &["subscriptions_pkey", "devices_pkey"], true);
    assert_walks(&subscriptions, &["subscriptions_pkey"], true);
    for channels in [texts(&["c"]), texts(&["a", "b"])] {
        let (devices, subscriptions) = plans(&mut conn, &of(channels), 0).await;
        assert_walks(&devices, &[ID, OF_DEVICE], false);
        assert_walks(&subscriptions, &[OF_DEVICE], false);
    }
    let rare = DeviceFilter {
        providers: vec![Provider::Hms],
        platforms: vec![Platform::Web],
        ..all()
    };
    for filter in [all(), rare] {
        let (devices, subscriptions) = plans(&mut conn, &filter, 0).await;
        assert_walks(&devices, &[ID], false);
        assert_walks(&subscriptions, &[OF_DEVICE], false);
    }
    let nobody = DeviceFilter {
        users: texts(&["", "u1"]),
        ..all()
    };
    let (devices, subscriptions) = plans(&mut conn, &nobody, 0).await;
    assert_walks(&devices, &[ID], false);
    assert_walks(&subscriptions, &[OF_DEVICE, "devices_pkey"], false);
}
