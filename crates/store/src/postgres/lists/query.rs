//! What both lists say about devices.

use std::collections::BTreeSet;

use bugle_model::{DeviceFilter, Platform, Provider};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder, Row as _};

use crate::Result;
use crate::postgres::rows::token_hash;
use crate::registry::filter::By;

/// A statement on its way.
pub(super) type Query = QueryBuilder<Postgres>;

/// `SELECT` these columns of devices `d` that pass the filter, all its fields but `channels` (which say where to begin, for [`By::Members`]).
pub(super) fn devices(columns: &str, by: By, app: i32, filter: &DeviceFilter) -> Query {
    let mut query = Query::new(format!("{columns} FROM "));
    if by == By::Members {
        query
            .push("(SELECT DISTINCT key FROM subscriptions WHERE app = ")
            .push_bind(app);
        query.push(" AND channel = ANY(").push_bind(texts(&filter.channels));
        query.push(") OFFSET 0) m JOIN ");
    }
    query.push("devices d ");
    if by == By::Members {
        query.push("ON d.key = m.key ");
    }
    query.push("WHERE d.app = ").push_bind(app);
    if !filter.ids.is_empty() {
        query.push(" AND d.id = ANY(").push_bind(texts(&filter.ids)).push(")");
    }
    tokens(&mut query, filter);
    users(&mut query, by, &filter.users);
    if !filter.providers.is_empty() {
        mask(
            &mut query,
            filter.providers.iter().copied().map(Provider::code),
            "d.provider",
        );
    }
    if !filter.platforms.is_empty() {
        mask(
            &mut query,
            filter.platforms.iter().copied().map(Platform::code),
            "d.platform",
        );
    }
    query
}

fn tokens(query: &mut Query, filter: &DeviceFilter) {
    if filter.tokens.is_empty() {
        return;
    }
    let hashes: BTreeSet<_> = filter.tokens.iter().map(|token| token_hash(token)).collect();
    let hashes: Vec<Vec<u8>> = hashes.iter().map(|hash| hash.to_vec()).collect();
    // A hash stands for its token.
    query.push(" AND d.token_hash = ANY(").push_bind(hashes).push(")");
}

fn users(query: &mut Query, by: By, users: &[String]) {
    if let (By::User, [user]) = (by, users) {
        query
            .push(" AND d.user_id = ")
            .push_bind(text(user))
            .push(" AND d.user_id <> ''");
    } else if !users.is_empty() {
        query.push(" AND d.user_id = ANY(").push_bind(texts(users)).push(")");
        if by == By::Users {
            query.push(" AND d.user_id <> ''");
        }
    }
}

/// Only rows whose column has one of these codes. The planner takes a `CASE` for something that half of all rows pass, and for nothing that an index could help with.
pub(super) fn mask(query: &mut Query, codes: impl Iterator<Item = u8>, column: &str) {
    let bits = codes.fold(0_i32, |bits, code| bits | 1 << code);
    query
        .push(" AND CASE (")
        .push_bind(bits)
        .push(" >> ")
        .push(column)
        .push(") & 1 WHEN 1 THEN true ELSE false END");
}

/// The same without NUL, which no stored text has: nothing that is stored is between the two.
pub(super) fn text(text: &str) -> String {
    text.split('\0').next().unwrap_or_default().to_owned()
}

/// Each once, without those that no stored text can equal.
pub(super) fn texts(texts: &[String]) -> Vec<String> {
    let texts: BTreeSet<&String> = texts.iter().filter(|text| !text.contains('\0')).collect();
    texts.into_iter().cloned().collect()
}

/// Runs a statement that was put together and reads its rows.
pub(super) async fn fetch<T>(
    conn: &mut PgConnection,
    mut query: Query,
    read: fn(&PgRow) -> Result<T>,
) -> Result<Vec<T>> {
    // There are too many forms to keep a plan for each.
    let rows = query.build().persistent(false).fetch_all(conn).await?;
    rows.iter().map(read).collect()
}

/// Runs a statement that selects a count.
pub(super) async fn count(conn: &mut PgConnection, query: Query) -> Result<u64> {
    let counts = fetch(conn, query, |row| Ok(row.try_get::<i64, _>(0)?)).await?;
    Ok(counts.first().map_or(0, |count| u64::try_from(*count).unwrap_or(0)))
}

/// Does the statement, which selects anything, have more rows than so many?
pub(super) async fn exceeds(conn: &mut PgConnection, mut query: Query, rows: i64) -> Result<bool> {
    query.push(" LIMIT 1 OFFSET ").push_bind(rows);
    Ok(!fetch(conn, query, |_| Ok(())).await?.is_empty())
}
