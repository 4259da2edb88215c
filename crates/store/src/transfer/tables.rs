//! What is moved: every table, its key, and what becomes of each column.

/// A table, of the same name on both sides.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The primary key: the order of the walk. These are among the columns.
    pub(super) key: &'static [&'static str],
    pub(super) columns: &'static [Column],
    /// The column whose numbers the database gives.
    pub(super) identity: Option<&'static str>,
}

/// A column.
pub(super) struct Column {
    /// In the source, …
    pub(super) from: &'static str,
    /// … and in the target.
    pub(super) to: &'static str,
    pub(super) kind: Kind,
}

/// How a value is written in the target. Each may be NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An app's number in the source, which becomes that in the target: `integer`.
    App,
    /// `bigint`
    Big,
    /// `smallint`
    Small,
    /// 0 or 1: `boolean`
    Flag,
    /// `text`
    Text,
    /// `bytea`
    Blob,
    /// A text whose SHA-256 begins with these 16 bytes: `bytea`
    Hash,
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column {
        from: name,
        to: name,
        kind,
    }
}

const fn renamed(from: &'static str, to: &'static str, kind: Kind) -> Column {
    Column { from, to, kind }
}

use Kind::{App, Big, Blob, Flag, Hash, Small, Text};

/// What PostgreSQL's index of an audience covers: `covered_token` of its first migration.
const COVERED_TOKEN: &str = "iif(length(token) <= 1000, token, NULL)";

/// All but the apps, which go first. Pushes come after the devices: a replica that knows a push's place in the log knows its audience.
pub(super) const TABLES: &[Table] = &[
    Table {
        name: "devices",
        key: &["key"],
        columns: &[
            column("key", Big),
            column("app", App),
            column("id", Text),
            column("provider", Small),
            column("platform", Small),
            column("platform_word", Text),
            column("token", Text),
            renamed("token", "token_hash", Hash),
            renamed("user", "user_id", Text),
            column("meta", Text),
            column("timezone", Text),
            column("locale", Text),
            column("created_at", Big),
            column("updated_at", Big),
        ],
        identity: Some("key"),
    },
    Table {
        name: "subscriptions",
        key: &["app", "channel", "route", "key"],
        columns: &[
            column("app", App),
            column("channel", Text),
            column("route", Small),
            column("key", Big),
            column("origins", Small),
            renamed(COVERED_TOKEN, "token", Text),
        ],
        identity: None,
    },
    Table {
        name: "gone",
        key: &["seq"],
        columns: &[
            column("seq", Big),
            column("app", App),
            column("id", Text),
            column("provider", Small),
            column("platform", Small),
            column("platform_word", Text),
            column("token", Text),
            renamed("user", "user_id", Text),
            column("meta", Text),
            column("timezone", Text),
            column("locale", Text),
            column("created_at", Big),
            column("updated_at", Big),
            column("subscriptions", Text),
            column("push_uid", Text),
            column("reason", Text),
            column("gone_at", Big),
        ],
        identity: Some("seq"),
    },
    Table {
        name: "pushes",
        key: &["key"],
        columns: &[
            column("key", Big),
            column("app", App),
            column("uid", Text),
            column("hash", Blob),
            column("state", Text),
            column("lane", Small),
            column("providers", Big),
            column("created_at", Big),
            column("due", Big),
            column("expires_at", Big),
            column("ended_at", Big),
            column("page_due", Big),
            column("route", Small),
            column("expected", Big),
            column("answered", Big),
            column("payload", Big),
            column("progress", Blob),
            column("channels", Text),
            column("targets", Blob),
            column("body", Blob),
        ],
        identity: Some("key"),
    },
    Table {
        name: "legs",
        key: &["push", "route"],
        columns: &[
            column("push", Big),
            column("route", Small),
            column("app", App),
            column("due", Big),
            column("cursor", Big),
            column("bound", Big),
            column("closed", Flag),
            column("next_seq", Big),
            column("targeted", Big),
            column("outstanding", Big),
            column("sent", Big),
            column("failed", Big),
            column("invalid", Big),
            column("skipped", Big),
            column("expired", Big),
            column("cancelled", Big),
            column("answered", Big),
            column("payload", Big),
            column("rejected", Flag),
            column("ended_at", Big),
        ],
        identity: None,
    },
    Table {
        name: "pages",
        key: &["id"],
        columns: &[
            column("id", Big),
            column("push", Big),
            column("route", Small),
            column("seq", Big),
            column("app", App),
            column("lane", Small),
            column("due", Big),
            column("after_key", Big),
            column("upto_key", Big),
            column("expected", Big),
            column("progress", Blob),
        ],
        identity: Some("id"),
    },
    Table {
        name: "page_targets",
        key: &["page"],
        columns: &[column("page", Big), column("targets", Blob)],
        identity: None,
    },
    Table {
        name: "holds",
        key: &["app", "route"],
        columns: &[
            column("app", App),
            column("route", Small),
            column("reason", Text),
            column("since", Big),
            column("paused_ms", Big),
        ],
        identity: None,
    },
];

impl Table {
    /// The columns in one of the two spellings, separated by commas.
    fn list(&self, name: impl Fn(&Column) -> &'static str) -> String {
        let names: Vec<_> = self.columns.iter().map(name).collect();
        names.join(", ")
    }

    /// Reads the source in the order of the key; behind a key, if one is given as parameters.
    pub(super) fn select(&self, behind: bool) -> String {
        let (columns, key) = (self.list(|column| column.from), self.key.join(", "));
        let marks = vec!["?"; self.key.len()].join(", ");
        let behind = if behind {
            format!(" WHERE ({key}) > ({marks})")
        } else {
            String::new()
        };
        format!("SELECT {columns} FROM {}{behind} ORDER BY {key}", self.name)
    }

    /// Takes rows in the target.
    pub(super) fn copy(&self) -> String {
        format!(
            "COPY {} ({}) FROM STDIN (FORMAT binary)",
            self.name,
            self.list(|column| column.to)
        )
    }

    /// Where the columns of the key stand among the columns.
    pub(super) fn key_places(&self) -> Vec<usize> {
        let place = |name: &&str| self.columns.iter().position(|column| column.from == *name);
        self.key.iter().filter_map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// How `SQLite` would walk, as text.
    fn plan(conn: &Connection, sql: &str) -> String {
        let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let nulls = vec![rusqlite::types::Null; statement.parameter_count()];
        let steps = statement.query_map(rusqlite::params_from_iter(nulls), |row| row.get::<_, String>(3));
        steps.unwrap().map(|step| step.unwrap() + "; ").collect()
    }

    #[test]
    fn every_walk_is_in_the_order_of_a_key_and_goes_on_without_reading_what_is_done() {
        let conn = Connection::open_in_memory().unwrap();
        for form in [
            include_str!("../../migrations/sqlite/0001_registry.sql"),
            include_str!("../../migrations/sqlite/0002_ledger.sql"),
            include_str!("../../migrations/sqlite/0003_covering_tokens.sql"),
        ] {
            conn.execute_batch(form).unwrap();
        }
        for table in TABLES {
            let (all, behind) = (plan(&conn, &table.select(false)), plan(&conn, &table.select(true)));
            assert!(!all.contains("TEMP B-TREE"), "{all}");
            assert!(
                behind.starts_with("SEARCH") && !behind.contains("TEMP B-TREE"),
                "{behind}"
            );
            assert_eq!(table.key_places().len(), table.key.len(), "{}", table.name);
        }
    }
}
