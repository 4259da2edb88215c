//! Why a queue cannot be opened.

use std::time::Duration;

/// Why a queue cannot be opened, for the person who starts bugle. Says no password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key of the configuration is wrong.
    #[error("{key}: {problem}")]
    Config {
        /// The key.
        key: &'static str,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// PostgreSQL does not answer as it should.
    #[error("the queue cannot use PostgreSQL (store.url)")]
    Postgres(#[source] sqlx::Error),
    /// Redis does not answer as it should.
    #[error("the queue cannot use Redis (queue.url)")]
    Redis(#[source] redis::RedisError),
    /// There was no answer in time.
    #[error("the queue gets no answer from {backend} within {} s", within.as_secs())]
    Silent {
        /// Whose, and the key that says where it is.
        backend: &'static str,
        /// The time.
        within: Duration,
    },
}
