//! What can go wrong, by what the caller can do about it.

use bugle_model::Invalid;

/// Why a request was not carried out. Nothing was written, unless a use case says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such device or push; the text says which kind.
    #[error("{0}")]
    NotFound(&'static str),
    /// Something else has the name; the text says what.
    #[error("{0}")]
    Conflict(&'static str),
    /// A part of the request is wrong.
    #[error("{field}: {problem}")]
    Invalid {
        /// The path of the part, as the caller spelled it, like `recipient.channels[2]`.
        field: String,
        /// What is wrong with it and what was expected.
        problem: String,
    },
    /// A provider or a part that this server does not have, or that is not configured; the text says which.
    #[error("{0}")]
    Unavailable(String),
    /// The server's own trouble. The cause is for the log, not for the caller.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A use case's answer.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// Turns a type's complaint into one about a field.
    pub(crate) fn at(field: impl Into<String>) -> impl FnOnce(Invalid) -> Self {
        let field = field.into();
        move |invalid| Self::Invalid {
            field,
            problem: invalid.problem,
        }
    }
}

impl From<bugle_store::Error> for Error {
    fn from(error: bugle_store::Error) -> Self {
        Self::Internal(Box::new(error))
    }
}
