//! What the ledger's statements walk on PostgreSQL: every statement in the sources is explained over tables of some size, as the generic plan that serves any arguments.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::backend::{Backend, Place};
use crate::sources;

/// All there is of it is wanted, and it is little.
const MAY_SCAN: &[&str] = &["Seq Scan on holds"];

/// So many rows may be sorted: what one call names or asks for, not what a table holds.
const FEW: f64 = 1_000.0;

/// A ledger that has worked for a while: most pushes have ended, some thousand pages wait.
const FILL: &str = "
    INSERT INTO apps (name) SELECT 'app' || n FROM generate_series(1, 5) n;
    INSERT INTO devices (app, id, provider, platform, platform_word, token, token_hash, user_id, meta, timezone, locale, created_at, updated_at)
      SELECT n % 5 + 1, 'd' || n, 1, n % 2 + 1, 'android', 'token-' || n, decode(md5(n::text), 'hex'), 'u' || n % 9000, '{}', '', '', n, n
        FROM generate_series(1, 40000) n;
    INSERT INTO subscriptions (app, channel, route, key, origins, token)
      SELECT n % 5 + 1, 'c' || n % 40, 4 + n % 2 + 1, n, 1, 'token-' || n FROM generate_series(1, 40000) n;
    INSERT INTO pushes (app, uid, hash, state, lane, providers, created_at, due, expires_at, ended_at, page_due, route, expected, channels, targets, body, lease_until)
      SELECT n % 5 + 1, 'p' || n, 'h', CASE WHEN n % 10 > 0 THEN 'done' WHEN n % 300 = 0 THEN 'cancelled' ELSE 'running' END, n % 2, 2, n, n, 100000 + n,
             CASE WHEN n % 10 > 0 THEN n END, CASE WHEN n % 20 = 0 THEN n END, n % 3, 3, '[\"c1\"]', 'x', 'y', CASE WHEN n % 40 = 0 THEN now() END
        FROM generate_series(1, 40000) n;
    INSERT INTO legs (push, route, app, due, closed, outstanding, rejected, ended_at)
      SELECT n, 4 + r, n % 5 + 1, n, n % 10 > 0 OR r = 2, CASE WHEN n % 10 > 0 THEN 0 ELSE 1000 END, n % 500 = 0, CASE WHEN n % 10 > 0 THEN n END
        FROM generate_series(1, 40000) n, generate_series(1, 2) r;
    INSERT INTO pages (push, route, seq, app, lane, due, after_key, upto_key, expected, progress, lease_until)
      SELECT n - n % 10, 4 + n % 2 + 1, n, n % 5 + 1, n % 2, n, n, CASE WHEN n % 4 > 0 THEN n + 1000 END, 1000, 'x', CASE WHEN n % 3 = 0 THEN now() END
        FROM generate_series(1, 30000) n;
    INSERT INTO page_targets (page, targets) SELECT n, 'x' FROM generate_series(1, 30000, 4) n;
    INSERT INTO gone (app, id, provider, platform, platform_word, token, user_id, meta, timezone, locale, created_at, updated_at, subscriptions, push_uid, reason, gone_at)
      SELECT n % 5 + 1, 'g' || n, 1, 1, 'android', 't', '', '{}', '', '', n, n, '[]', 'p', 'r', n FROM generate_series(1, 20000) n;
    INSERT INTO holds (app, route, reason, since, paused_ms) SELECT n, 5, 'outage', n, 0 FROM generate_series(1, 5) n;
    VACUUM ANALYZE apps; VACUUM ANALYZE devices; VACUUM ANALYZE subscriptions; VACUUM ANALYZE pushes; VACUUM ANALYZE legs;
    VACUUM ANALYZE pages; VACUUM ANALYZE page_targets; VACUUM ANALYZE gone; VACUUM ANALYZE holds";

/// Every statement of the ledger.
fn statements() -> Vec<String> {
    let all = sources::statements("src/postgres/ledger");
    assert!(all.len() > 70, "the statements are no longer found: {}", all.len());
    all
}

/// A database with something in it, and a connection to it.
async fn filled() -> (Place, PgConnection) {
    let place = Backend::Postgres.place();
    let clock = std::sync::Arc::new(bugle_testkit::TestClock::new());
    let store = place
        .open(
            &bugle_store::Config::default(),
            clock,
            std::sync::Arc::new(crate::fixture::Deaf),
        )
        .await;
    drop(store.unwrap());
    let Place::Postgres(database) = &place else {
        unreachable!("it is PostgreSQL")
    };
    let mut conn = PgConnection::connect(&database.url()).await.unwrap();
    for statement in FILL.split(';') {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut conn)
            .await
            .unwrap();
    }
    (place, conn)
}

/// The lines of a statement's plan.
async fn plan(conn: &mut PgConnection, sql: &str) -> Vec<String> {
    let run = |text: String| sqlx::raw_sql(AssertSqlSafe(text));
    run(format!("PREPARE explained AS {sql}"))
        .execute(&mut *conn)
        .await
        .unwrap_or_else(|e| panic!("{e}\n{sql}"));
    let arguments: i64 = sqlx::query_scalar(
        "SELECT cardinality(parameter_types)::bigint FROM pg_prepared_statements WHERE name = 'explained'",
    )
    .fetch_one(&mut *conn)
    .await
    .unwrap();
    let nulls = vec!["NULL"; usize::try_from(arguments).unwrap()].join(", ");
    let execute = if nulls.is_empty() {
        String::new()
    } else {
        format!("({nulls})")
    };
    let lines = run(format!("EXPLAIN EXECUTE explained{execute}"))
        .fetch_all(&mut *conn)
        .await
        .unwrap();
    run("DEALLOCATE explained".to_owned()).execute(conn).await.unwrap();
    lines.iter().map(|row| sqlx::Row::get(row, 0)).collect()
}

/// The planner's estimate in a line `Sort  (cost=… rows=N width=…)`.
fn rows(line: &str) -> f64 {
    let text = line.split("rows=").nth(1).and_then(|rest| rest.split(' ').next());
    text.unwrap().parse().unwrap()
}

#[tokio::test]
async fn no_statement_scans_a_table_or_sorts_one() {
    let (_place, mut conn) = filled().await;
    sqlx::raw_sql("SET plan_cache_mode = force_generic_plan")
        .execute(&mut conn)
        .await
        .unwrap();
    let mut wrong = Vec::new();
    for sql in statements() {
        let lines = plan(&mut conn, &sql).await;
        let is_wrong = lines.iter().any(|line| {
            let scans = line.contains("Seq Scan") && !MAY_SCAN.iter().any(|may| line.contains(may));
            let whole = ["Sort ", "Hash ", "HashAggregate", "Materialize"].iter().any(|node| {
                line.trim_start()
                    .trim_start_matches("->")
                    .trim_start()
                    .starts_with(node)
                    && line.contains("rows=")
                    && rows(line) > FEW
            });
            scans || whole
        });
        if is_wrong {
            wrong.push(format!("{sql}\n{}", lines.join("\n")));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} statements:\n\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

/// What a statement beginning so reads, and how.
#[tokio::test]
async fn the_hot_statements_use_the_indexes_that_were_made_for_them() {
    let (_place, mut conn) = filled().await;
    sqlx::raw_sql("SET plan_cache_mode = force_generic_plan")
        .execute(&mut conn)
        .await
        .unwrap();
    let statements = statements();
    let hot = [
        (
            "SELECT array_agg(key) FROM (\n",
            "Index Only Scan using subscriptions_pkey",
        ),
        ("WITH RECURSIVE cut AS", "Index Only Scan using subscriptions_pkey"),
        (
            "SELECT w.stream, next.key, next.token",
            "Index Only Scan using subscriptions_tokens",
        ),
        ("SELECT key, token FROM devices WHERE key = ANY", "devices_pkey"),
        (
            "SELECT key FROM subscriptions WHERE",
            "Index Only Scan using subscriptions_pkey",
        ),
        ("SELECT l.push, l.route, l.app, l.outstanding", "using legs_open"),
        (
            "SELECT app, route, sum(outstanding)",
            "Index Only Scan using legs_waiting",
        ),
        ("SELECT p.id, p.push, p.route", "using pages_by_id"),
        ("SELECT w.at, c.id, c.seq", "pages_by_due"),
        ("SELECT due, push, seq FROM pages", "using pages_by_due"),
        ("SELECT page_due, key", "using pushes_by_due"),
        ("SELECT d.key, d.provider", "using devices_by_id"),
    ];
    for (begin, index) in hot {
        let sql = statements.iter().find(|sql| sql.starts_with(begin)).expect(begin);
        let lines = plan(&mut conn, sql).await;
        assert!(lines.iter().any(|line| line.contains(index)), "{sql}\n{lines:#?}");
    }
}
