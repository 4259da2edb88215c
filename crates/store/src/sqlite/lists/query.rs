//! A statement that is put together from fixed pieces. Whatever comes from outside is bound, never pasted.

use bugle_model::{DeviceFilter, Platform, Provider};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, ToSql};

use crate::Result;
use crate::registry::filter::By;
use crate::sqlite::rows::token_hash;

/// `FROM …`, `WHERE …` and what is bound in them.
pub(super) struct Query {
    from: String,
    clauses: String,
    params: Vec<(&'static str, Value)>,
}

/// The tables that a list of devices is walked in.
fn tables(by: By) -> &'static str {
    match by {
        By::Ids => "json_each(:ids) j CROSS JOIN devices d INDEXED BY devices_by_id ON d.id = j.value",
        By::Tokens => {
            "json_each(:hashes) j CROSS JOIN devices d INDEXED BY devices_by_token ON d.token_hash = j.value"
        }
        By::User => "devices d INDEXED BY devices_by_user",
        By::Users => "json_each(:users) j CROSS JOIN devices d INDEXED BY devices_by_user ON d.user = j.value",
        By::Members => {
            "(SELECT DISTINCT key FROM subscriptions WHERE app = :app AND channel IN (SELECT value FROM json_each(:channels))) j
             CROSS JOIN devices d NOT INDEXED ON d.key = j.key"
        }
        By::Order => "devices d INDEXED BY devices_by_id",
    }
}

impl Query {
    /// From these tables, without a condition.
    pub(super) fn from(from: &str) -> Self {
        Self {
            from: from.to_owned(),
            clauses: "1".to_owned(),
            params: Vec::new(),
        }
    }

    /// The devices of an app that pass the filter, all its fields but `channels`.
    pub(super) fn devices(by: By, app: i64, filter: &DeviceFilter) -> Self {
        let mut query = Self::from(tables(by));
        query.and("d.app = :app").bind(":app", app);
        if by == By::Ids {
            query.bind(":ids", json_texts(&filter.ids));
        }
        query.tokens(by, &filter.tokens);
        query.users(by, &filter.users);
        if !filter.providers.is_empty() {
            let bits = bits(filter.providers.iter().copied().map(Provider::code));
            query.and("(:providers >> d.provider) & 1").bind(":providers", bits);
        }
        if !filter.platforms.is_empty() {
            let bits = bits(filter.platforms.iter().copied().map(Platform::code));
            query.and("(:platforms >> d.platform) & 1").bind(":platforms", bits);
        }
        query
    }

    fn tokens(&mut self, by: By, tokens: &[String]) {
        if tokens.is_empty() {
            return;
        }
        self.and("d.token IN (SELECT value FROM json_each(:tokens))")
            .bind(":tokens", json_texts(tokens));
        if by == By::Tokens {
            let mut hashes: Vec<_> = tokens.iter().map(|token| token_hash(token)).collect();
            hashes.sort_unstable();
            hashes.dedup();
            let hashes: Vec<_> = hashes.iter().map(i64::to_string).collect();
            self.bind(":hashes", format!("[{}]", hashes.join(",")));
        }
    }

    fn users(&mut self, by: By, users: &[String]) {
        match (by, users) {
            (_, []) => {}
            (By::User, [user, ..]) => {
                self.and("d.user = :user AND d.user <> ''").bind(":user", user.clone());
            }
            (By::Users, _) => {
                self.and("d.user <> ''").bind(":users", json_texts(users));
            }
            _ => {
                self.and("d.user IN (SELECT value FROM json_each(:users))")
                    .bind(":users", json_texts(users));
            }
        }
    }

    /// Goes on to another table, for each row found so far.
    pub(super) fn then(&mut self, table: &str) -> &mut Self {
        self.from.push_str(" CROSS JOIN ");
        self.from.push_str(table);
        self
    }

    /// One more condition.
    pub(super) fn and(&mut self, clause: &str) -> &mut Self {
        self.clauses.push_str(" AND ");
        self.clauses.push_str(clause);
        self
    }

    /// The value of a name that stands in the statement.
    pub(super) fn bind(&mut self, name: &'static str, value: impl Into<Value>) -> &mut Self {
        self.params.push((name, value.into()));
        self
    }

    /// How many rows there are.
    pub(super) fn count(&self, conn: &Connection) -> Result<u64> {
        let counts = self.select(conn, "count(*)", "", |row| Ok(row.get::<_, i64>(0)?))?;
        Ok(counts.first().map_or(0, |count| u64::try_from(*count).unwrap_or(0)))
    }

    /// Are there more rows than so many?
    pub(super) fn exceeds(&self, conn: &Connection, count: i64) -> Result<bool> {
        let one = self.select(conn, "1", &format!("LIMIT 1 OFFSET {count}"), |_| Ok(()))?;
        Ok(!one.is_empty())
    }

    /// The statement.
    pub(super) fn sql(&self, columns: &str, tail: &str) -> String {
        format!("SELECT {columns} FROM {} WHERE {} {tail}", self.from, self.clauses)
    }

    /// The rows, read one by one.
    pub(super) fn select<T>(
        &self,
        conn: &Connection,
        columns: &str,
        tail: &str,
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let sql = self.sql(columns, tail);
        let params: Vec<(&str, &dyn ToSql)> = self.params.iter().map(|(name, value)| (*name, value as _)).collect();
        let mut statement = conn.prepare_cached(&sql)?;
        let mut rows = statement.query(params.as_slice())?;
        let mut items = Vec::new();
        while let Some(row) = rows.next()? {
            items.push(read(row)?);
        }
        Ok(items)
    }
}

/// Texts as a JSON array without repetitions: each member is looked up once.
pub(super) fn json_texts(texts: &[String]) -> String {
    let texts: std::collections::BTreeSet<&str> = texts.iter().map(String::as_str).collect();
    serde_json::Value::from_iter(texts).to_string()
}

/// A set of small numbers as a mask.
pub(super) fn bits(codes: impl Iterator<Item = u8>) -> i64 {
    codes.fold(0, |bits, code| bits | 1 << code)
}
