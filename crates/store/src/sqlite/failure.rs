//! What `SQLite`'s errors mean to a caller of the store.

use rusqlite::ErrorCode;

use crate::Error;

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match &error {
            // These name columns and types, never values.
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..) => Self::Corrupt {
                place: "a row",
                detail: error.to_string(),
            },
            _ => match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt {
                    place: "the database's file",
                    detail: error.to_string(),
                },
                _ => Self::Unavailable(Box::new(error)),
            },
        }
    }
}

impl From<rusqlite::types::FromSqlError> for Error {
    fn from(error: rusqlite::types::FromSqlError) -> Self {
        Self::Corrupt {
            place: "a row",
            detail: error.to_string(),
        }
    }
}
