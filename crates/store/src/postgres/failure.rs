//! What PostgreSQL's errors mean to a caller of the store.

use std::borrow::Cow;

use crate::Error;

/// Deadlocks, transactions that cannot be put in an order, and a row that somebody else has written at the same moment: the same again may succeed at once.
const RETRY: [&str; 3] = ["40P01", "40001", "23505"];

/// Somebody else has written what this transaction was about to write: it must find that, from the beginning.
#[derive(Debug, thiserror::Error)]
#[error("another process was at the same rows")]
pub(super) struct Raced;

impl From<Raced> for Error {
    fn from(raced: Raced) -> Self {
        Self::Unavailable(Box::new(raced))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            // These name columns and types, never values.
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) | sqlx::Error::Decode(_) => {
                Self::Corrupt {
                    place: "a row",
                    detail: error.to_string(),
                }
            }
            _ => Self::Unavailable(Box::new(error)),
        }
    }
}

/// May the transaction be tried again at once?
pub(super) fn is_retryable(error: &Error) -> bool {
    let Error::Unavailable(cause) = error else { return false };
    cause.is::<Raced>() || code(error).is_some_and(|code| RETRY.contains(&code.as_ref()))
}

/// Is the connection gone, rather than the statement wrong?
pub(super) fn is_disconnected(error: &Error) -> bool {
    let Error::Unavailable(cause) = error else { return false };
    let is_broken = matches!(
        cause.downcast_ref(),
        Some(sqlx::Error::Io(_) | sqlx::Error::Protocol(_))
    );
    // Or the server is being stopped, has crashed, or is starting.
    is_broken || has_code(error, "57P")
}

/// Does the server's code begin so?
pub(super) fn has_code(error: &Error, class: &str) -> bool {
    code(error).is_some_and(|code| code.starts_with(class))
}

/// Is it about what was to be written or read, rather than about the server? Then others may fare better without it.
pub(super) fn is_of_the_data(error: &Error) -> bool {
    // Classes of SQLSTATE: data, integrity, program limits.
    let of_the_data = |code: &str| ["22", "23", "54"].iter().any(|class| code.starts_with(class));
    match error {
        Error::Corrupt { .. } => true,
        Error::Unavailable(cause) if matches!(cause.downcast_ref(), Some(sqlx::Error::Encode(_))) => true,
        _ => code(error).is_some_and(|code| of_the_data(&code)),
    }
}

/// What the server called it.
fn code(error: &Error) -> Option<Cow<'_, str>> {
    let Error::Unavailable(cause) = error else { return None };
    cause.downcast_ref::<sqlx::Error>()?.as_database_error()?.code()
}
