//! Reads the source and writes rows as `COPY … (FORMAT binary)` takes them.
//!
//! ```text
//! signature · flags · extension · n × (number of columns: 2 bytes, columns × (length: 4 bytes, -1 = NULL; value)) · -1: 2 bytes
//! ```
//!
//! Numbers are big-endian; a text is its UTF-8.

use std::collections::HashMap;
use std::thread::JoinHandle;

use aws_lc_rs::digest::{SHA256, digest};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row, params_from_iter};
use tokio::sync::mpsc;

use super::tables::{Column, Kind, TABLES, Table};
use super::{Source, StepSize};
use crate::{Error, Result, sqlite};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// No flags, no extension.
const HEADER: [u8; 8] = [0; 8];
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// Bytes of a token's SHA-256 that the target's index has.
const HASH_BYTES: usize = 16;

/// How far a table has been moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The last key that is in the target, as JSON; `None` = none yet.
    pub(super) key: Option<String>,
    /// Rows that are in the target.
    pub(super) rows: u64,
    pub(super) done: bool,
}

/// Rows of one table, to be written at once.
pub(super) struct ReadStep {
    pub(super) table: &'static Table,
    /// For `COPY`.
    pub(super) data: Vec<u8>,
    pub(super) rows: u64,
    /// The last row's key, as JSON; `None` = the table ends here.
    pub(super) key: Option<String>,
}

/// Starts a thread that reads all tables on from their places. It ends with the first error, or when nobody listens.
pub(super) fn start(
    source: &Source,
    apps: HashMap<i64, i32>,
    places: Vec<Place>,
    size: StepSize,
    steps: mpsc::Sender<Result<ReadStep>>,
) -> Result<JoinHandle<()>> {
    let path = source.path().to_owned();
    let read = move || {
        let tried = sqlite::read_only(&path).and_then(|(conn, ..)| {
            let reader = Reader {
                conn,
                apps,
                size,
                steps: &steps,
            };
            TABLES
                .iter()
                .zip(&places)
                .try_for_each(|(table, place)| reader.table(table, place))
        });
        if let Err(error) = tried {
            let _ = steps.blocking_send(Err(error));
        }
    };
    std::thread::Builder::new()
        .name("bugle-transfer".to_owned())
        .spawn(read)
        .map_err(|error| Error::Unavailable(error.into()))
}

struct Reader<'a> {
    conn: Connection,
    apps: HashMap<i64, i32>,
    size: StepSize,
    steps: &'a mpsc::Sender<Result<ReadStep>>,
}

impl Reader<'_> {
    fn table(&self, table: &'static Table, place: &Place) -> Result<()> {
        if place.done {
            return Ok(());
        }
        let behind = place.key.as_deref().map(read_key).transpose()?;
        let mut statement = self.conn.prepare(&table.select(behind.is_some()))?;
        let mut rows = statement.query(params_from_iter(behind.unwrap_or_default()))?;
        let key = table.key_places();
        let mut step = empty(table);
        while let Some(row) = rows.next()? {
            self.enter(&mut step, row)?;
            if step.rows >= self.size.rows || step.data.len() >= self.size.bytes {
                step.key = Some(write_key(row, &key)?);
                if !self.hand_on(std::mem::replace(&mut step, empty(table))) {
                    return Ok(());
                }
            }
        }
        self.hand_on(step);
        Ok(())
    }

    /// `false` = nobody listens any more.
    fn hand_on(&self, mut step: ReadStep) -> bool {
        step.data.extend_from_slice(&TRAILER);
        self.steps.blocking_send(Ok(step)).is_ok()
    }

    fn enter(&self, step: &mut ReadStep, row: &Row<'_>) -> Result<()> {
        let table = step.table;
        let columns = u16::try_from(table.columns.len()).unwrap_or(u16::MAX);
        step.data.extend_from_slice(&columns.to_be_bytes());
        for (place, column) in table.columns.iter().enumerate() {
            let value = row.get_ref(place)?;
            let written = self.value(&mut step.data, column.kind, value);
            if let Err(problem) = written {
                return Err(wrong(table, column, &write_key(row, &table.key_places())?, problem));
            }
        }
        step.rows += 1;
        Ok(())
    }

    fn value(&self, data: &mut Vec<u8>, kind: Kind, value: ValueRef<'_>) -> std::result::Result<(), &'static str> {
        match (kind, value) {
            (_, ValueRef::Null) => data.extend_from_slice(&NULL),
            (Kind::Big, ValueRef::Integer(number)) => field(data, &number.to_be_bytes())?,
            (Kind::Small, ValueRef::Integer(number)) => {
                let number = i16::try_from(number).map_err(|_| "a number of more than 16 bits")?;
                field(data, &number.to_be_bytes())?;
            }
            (Kind::App, ValueRef::Integer(number)) => {
                let number = self.apps.get(&number).ok_or("the number of no app")?;
                field(data, &number.to_be_bytes())?;
            }
            (Kind::Flag, ValueRef::Integer(number @ 0..=1)) => field(data, &[u8::from(number == 1)])?,
            (Kind::Text, ValueRef::Text(text)) => field(data, checked(text)?)?,
            (Kind::Hash, ValueRef::Text(text)) => field(data, &digest(&SHA256, text).as_ref()[..HASH_BYTES])?,
            (Kind::Blob, ValueRef::Blob(bytes)) => field(data, bytes)?,
            _ => return Err("a value of an unexpected type"),
        }
        Ok(())
    }
}

fn empty(table: &'static Table) -> ReadStep {
    ReadStep {
        table,
        data: [SIGNATURE, &HEADER].concat(),
        rows: 0,
        key: None,
    }
}

fn field(data: &mut Vec<u8>, value: &[u8]) -> std::result::Result<(), &'static str> {
    let length = i32::try_from(value.len()).map_err(|_| "a value of more than 2 GiB")?;
    data.extend_from_slice(&length.to_be_bytes());
    data.extend_from_slice(value);
    Ok(())
}

/// A text that PostgreSQL takes.
fn checked(text: &[u8]) -> std::result::Result<&[u8], &'static str> {
    if std::str::from_utf8(text).is_err() {
        return Err("a text that is not UTF-8");
    }
    if text.contains(&0) {
        return Err("a text with a NUL character, which PostgreSQL cannot hold");
    }
    Ok(text)
}

fn wrong(table: &Table, column: &Column, key: &str, problem: &str) -> Error {
    Error::Corrupt {
        place: table.name,
        detail: format!("{} of the row {key}: {problem}", column.from),
    }
}

/// The key of a row as JSON: numbers and texts.
fn write_key(row: &Row<'_>, places: &[usize]) -> Result<String> {
    let part = |&place: &usize| match row.get_ref(place)? {
        ValueRef::Integer(number) => Ok(serde_json::Value::from(number)),
        value => Ok(serde_json::Value::from(value.as_str()?)),
    };
    let parts: Vec<_> = places.iter().map(part).collect::<Result<_>>()?;
    Ok(serde_json::Value::Array(parts).to_string())
}

fn read_key(json: &str) -> Result<Vec<Value>> {
    let unreadable = || Error::Corrupt {
        place: "bugle_transfer.last_key",
        detail: "not a list of numbers and texts".to_owned(),
    };
    let parts: Vec<serde_json::Value> = serde_json::from_str(json).map_err(|_| unreadable())?;
    let part = |part: serde_json::Value| match part {
        serde_json::Value::String(text) => Ok(Value::Text(text)),
        part => part.as_i64().map(Value::Integer).ok_or_else(unreadable),
    };
    parts.into_iter().map(part).collect()
}
