//! Who delivers: one folder per provider, and the transport that they share.
//!
//! A provider turns a push's payload and a target into a request, and the answer into an [`Outcome`]: never into an error, a removal, a metric
//! or an HTTP status. What follows from an outcome is the sender's business.
//!
//! [`Provider`] is what all threads share (credentials, the access token); [`Client`] is one sender thread's own: its connections, not `Send`.
//!
//! ```text
//!   let slot = client.try_slot(now) or client.slot().await?;   a free stream and a valid access token
//!   client.send(slot, &prepared, &target, ticket);          … later, from the connection's task: outcomes.outcome(ticket, outcome, message_id)
//! ```

mod config;
pub mod dry_run;
pub mod fcm;
mod finding;
mod http2;
mod metrics;
mod transport;

pub use config::{Config, ConfigError, TlsConfig};
pub use finding::{Finding, State};
pub use transport::Framing;

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bugle_model::{Outcome, Provider as ProviderName, TargetKind};
use futures_util::future::LocalBoxFuture;

/// What all sender threads share of one app's provider.
pub trait Provider: Send + Sync {
    /// Which one it is.
    fn name(&self) -> ProviderName;

    /// A client for the calling thread, which must be inside a `tokio` `LocalSet` on a current-thread runtime. `threads` is how many share the connections,
    /// `outcomes` is who is told what came of what is sent.
    fn client(self: Arc<Self>, threads: usize, outcomes: Rc<dyn Outcomes>) -> Box<dyn Client>;

    /// The most requests that may be open at once over all threads: connections × streams.
    fn max_open(&self) -> usize;
}

/// The sender's number for a target that was sent, until its outcome has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub usize);

/// Who is told what came of the targets that a client was given.
pub trait Outcomes {
    /// Many outcomes are about to come, and this is probably one of them: who will have to look for the target may fetch it into the processor's cache, together with others.
    fn ahead(&self, ticket: Ticket) {
        let _ = ticket;
    }

    /// The outcome of the target that was sent under this number: exactly once for each, never before [`Client::send`] has returned, at the latest after the
    /// request's time-out. `message_id` is the provider's name of an accepted message, otherwise empty.
    ///
    /// Called by the task that drives the connection: it must not wait, and may call the client again.
    fn outcome(&self, ticket: Ticket, outcome: Outcome, message_id: &str);
}

/// One sender thread's connections to a provider.
pub trait Client {
    /// Renders what all targets of a push have in common. `body` is this provider's part of the push's body.
    ///
    /// An error means that the ledger holds a payload that this version refuses; it counts as scope payload.
    fn prepare(&self, body: &serde_json::value::RawValue) -> Result<Prepared, bugle_model::Invalid>;

    /// The right to start a request at once, if it can be had without waiting and nobody waits for it already.
    /// `now` is when its time begins: a moment ago at most.
    fn try_slot(&self, now: Instant) -> Option<Slot>;

    /// Waits until a request may start at once: a connection stands, a stream is free, an access token is there.
    ///
    /// `Err` is the outcome of the target that wanted to start (no connection to be had, token exchange refused). Cancel-safe.
    fn slot(&self) -> LocalBoxFuture<'_, Result<Slot, Outcome>>;

    /// Sends one target over a slot. Its outcome is told to this client's [`Outcomes`] under `ticket`.
    ///
    /// An access token that the provider does not take is replaced; what was sent with it is [`Outcome::Unprocessed`], to be sent again at once.
    fn send(&self, slot: Slot, push: &Prepared, target: &TargetKind, ticket: Ticket);

    /// Requests that may be open at once right now: what the peers' settings allow over all of this client's connections.
    fn capacity(&self) -> usize;

    /// Closes idle connections and those that become idle. No slot is granted afterwards.
    fn close(&self);
}

/// A push rendered for a provider, with a hole for the target. Cheap to clone; its content is the provider's own.
#[derive(Clone)]
pub struct Prepared(pub(crate) Rc<dyn Any>);

/// The right to start one request now. Dropping it unused gives it back.
pub struct Slot(pub(crate) Held);

/// What a slot holds.
pub(crate) enum Held {
    /// A stream of a connection, and when it was granted.
    Stream(transport::Permit, tokio::time::Instant),
    /// One of the requests that a dry run may have open.
    Dry { _permit: tokio::sync::OwnedSemaphorePermit },
}
