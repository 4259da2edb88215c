//! The names of this crate's metrics. Each has the label `provider`.

/// Gauge: HTTP/2 connections that stand.
pub(crate) const CONNECTIONS_OPEN: &str = "bugle_provider_connections_open";

/// Counter: attempts to connect, by `result` (`ok`, `failed`).
pub(crate) const CONNECTS_TOTAL: &str = "bugle_provider_connects_total";

/// Counter: connections that ended, by `reason` (`closed`, `error`, `silent`).
pub(crate) const CONNECTIONS_ENDED_TOTAL: &str = "bugle_provider_connections_ended_total";

/// Counter: exchanges of a signed assertion for an access token, by `result` (`ok`, `refused`, `failed`).
pub(crate) const TOKEN_EXCHANGES_TOTAL: &str = "bugle_provider_token_exchanges_total";
