//! All rows of a database as text, the same for both kinds, by what PostgreSQL says of its columns.

use std::path::Path;

use bugle_testkit::postgres::Database;

const TABLES: [&str; 8] = [
    "devices",
    "subscriptions",
    "gone",
    "pushes",
    "legs",
    "pages",
    "page_targets",
    "holds",
];

/// Columns that only PostgreSQL has: all pages come free, and the hash is another one.
const ITS_OWN: [&str; 5] = ["lease_until", "epoch", "taker", "accepted_at_lsn", "token_hash"];

/// The tables with their columns and those's types.
fn columns(database: &Database, table: &str) -> Vec<(String, String)> {
    let sql = format!(
        "SELECT column_name, data_type FROM information_schema.columns
          WHERE table_schema = 'public' AND table_name = '{table}' ORDER BY ordinal_position"
    );
    let answer = database.query(&sql);
    let pair = |line: &str| line.split_once('|').map(|(a, b)| (a.to_owned(), b.to_owned()));
    let found: Vec<_> = answer.lines().filter_map(pair).collect();
    assert!(!found.is_empty(), "{table}");
    found
        .into_iter()
        .filter(|(name, _)| !ITS_OWN.contains(&name.as_str()))
        .collect()
}

/// Every row of the PostgreSQL database, and every row of the `SQLite` file in the same form and order.
pub(super) fn both(database: &Database, file: &Path) -> (Vec<String>, Vec<String>) {
    let (mut there, mut here) = (Vec::new(), Vec::new());
    // Reading needs no log: a log's file that a crash left behind is read, too.
    let conn = rusqlite::Connection::open_with_flags(file, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    for table in TABLES {
        let (mut postgres, mut sqlite) = (Vec::new(), Vec::new());
        for (name, kind) in columns(database, table) {
            let twin = if name == "user_id" { "user" } else { &name };
            let app = format!("coalesce((SELECT name FROM apps WHERE apps.key = {table}.app), '?')");
            let (a, b) = match (name.as_str(), kind.as_str()) {
                ("app", _) => (app.clone(), app),
                // Beside the subscriptions only in PostgreSQL, and only as long as an index can hold them.
                ("token", _) if table == "subscriptions" => (
                    "token".to_owned(),
                    "(SELECT token FROM devices d WHERE d.key = subscriptions.key AND length(token) <= 1000)"
                        .to_owned(),
                ),
                (_, "bigint" | "smallint" | "integer") => (format!("{name}::text"), format!("CAST({twin} AS TEXT)")),
                (_, "boolean") => (format!("{name}::integer::text"), format!("CAST({twin} AS TEXT)")),
                (_, "text") => (
                    format!("encode(convert_to({name}, 'UTF8'), 'hex')"),
                    // The hex of NULL is not NULL here.
                    format!("iif({twin} IS NULL, NULL, lower(hex({twin})))"),
                ),
                (_, "bytea") => (
                    format!("encode({name}, 'hex')"),
                    format!("iif({twin} IS NULL, NULL, lower(hex({twin})))"),
                ),
                (_, other) => panic!("{table}.{name} is a {other}: how does it compare?"),
            };
            postgres.push(format!("coalesce({a}, '~')"));
            sqlite.push(format!("coalesce({b}, '~')"));
        }
        let rows = database.query(&format!("SELECT {} FROM {table}", postgres.join(" || ' ' || ")));
        let mut rows: Vec<_> = rows.lines().map(|row| format!("{table}: {row}")).collect();
        rows.sort();
        there.append(&mut rows);

        let sql = format!("SELECT {} FROM {table}", sqlite.join(" || ' ' || "));
        let mut statement = conn.prepare(&sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let mut rows: Vec<_> = rows.map(|row| format!("{table}: {}", row.unwrap())).collect();
        rows.sort();
        here.append(&mut rows);
    }
    (there, here)
}

/// Asserts that both hold the same.
pub(super) fn assert_same(database: &Database, file: &Path) {
    let (there, here) = both(database, file);
    assert_eq!(there.len(), here.len());
    for (there, here) in there.iter().zip(&here) {
        assert_eq!(there, here);
    }
    let hashes = "SELECT count(*) FROM devices WHERE token_hash <> substring(sha256(convert_to(token, 'UTF8')) FOR 16)";
    assert_eq!(database.query(hashes), "0");
}
