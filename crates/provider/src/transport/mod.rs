//! HTTP/2 to one origin over several connections, for one sender thread.
//!
//! ```text
//!   Pool ── permit() ──► Permit ── send() ──► Reply: Answer | Failure
//!    │ n × Connection: the h2 handle, the peer's stream limit, how many streams are in use
//!    └ waiters, first come first served
//!   each Connection is driven by one task: h2 ⇄ Coalesced writer ⇄ TLS ⇄ TCP, and by a watch that sends PING into silence
//! ```
//!
//! Invariants:
//! - A permit is a stream that may be opened at once. Permits of all connections, retiring ones included, never exceed connections × streams.
//! - No permit is granted before the peer's SETTINGS have arrived, and none above what they allow.
//! - Every waiter is answered: by a permit, or by the first attempt to connect that fails while nothing else stands.
//! - Nothing here is `Send`: `Rc`, `Cell` and `spawn_local`; no borrow of the pool's state is held over an `await` or a call to a waiter.

mod backoff;
mod connect;
mod connection;
mod exchange;
mod framed;
mod framing;
mod permit;
mod pool;
mod retry_after;
mod socket;
mod tls;
mod write;

pub(crate) use backoff::Backoff;
pub(crate) use connect::{Origin, dial};
pub(crate) use exchange::{Answer, Failure, Head, Reply, Request, Whole};
pub(crate) use permit::Permit;
pub(crate) use pool::Pool;
pub(crate) use retry_after::{http_date, parse as parse_retry_after};
pub(crate) use tls::Trust;

use std::time::Duration;

pub use framing::Framing;

/// How patient a pool is, and how large.
#[derive(Debug, Clone)]
pub(crate) struct Tuning {
    /// Whose HTTP/2.
    pub(crate) framing: Framing,
    /// Connections of this pool, at least 1.
    pub(crate) connections: usize,
    /// Streams per connection; the peer may allow fewer.
    pub(crate) streams: usize,
    /// From DNS to the peer's SETTINGS.
    pub(crate) connect_timeout: Duration,
    /// A PING after this much silence while requests are open.
    pub(crate) ping_after: Duration,
    /// A PING after this much silence while none is.
    pub(crate) idle_ping_after: Duration,
    /// Silence after a PING that means the connection is dead.
    pub(crate) ping_timeout: Duration,
}
