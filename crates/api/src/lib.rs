//! The API over HTTP: JSON in, JSON out, nothing decided here.
//!
//! ```text
//!   key → app ─► body, bounded ─► commands, all parsed ─► one spawned task ─► service ─► replies
//! ```
//!
//! [`router`] has the paths `POST /api`, `POST /api/batch`, `POST /api/<method>`, `GET /health` and `GET /metrics`; `docs/api.md` shows each of them.
//!
//! Invariants:
//!
//! - a request is parsed to its end before its first command runs: malformed ones change nothing;
//! - from the moment its body has been read a request runs in a task of its own, so a client that hangs up stops nothing half way;
//! - an operation's own error is HTTP 200 with an error object, whatever it is; only what could not be read at all is a 4xx;
//! - keys, tokens and payloads appear in no message and no log.

mod auth;
mod config;
mod error;
mod http;
pub mod metrics;

pub use auth::Keys;
pub use config::{Config, ErrorMode};
pub use http::{MetricsText, router, router_without_api};
