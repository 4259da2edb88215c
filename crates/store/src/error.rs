//! What can go wrong in a store, by what the caller can do about it.

/// A boxed cause.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A store's failure. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database did not do it: disk full, locked, gone, or shutting down. Trying again later may help.
    #[error("the store is not available")]
    Unavailable(#[source] BoxError),
    /// A row does not have the form that this version writes.
    #[error("the store holds something unreadable in {place}: {detail}")]
    Corrupt {
        /// The table and the column.
        place: &'static str,
        /// What was found, without secrets.
        detail: String,
    },
    /// The store cannot be opened as it stands; the text says what to do.
    #[error("{0}")]
    Setup(String),
}

impl Error {
    /// Something in a row does not have the form that this version writes. `place` = the table and the column; `detail` = what was found, without secrets.
    pub(crate) fn corrupt(place: &'static str, detail: String) -> Self {
        Self::Corrupt { place, detail }
    }
}

/// A store's answer.
pub type Result<T> = std::result::Result<T, Error>;
