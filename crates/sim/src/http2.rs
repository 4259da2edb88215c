//! HTTP/2: where the messages come in.
//!
//! One task drives a connection and all of its streams, in rounds: take every stream that has arrived, let every
//! stream that can go on do so, and let the library write all of their answers at once in the next round.
//!
//! After `goaway_every` messages the connection is *draining*: a GOAWAY names the last message, streams above it are
//! put aside unread, and when those below have their answers the client has a moment to close before we do.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::time::Sleep;

use crate::reply::{Plan, Reply, Verdict};
use crate::server::BODY_LIMIT;
use crate::shared::{Lane, Shared, is_message};
use crate::wire::{Injector, Wire};

/// How long a client may take to close a connection that is drained.
const LINGER: Duration = Duration::from_secs(1);
/// Streams that a client may reset before we have looked at them, without being taken for an attacker.
const RESET_LIMIT: usize = 100_000;

struct Http2 {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    connection: Connection<Wire, Bytes>,
    injector: Injector,
    open: FuturesUnordered<BoxFuture<'static, ()>>,
    /// How many of the open streams the counter of all connections knows of.
    reported: usize,
    messages: u32,
    /// Streams above the GOAWAY's last id; dropping them would answer them with a reset.
    unprocessed: Vec<(RecvStream, SendResponse<Bytes>)>,
    draining: bool,
    linger: Option<Pin<Box<Sleep>>>,
}

/// Serves a connection until either side closes it.
pub(crate) async fn serve(shared: Arc<Shared>, wire: Wire, lane: Lane) {
    let injector = wire.injector();
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(shared.settings().stream_limit)
        .initial_connection_window_size(4 << 20)
        .max_pending_accept_reset_streams(RESET_LIMIT)
        .max_concurrent_reset_streams(RESET_LIMIT)
        .handshake(wire);
    let connection = match handshake.await {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%error, "an HTTP/2 handshake failed");
            return;
        }
    };
    let mut served = Http2 {
        shared,
        lane: Arc::new(lane),
        connection,
        injector,
        open: FuturesUnordered::new(),
        reported: 0,
        messages: 0,
        unprocessed: Vec::new(),
        draining: false,
        linger: None,
    };
    poll_fn(|cx| served.poll(cx)).await;
}

impl Http2 {
    /// One round; ready when the connection has ended or must be cut.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(arrived) = self.connection.poll_accept(cx) {
            match arrived {
                Some(Ok((request, respond))) => self.begin(request, respond),
                Some(Err(error)) => {
                    tracing::debug!(%error, "an HTTP/2 connection ended");
                    return Poll::Ready(());
                }
                None => return Poll::Ready(()),
            }
        }
        self.report();
        while let Poll::Ready(Some(())) = self.open.poll_next_unpin(cx) {}
        self.report();
        if self.lane.cut.load(Ordering::Relaxed) {
            // The answers of other streams that count as given must leave before the cut.
            let _ = self.connection.poll_accept(cx);
            return Poll::Ready(());
        }
        self.poll_drained(cx)
    }

    fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.draining || !self.open.is_empty() {
            return Poll::Pending;
        }
        self.linger
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)))
            .as_mut()
            .poll(cx)
    }

    fn begin(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        if self.draining {
            self.shared.counters.unprocessed.fetch_add(1, Ordering::Relaxed);
            self.unprocessed.push((request.into_body(), respond));
            return;
        }
        let mut cut = false;
        if is_message(request.uri().path()) {
            self.messages += 1;
            let settings = self.shared.settings();
            let is_due = |every: Option<u32>| every.is_some_and(|every| self.messages.is_multiple_of(every));
            cut = is_due(settings.cut_every);
            if is_due(settings.goaway_every) {
                self.draining = true;
                self.injector.goaway(respond.stream_id().into());
                self.shared.counters.goaways.fetch_add(1, Ordering::Relaxed);
            }
        }
        let stream = Stream {
            shared: Arc::clone(&self.shared),
            lane: Arc::clone(&self.lane),
            respond,
        };
        self.open.push(Box::pin(stream.serve(request, cut)));
    }

    /// Brings the counters of open streams up to date.
    fn report(&mut self) {
        let open = self.open.len();
        let counters = &self.shared.counters;
        if open > self.reported {
            counters.open_streams.fetch_add(open - self.reported, Ordering::Relaxed);
        } else if open < self.reported {
            counters.open_streams.fetch_sub(self.reported - open, Ordering::Relaxed);
        }
        self.reported = open;
        if open > counters.peak_streams.load(Ordering::Relaxed) {
            counters.peak_streams.fetch_max(open, Ordering::Relaxed);
        }
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.shared
            .counters
            .open_streams
            .fetch_sub(self.reported, Ordering::Relaxed);
    }
}

/// One stream.
struct Stream {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    respond: SendResponse<Bytes>,
}

impl Stream {
    async fn serve(mut self, request: Request<RecvStream>, cut: bool) {
        let (head, body) = request.into_parts();
        let Ok(body) = collect(body).await else { return };
        let Plan {
            delay,
            verdict,
            pending,
        } = self.shared.plan(&self.lane, &head, body, cut);
        if !delay.is_zero() && self.gone_within(delay).await {
            return;
        }
        let carried_out = match &verdict {
            Verdict::Reply(reply) => self.reply(reply).is_ok(),
            Verdict::Refuse => {
                self.respond.send_reset(Reason::REFUSED_STREAM);
                true
            }
            Verdict::Silent | Verdict::Cut => true,
        };
        if let Some(pending) = pending.filter(|_| carried_out) {
            pending.settle();
        }
        if matches!(verdict, Verdict::Cut) {
            self.lane.cut.store(true, Ordering::Relaxed);
        }
        if matches!(verdict, Verdict::Cut | Verdict::Silent) {
            // Ending here would answer with a reset. The client gives up, or the connection ends and drops us.
            let _ = poll_fn(|cx| self.respond.poll_reset(cx)).await;
        }
    }

    fn reply(&mut self, reply: &Reply) -> Result<(), h2::Error> {
        let mut body = self.respond.send_response(reply.head(), false)?;
        body.send_data(reply.body.clone(), true)
    }

    /// Waits; whether the client has reset the stream meanwhile.
    async fn gone_within(&mut self, delay: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(delay) => false,
            _ = poll_fn(|cx| self.respond.poll_reset(cx)) => true,
        }
    }
}

/// The whole body; none where it is longer than the limit.
async fn collect(mut body: RecvStream) -> Result<Option<Bytes>, h2::Error> {
    let Some(first) = body.data().await.transpose()? else {
        return Ok(Some(Bytes::new()));
    };
    body.flow_control().release_capacity(first.len())?;
    if body.is_end_stream() {
        return Ok((first.len() <= BODY_LIMIT).then_some(first));
    }
    let mut whole = BytesMut::from(first);
    let mut length = whole.len();
    while let Some(more) = body.data().await.transpose()? {
        body.flow_control().release_capacity(more.len())?;
        length += more.len();
        if length <= BODY_LIMIT {
            whole.extend_from_slice(&more);
        }
    }
    Ok((length <= BODY_LIMIT).then(|| whole.freeze()))
}
