//! One HTTP/2 connection: its handle, its driver, and the watch over its silence.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::Ping;
use h2::client::SendRequest;
use tokio::time::{Instant, sleep_until};

use super::connect::{Duplex, Origin, dial};
use super::framed::{self, Framed, FramedDriver};
use super::pool::Pool;
use super::write::{Coalesced, Drain};
use super::{Backoff, Framing, Tuning};

/// What h2 takes for the peer's stream limit until its SETTINGS arrive. No peer can announce it: the setting has 32 bits.
const NO_SETTINGS_YET: usize = usize::MAX - 1;

/// Streams that were refused in a row before the connection is given a pause.
const PATIENCE_WITH_REFUSALS: u32 = 16;

const PAUSES: Backoff = Backoff {
    first: Duration::from_millis(2),
    cap: Duration::from_secs(1),
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// No new stream; those that are open end.
    Retiring,
}

/// Whose HTTP/2 it is.
enum Wire {
    /// Gone when the last permit of a retiring connection is gone: h2 then says goodbye and closes.
    H2(RefCell<Option<SendRequest<Bytes>>>),
    Own(Rc<Framed>),
}

/// The handle of a connection. Its permits and its driver share it.
pub(super) struct Connection {
    pub(super) id: u64,
    wire: Wire,
    phase: Cell<Phase>,
    /// What the peer allows.
    limit: Cell<usize>,
    pub(super) in_use: Cell<usize>,
    /// Has it answered anything?
    answered: Cell<bool>,
    refusals: Cell<u32>,
    paused_until: Cell<Option<Instant>>,
    /// When anything was last read.
    heard: Rc<Cell<Instant>>,
}

/// The other half: whoever runs it moves the bytes.
pub(super) enum Driver {
    H2(Box<H2Driver>),
    Own(Box<FramedDriver>),
}

impl Driver {
    /// Moves bytes until the connection ends. `changed` is called when the peer has changed its limit or sent a GOAWAY.
    pub(super) async fn run(self, connection: &Connection, tuning: &Tuning, changed: impl Fn()) -> End {
        match self {
            Self::H2(driver) => driver.run(connection, tuning, changed).await,
            Self::Own(driver) => driver.run(connection, tuning, changed).await,
        }
    }
}

pub(super) struct H2Driver {
    h2: h2::client::Connection<Coalesced<Box<dyn Duplex>>, Bytes>,
    drain: Drain<Box<dyn Duplex>>,
}

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// In good order.
    Closed,
    Broken(io::Error),
    /// It did not even answer a PING.
    Silent,
}

/// Connects and waits for the peer's SETTINGS. The caller bounds the time.
pub(super) async fn open(
    origin: &Origin,
    tuning: &Tuning,
    id: u64,
    pool: Weak<Pool>,
) -> io::Result<(Rc<Connection>, Driver)> {
    let dialled = dial(origin, tuning.connect_timeout / 2).await?;
    if dialled.protocol.as_deref().is_some_and(|p| p != b"h2") {
        return Err(io::Error::other("the peer does not speak HTTP/2"));
    }
    let heard = Rc::new(Cell::new(Instant::now()));
    let (wire, driver, limit) = match tuning.framing {
        Framing::Own => {
            let (framed, driver) = framed::open(dialled.io, pool).await?;
            let limit = driver.limit();
            (Wire::Own(framed), Driver::Own(Box::new(driver)), limit)
        }
        Framing::H2 => {
            let (io, drain) = Coalesced::new(dialled.io, Rc::clone(&heard));
            let (send, h2) = settings(tuning).handshake(io).await.map_err(into_io)?;
            let mut driver = H2Driver { h2, drain };
            poll_fn(|cx| driver.poll_settings(cx)).await?;
            let limit = driver.h2.max_concurrent_send_streams();
            (Wire::H2(RefCell::new(Some(send))), Driver::H2(Box::new(driver)), limit)
        }
    };
    let connection = Rc::new(Connection {
        id,
        wire,
        phase: Cell::new(Phase::Open),
        limit: Cell::new(limit),
        in_use: Cell::new(0),
        answered: Cell::new(false),
        refusals: Cell::new(0),
        paused_until: Cell::new(None),
        heard,
    });
    Ok((connection, driver))
}

fn settings(tuning: &Tuning) -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(NO_SETTINGS_YET)
        .initial_connection_window_size(4 << 20)
        .initial_window_size(128 << 10)
        .max_header_list_size(16 << 10)
        // Answers to requests that timed out come late and must be known as such for a while, or each costs a reset.
        .max_concurrent_reset_streams(2 * tuning.streams)
        .reset_stream_duration(Duration::from_secs(30))
        .max_local_error_reset_streams(None)
        // Hundreds of small answers in one read are what we want. To h2 that is an attack, from a number on that depends on the window.
        .data_frame_budget(64 << 20);
    builder
}

fn into_io(e: h2::Error) -> io::Error {
    if e.is_io() {
        return e.into_io().unwrap_or_else(|| io::ErrorKind::Other.into());
    }
    io::Error::other(e)
}

impl Connection {
    /// May a stream be opened now, of `cap` at most?
    pub(super) fn has_room(&self, cap: usize) -> bool {
        self.in_use.get() < self.limit.get().min(cap) && !self.is_paused() && self.framed().is_none_or(Framed::has_room)
    }

    /// What the peer allows, `cap` at most.
    pub(super) fn limit(&self, cap: usize) -> usize {
        self.limit.get().min(cap)
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase.get() == Phase::Open
    }

    /// A handle to send one request with; `None` when the connection is of no more use.
    pub(super) fn handle(&self) -> Option<SendRequest<Bytes>> {
        match &self.wire {
            // A clone for each request: h2 remembers in a handle that its latest stream still waits, and refuses the next.
            Wire::H2(send) => send.borrow().clone(),
            Wire::Own(_) => None,
        }
    }

    /// The handle of bugle's own HTTP/2, if it is that.
    pub(super) fn framed(&self) -> Option<&Framed> {
        match &self.wire {
            Wire::H2(_) => None,
            Wire::Own(framed) => Some(framed),
        }
    }

    /// What the peer allows from now on.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.set(limit);
    }

    /// Something was read.
    pub(super) fn note_heard(&self) {
        self.heard.set(Instant::now());
    }

    /// Has its last stream ended, with no other to come?
    pub(super) fn is_done(&self) -> bool {
        !self.is_open() && self.in_use.get() == 0
    }

    /// No new streams. It closes when the open ones have ended.
    pub(super) fn retire(&self) {
        self.phase.set(Phase::Retiring);
        self.close_if_idle();
    }

    /// To be called when a permit is gone.
    pub(super) fn close_if_idle(&self) {
        if self.is_done() {
            match &self.wire {
                Wire::H2(send) => drop(send.take()),
                Wire::Own(framed) => framed.wake(),
            }
        }
    }

    /// The peer has answered a request.
    pub(super) fn note_answer(&self) {
        self.answered.set(true);
        self.refusals.set(0);
    }

    pub(super) fn has_answered(&self) -> bool {
        self.answered.get()
    }

    /// The peer has refused a stream. A peer that does nothing else is given pauses, or the same targets would come back in a tight loop.
    /// Returns the end of a pause that begins now.
    pub(super) fn note_refusal(&self) -> Option<Instant> {
        if self.is_paused() {
            return None;
        }
        self.refusals.set(self.refusals.get().saturating_add(1));
        let over = self
            .refusals
            .get()
            .checked_sub(PATIENCE_WITH_REFUSALS)
            .filter(|over| *over > 0)?;
        let until = Instant::now() + PAUSES.after(over);
        self.paused_until.set(Some(until));
        Some(until)
    }

    fn is_paused(&self) -> bool {
        // Most connections never pause: no clock is read for them.
        self.paused_until.get().is_some_and(|until| Instant::now() < until)
    }

    /// Takes over what the driver has read. True when it matters to those who wait.
    fn refresh(&self, h2: &h2::client::Connection<Coalesced<Box<dyn Duplex>>, Bytes>, cx: &mut Context<'_>) -> bool {
        let limit = h2.max_concurrent_send_streams();
        let mut changed = self.limit.replace(limit) != limit;
        // A handle without streams of its own is ready unless a GOAWAY or an error has come.
        let gone = match &self.wire {
            Wire::H2(send) => {
                let mut send = send.borrow_mut();
                send.as_mut()
                    .is_none_or(|send| matches!(send.poll_ready(cx), Poll::Ready(Err(_))))
            }
            Wire::Own(_) => false,
        };
        if gone && self.is_open() {
            self.retire();
            changed = true;
        }
        changed
    }
}

impl H2Driver {
    fn poll_settings(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.h2).poll(cx);
        let _ = self.drain.poll_drain(cx);
        if self.h2.max_concurrent_send_streams() != NO_SETTINGS_YET {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(Err(match ready!(ended) {
            Ok(()) => io::ErrorKind::UnexpectedEof.into(),
            Err(e) => into_io(e),
        }))
    }

    async fn run(mut self, connection: &Connection, tuning: &Tuning, changed: impl Fn()) -> End {
        let Some(mut pings) = self.h2.ping_pong() else {
            return End::Closed;
        };
        let mut silence = pin!(watch(connection, tuning, async || {
            if pings.ping(Ping::opaque()).await.is_err() {
                // The connection is ending, which the driver sees for itself.
                pending::<()>().await;
            }
        }));
        poll_fn(|cx| {
            if silence.as_mut().poll(cx).is_ready() {
                return Poll::Ready(End::Silent);
            }
            let ended = Pin::new(&mut self.h2).poll(cx);
            // Whether all is out or the socket is full, which wakes this task: nothing else is to be done here.
            let _ = self.drain.poll_drain(cx);
            match ended {
                Poll::Ready(Err(e)) => return Poll::Ready(End::Broken(into_io(e))),
                Poll::Ready(Ok(())) => return Poll::Ready(End::Closed),
                Poll::Pending => {}
            }
            if connection.refresh(&self.h2, cx) {
                changed();
            }
            Poll::Pending
        })
        .await
    }
}

/// Sends a PING into silence; returns when that is not answered either.
pub(super) async fn watch(connection: &Connection, tuning: &Tuning, mut ping: impl AsyncFnMut()) {
    let heard = &connection.heard;
    loop {
        let idle = connection.in_use.get() == 0;
        let patience = if idle {
            tuning.idle_ping_after
        } else {
            tuning.ping_after
        };
        let (now, last) = (Instant::now(), heard.get());
        if now < last + patience {
            // Looked at again after at most `ping_after`, because requests may open meanwhile.
            let next = last + tuning.ping_after;
            sleep_until(if now < next { next } else { now + tuning.ping_after }).await;
            continue;
        }
        let sent = Instant::now();
        let mut pong = pin!(ping());
        loop {
            let deadline = sent.max(heard.get()) + tuning.ping_timeout;
            tokio::select! {
                biased;
                () = &mut pong => break,
                () = sleep_until(deadline) => {
                    if sent.max(heard.get()) + tuning.ping_timeout <= Instant::now() {
                        return;
                    }
                }
            }
        }
    }
}
