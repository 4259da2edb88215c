//! What the ledger's statements walk: every statement in the sources is explained.

use super::world::World;
use crate::backend::Backend;
use crate::sources;

/// All there is of these is wanted, and it is little.
const MAY_SCAN: &[&str] = &["SCAN holds", "SCAN legs USING COVERING INDEX legs_waiting"];

/// Every statement of the ledger.
fn statements() -> Vec<String> {
    let all = sources::statements("src/sqlite/ledger");
    assert!(all.len() > 50, "the statements are no longer found: {}", all.len());
    all
}

#[tokio::test]
async fn no_statement_scans_a_table_or_sorts() {
    let world = World::new(Backend::Sqlite).await;
    let conn = rusqlite::Connection::open(world.place.dir().join("bugle.db")).unwrap();
    for sql in statements() {
        let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = explain.raw_query().mapped(|row| row.get::<_, String>(3));
        for step in steps.map(Result::unwrap) {
            let scans = step.starts_with("SCAN ") && step != "SCAN CONSTANT ROW" && !MAY_SCAN.contains(&step.as_str());
            assert!(!scans && !step.contains("TEMP B-TREE"), "{step}\n{sql}");
        }
    }
}

/// The index that a statement beginning so uses.
#[tokio::test]
async fn the_hot_statements_use_the_indexes_that_were_made_for_them() {
    let world = World::new(Backend::Sqlite).await;
    let conn = rusqlite::Connection::open(world.place.dir().join("bugle.db")).unwrap();
    let hot = [
        ("SELECT l.push, l.route, p.app", "legs_open"),
        (
            "SELECT app, route FROM pages",
            "COVERING INDEX pages_by_due (lane=? AND (app,route)>(?,?))",
        ),
        (
            "SELECT due, push, seq FROM pages",
            "COVERING INDEX pages_by_due (lane=? AND app=? AND route=? AND due<?)",
        ),
        (
            "SELECT app, route FROM pushes",
            "INDEX pushes_by_due (lane=? AND (app,route)>(?,?))",
        ),
        (
            "SELECT page_due, key, 0",
            "INDEX pushes_by_due (lane=? AND app=? AND route=? AND page_due<?)",
        ),
        (
            "SELECT key, token FROM subscriptions",
            "PRIMARY KEY (app=? AND channel=? AND route=? AND key>? AND key<?)",
        ),
        (
            "SELECT key FROM subscriptions",
            "PRIMARY KEY (app=? AND channel=? AND route=? AND key>? AND key<?)",
        ),
        (
            "SELECT key FROM pushes WHERE ended_at IS NULL AND state IN ('running'",
            "pushes_by_expiry (expires_at<?)",
        ),
        (
            "SELECT key FROM pushes WHERE ended_at IS NULL AND state IN ('cancelled'",
            "pushes_closing",
        ),
        ("SELECT push, route FROM legs WHERE rejected", "legs_rejected"),
        ("SELECT key FROM pushes WHERE ended_at IS NOT NULL", "pushes_by_end"),
    ];
    let statements = statements();
    for (begin, index) in hot {
        let sql = statements.iter().find(|sql| sql.starts_with(begin)).expect(begin);
        let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps: Vec<String> = explain
            .raw_query()
            .mapped(|row| row.get(3))
            .map(Result::unwrap)
            .collect();
        assert!(steps.iter().any(|step| step.contains(index)), "{sql}\n{steps:#?}");
    }
}
