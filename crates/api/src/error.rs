//! The one table of error codes, and the error object.
//!
//! | code | meaning | HTTP, where asked for |
//! |---|---|---|
//! | 100 | internal server error | 500 |
//! | 104 | not found: the method, the device, the push | 404 |
//! | 107 | bad request | 400 |
//! | 108 | not available: a provider or a part that is not there | 400 |
//! | 113 | conflict | 409 |

use ::http::StatusCode;
use bugle_service::Error;
use serde::Serialize;

/// The error object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// One of the table.
    pub(crate) code: u32,
    /// What is wrong and where.
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn internal() -> Self {
        Self::new(100, "internal server error")
    }

    pub(crate) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(104, format!("not found: {what}"))
    }

    pub(crate) fn bad_request(what: impl std::fmt::Display) -> Self {
        Self::new(107, format!("bad request: {what}"))
    }

    pub(crate) fn not_available(what: impl std::fmt::Display) -> Self {
        Self::new(108, format!("not available: {what}"))
    }

    fn new(code: u32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The HTTP status, for callers that asked for transport errors.
    pub(crate) fn status(&self) -> StatusCode {
        match self.code {
            104 => StatusCode::NOT_FOUND,
            107 | 108 => StatusCode::BAD_REQUEST,
            113 => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// What a caller is told of an operation's error. `place` is where its parameters stand, like `params`.
pub(crate) fn problem(error: &Error, place: &str) -> Problem {
    match error {
        Error::NotFound(what) => Problem::not_found(what),
        Error::Conflict(what) => Problem::new(113, format!("conflict: {what}")),
        Error::Invalid { field, problem } => Problem::bad_request(format!("{place}.{field}: {problem}")),
        Error::Unavailable(what) => Problem::not_available(what),
        Error::Internal(source) => {
            let source: &dyn std::error::Error = source.as_ref();
            tracing::error!(error = source, cause = source.source(), "a request failed: {source}");
            Problem::internal()
        }
    }
}
