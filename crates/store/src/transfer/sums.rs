//! Counts and sums of both sides, to be compared: every number, and the length of every text and blob.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, Row};

use super::tables::{Column, Kind, TABLES, Table};
use super::target::Target;
use super::{Counted, Source};
use crate::{Error, Result};

/// Numbers are summed by what is left of them, so that no sum of times overflows.
const DIVISOR: i64 = 1_000_000_007;

/// Which database a query is for.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Target,
}

/// Compares every table; answers the counts.
pub(super) async fn compare(source: &Source, target: &mut Target) -> Result<Vec<Counted>> {
    let mut counted = Vec::with_capacity(TABLES.len());
    for table in TABLES {
        let there = of_source(source, table)?;
        let here = of_target(target, table).await?;
        let (Some(&wanted), Some(&found)) = (there.first(), here.first()) else {
            continue;
        };
        if wanted != found {
            return Err(Error::Setup(format!(
                "{}: {wanted} rows in SQLite, {found} in PostgreSQL: somebody has written to the target. Give an empty database and begin anew",
                table.name
            )));
        }
        let differing = there.iter().zip(&here).skip(1).position(|(a, b)| a != b);
        if let Some(column) = differing.and_then(|place| summed(table).nth(place)) {
            return Err(Error::Setup(format!(
                "{}.{}: the sums over {wanted} rows differ between SQLite and PostgreSQL: somebody has written to the target. Give an empty database and begin anew",
                table.name, column.to
            )));
        }
        counted.push(Counted {
            table: table.name,
            source: wanted.cast_unsigned(),
            target: found.cast_unsigned(),
        });
    }
    Ok(counted)
}

/// The columns whose values are the same on both sides.
fn summed(table: &Table) -> impl Iterator<Item = &Column> {
    let columns = table.columns.iter();
    columns.filter(|column| !matches!(column.kind, Kind::App | Kind::Hash))
}

/// `SELECT count(*), sum…`, all of them 64-bit numbers.
fn query(table: &Table, side: Side) -> String {
    let mut sql = "SELECT count(*)".to_owned();
    for column in summed(table) {
        let name = match side {
            Side::Source => column.from,
            Side::Target => column.to,
        };
        let value = match (column.kind, side) {
            (Kind::Text | Kind::Blob, _) => format!("octet_length({name})"),
            (Kind::Flag, Side::Target) => format!("{name}::integer"),
            _ => format!("{name} % {DIVISOR}"),
        };
        let cast = match side {
            Side::Source => "",
            Side::Target => "::bigint",
        };
        let _ = write!(sql, ", coalesce(sum({value}), 0){cast}");
    }
    sql + " FROM " + table.name
}

fn of_source(source: &Source, table: &Table) -> Result<Vec<i64>> {
    let mut statement = source.conn().prepare(&query(table, Side::Source))?;
    let columns = statement.column_count();
    let sums = statement.query_row([], |row| (0..columns).map(|place| row.get(place)).collect())?;
    Ok(sums)
}

async fn of_target(target: &mut Target, table: &Table) -> Result<Vec<i64>> {
    let sql = AssertSqlSafe(query(table, Side::Target));
    let row = sqlx::query(sql).fetch_one(target.conn()).await?;
    let sums: std::result::Result<Vec<i64>, sqlx::Error> = (0..row.len()).map(|place| row.try_get(place)).collect();
    Ok(sums?)
}
