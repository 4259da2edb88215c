//! The client side of HTTP/2 (RFC 9113, HPACK: RFC 7541) for millions of small POSTs over few connections, without I/O.
//!
//! A [`Connection`] is a state machine between two byte streams. Its owner writes what [`Connection::output`] holds (and clears it) and hands what
//! it has read to [`Connection::receive`], in any pieces; answers and failures come back through [`Events`]. No clock, no task, no socket in here.
//!
//! ```text
//!   Head ──► request() ──► output: HEADERS, DATA ──► the owner writes it, then clears it
//!                                                    the owner reads ──► receive() ──► Events: answer, failed, settings, goaway, pong
//! ```
//!
//! What it costs: a request is a look-up of its head's rendered header block and some copies into the output; an answer is parsed in place. Long fields
//! (the bearer) go into the peer's HPACK table once and are one byte afterwards (`hpack/encode.rs`). Buffers of answers that come in
//! pieces, and of bodies that wait for the peer's window, are used again. So neither path allocates once it is warm.
//!
//! How to use it:
//!
//! - [`Connection::new`] leaves the preface, SETTINGS and `WINDOW_UPDATE` in the output. Requests may follow at once (RFC 9113, 3.4), but
//!   [`Connection::peer_limit`] is `None` until the peer's SETTINGS are here. Better wait for them: the `h2` crate's server, if it announces a smaller window
//!   than the default, can leave a body that was under way by then waiting for ever.
//! - [`Head`] is built once (per access token, or per push), [`Connection::request`] adds the path's tail and the body. `Err` gives the owner back: no stream was used.
//! - After every `receive`, `reset`, `request` or `ping` there may be something in the output.
//! - An error of `receive` ends the connection: GOAWAY is in the output, [`Connection::drain`] hands out the owners of all open streams.
//!   The same call is for a connection that broke. Nothing is known about what the peer has done with those.
//! - A time-out is `reset`: the owner comes back, and what the peer still sends for that stream is dropped.
//!
//! Invariants:
//!
//! - Each owner given to `request` comes back exactly once: by `answer`, `failed`, `reset` or `drain`.
//! - Memory is bounded by the open streams (64 KiB of body and 32 KiB of fields each, at worst), not by the ages of streams or what a peer sends.
//! - The connection's send window is 0 or no stream waits for it (`flow.rs`).

mod answer;
mod connection;
mod error;
mod flow;
mod frame;
mod head;
mod header_block;
mod hpack;
mod receive;
mod settings;
mod streams;

pub(crate) use answer::{Answer, Events};
pub(crate) use connection::Connection;
pub(crate) use error::{ErrorCode, ProtocolError, StreamFailure};
pub(crate) use head::{Head, Indexing};
pub(crate) use settings::Settings;
pub(crate) use streams::StreamId;

#[cfg(test)]
mod tests;
