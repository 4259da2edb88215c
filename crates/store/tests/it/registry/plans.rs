//! What the registry's statements walk in PostgreSQL: every whole statement in the sources is explained. Those of lists, which are put together, have their own test beside
//! their code.

use bugle_testkit::postgres::Database;

use crate::backend::{Backend, Place};
use crate::fixture::Fresh;
use crate::sources;

const SOURCES: &[&str] = &[
    include_str!("../../../src/postgres/apps.rs"),
    include_str!("../../../src/postgres/devices.rs"),
    include_str!("../../../src/postgres/gone.rs"),
    include_str!("../../../src/postgres/lists/devices.rs"),
    include_str!("../../../src/postgres/lists/subscriptions.rs"),
    include_str!("../../../src/postgres/subscriptions.rs"),
    include_str!("../../../src/postgres/written.rs"),
];

/// Statements whose few rows (a group's, a page's) are sorted, each with what they are sorted for.
const MAY_SORT: &[(&str, &str)] = &[
    (
        "SELECT d.key, d.app, d.provider, d.token_hash, d.updated_at",
        "locks of the dead, by key",
    ),
    ("SELECT d.key, d.app, d.id,", "locks of a group, by key"),
    (
        "SELECT key FROM devices WHERE key = ANY($1) AND updated_at",
        "locks of a step, by key",
    ),
    (
        "SELECT s.key, s.channel FROM (SELECT unnest",
        "a page out of each channel's next rows",
    ),
    ("INSERT INTO devices (app, id,", "a step of those who come back"),
];

/// The index that a statement beginning so walks.
const INDEXES: &[(&str, &str)] = &[
    ("SELECT d.key, d.app, d.id,", "devices_by_id"),
    ("SELECT d.key, d.app, d.id,", "devices_by_token"),
    ("SELECT d.key, d.app, d.id,", "devices_pkey"),
    ("SELECT d.key, d.app, d.provider, d.token_hash", "devices_by_token"),
    ("SELECT key, provider, platform FROM devices", "devices_by_id"),
    ("SELECT key, updated_at FROM devices", "devices_pkey"),
    ("SELECT seq, gone_at", "gone_by_time"),
    ("SELECT s.key, s.channel FROM (SELECT unnest", "subscriptions_pkey"),
    ("SELECT key, channel, origins", "subscriptions_by_device"),
    (
        "SELECT key, channel FROM subscriptions WHERE key",
        "subscriptions_by_device",
    ),
    ("UPDATE devices d SET updated_at", "devices_pkey"),
    ("UPDATE devices d SET provider", "devices_pkey"),
    ("UPDATE subscriptions s SET route", "subscriptions_by_device"),
    ("DELETE FROM subscriptions s USING", "subscriptions_"),
    ("DELETE FROM subscriptions WHERE app", "subscriptions_"),
    ("DELETE FROM subscriptions WHERE key", "subscriptions_by_device"),
    ("DELETE FROM devices WHERE key", "devices_pkey"),
    ("DELETE FROM gone WHERE seq = ANY(ARRAY", "gone_by_age"),
];

fn statements() -> Vec<&'static str> {
    let all: Vec<_> = (SOURCES.iter().copied())
        .flat_map(sources::statements_in)
        .filter(|text| text.contains('$'))
        .collect();
    assert!(all.len() > 22, "the statements are no longer found: {}", all.len());
    all
}

/// What each connection of the store sets.
fn settings() -> String {
    let source = include_str!("../../../src/postgres/connect.rs");
    let text = source
        .split('"')
        .find(|text| text.starts_with("SET lock_timeout"))
        .unwrap();
    text.replace("\\\n", "")
}

/// The plan that all parameters share.
fn plan(database: &Database, sql: &str) -> String {
    let parameters = (1..20).take_while(|number| sql.contains(&format!("${number}"))).count();
    let nulls = vec!["NULL"; parameters].join(", ");
    database.query(&format!(
        "{}; PREPARE asked AS {sql}; EXPLAIN (COSTS OFF) EXECUTE asked({nulls})",
        settings()
    ))
}

/// Is it a walk of a whole index? A condition on the index stands in the lines below the node, before the next one.
fn scans(plan: &str) -> bool {
    let mut lines = plan.lines().peekable();
    while let Some(line) = lines.next() {
        if line.contains("Seq Scan") {
            return true;
        }
        if line.contains("Index Scan") || line.contains("Index Only Scan") {
            let mut bounded = false;
            while let Some(detail) = lines.next_if(|line| !line.contains("->")) {
                bounded |= detail.contains("Index Cond");
            }
            if !bounded {
                return true;
            }
        }
    }
    false
}

fn fill(database: &Database) {
    drop(database.query(
        "INSERT INTO apps (name) SELECT 'app' || n FROM generate_series(1, 20) n;
         INSERT INTO devices (app, id, provider, platform, platform_word, token, token_hash, user_id, meta, timezone, locale, created_at, updated_at)
            SELECT n % 20 + 1, 'd' || n, n % 4 + 1, n % 3 + 1, 'android', 't' || n, sha256(('t' || n)::bytea), 'u' || n % 10000, '{}', '', '', n, n
            FROM generate_series(1, 40000) n;
         INSERT INTO subscriptions SELECT app, 'c' || c, provider * 4 + platform, key, 1 FROM devices, generate_series(1, 3) c;
         INSERT INTO gone (app, id, provider, platform, platform_word, token, user_id, meta, timezone, locale, created_at, updated_at,
               subscriptions, push_uid, reason, gone_at)
            SELECT app, id, provider, platform, platform_word, token, user_id, meta, timezone, locale, created_at, updated_at, '[]', '', '', key FROM devices;
         ANALYZE",
    ));
}

#[tokio::test]
async fn no_statement_scans_a_table_or_sorts_more_than_a_step() {
    let fresh = Fresh::new(Backend::Postgres).await;
    let Place::Postgres(database) = &fresh.place else {
        unreachable!()
    };
    let statements = statements();
    let mut wrong = Vec::new();
    for round in ["empty", "filled"] {
        if round == "filled" {
            fill(database);
        }
        for sql in &statements {
            let plan = plan(database, sql);
            if scans(&plan) {
                wrong.push(format!("{round}: {sql}\nreads an index from end to end:\n{plan}"));
            }
            let may_sort = MAY_SORT.iter().any(|(begin, _)| sql.starts_with(begin));
            if !may_sort && plan.contains("Sort") {
                wrong.push(format!("{round}: {sql}\nsorts:\n{plan}"));
            }
        }
        for (begin, index) in INDEXES {
            let sql = statements.iter().find(|sql| sql.starts_with(begin)).expect(begin);
            let plan = plan(database, sql);
            if !plan.contains(index) {
                wrong.push(format!("{round}: {sql}\nwithout {index}:\n{plan}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
