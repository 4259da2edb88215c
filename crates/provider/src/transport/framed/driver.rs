//! Moves a connection's bytes.

use std::io;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::pause::{LONG_PAUSE, next_beat, pause};
use super::round::Round;
use super::{Flight, Framed};
use crate::http2::{self, Events, ProtocolError, StreamFailure};
use crate::transport::Tuning;
use crate::transport::connect::Duplex;
use crate::transport::connection::{Connection, End, watch};
use crate::transport::exchange::Failure;
use crate::transport::pool::Pool;

/// What one read takes at most: two TLS records.
const READ: usize = 32 << 10;
/// So many reads, then the other tasks of the thread have their turn.
const READS: usize = 16;
/// The other half: whoever runs it moves the bytes.
pub(in crate::transport) struct FramedDriver {
    io: Box<dyn Duplex>,
    framed: Rc<Framed>,
    pool: Weak<Pool>,
    read: Vec<u8>,
    /// What is being written, and how much of it is written already.
    out: Vec<u8>,
    written: usize,
    /// Something was handed to `io` since its last flush.
    unflushed: bool,
    /// Writing has failed. What the peer sent before is still to be read, and tells more.
    deaf: bool,
    pause: Alarm,
    /// How long the last pause was; zero = there was none before this round.
    last_pause: Duration,
    /// The pause that begins as soon as those who waited for the streams of the last round have put their requests into the output.
    next_pause: Option<Duration>,
    /// For the oldest deadlines.
    deadline: Alarm,
}

/// A timer that is set or not.
struct Alarm {
    sleep: Pin<Box<Sleep>>,
    set: bool,
}

impl Alarm {
    fn new() -> Self {
        Self {
            sleep: Box::pin(sleep_until(Instant::now())),
            set: false,
        }
    }

    fn set(&mut self, at: Instant, cx: &mut Context<'_>) {
        self.sleep.as_mut().reset(at);
        self.set = true;
        self.is_pending(cx);
    }

    /// Is it set, and its time not come? The task is woken then.
    fn is_pending(&mut self, cx: &mut Context<'_>) -> bool {
        self.set = self.set && self.sleep.as_mut().poll(cx).is_pending();
        self.set
    }
}

/// Says hello and waits for the peer's SETTINGS. The caller bounds the time.
pub(in crate::transport) async fn open(
    io: Box<dyn Duplex>,
    pool: Weak<Pool>,
) -> io::Result<(Rc<Framed>, FramedDriver)> {
    let framed = Rc::new(Framed::new());
    let mut driver = FramedDriver {
        io,
        framed: Rc::clone(&framed),
        pool,
        read: vec![0; READ],
        out: Vec::new(),
        written: 0,
        unflushed: false,
        deaf: false,
        pause: Alarm::new(),
        last_pause: Duration::ZERO,
        next_pause: None,
        deadline: Alarm::new(),
    };
    std::future::poll_fn(|cx| driver.poll_settings(cx)).await?;
    Ok((framed, driver))
}

/// Before the peer's SETTINGS there are no streams, and so no events.
struct Nothing;

impl Events<Flight> for Nothing {
    fn answer(&mut self, _: Flight, _: http2::Answer<'_>) {}
    fn failed(&mut self, _: Flight, _: StreamFailure) {}
}

impl FramedDriver {
    /// What the peer allows.
    pub(in crate::transport) fn limit(&self) -> usize {
        self.framed.protocol.borrow().peer_limit().unwrap_or(0)
    }

    fn poll_settings(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let _ = self.poll_write(cx);
            let n = ready!(self.poll_read(cx))?;
            let mut protocol = self.framed.protocol.borrow_mut();
            protocol.receive(&self.read[..n], &mut Nothing).map_err(broken)?;
            if protocol.peer_limit().is_some() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Moves bytes until the connection ends. `changed` is called when the peer has changed its limit or sent a GOAWAY, or takes more again.
    pub(in crate::transport) async fn run(
        mut self,
        connection: &Connection,
        tuning: &Tuning,
        changed: impl Fn(),
    ) -> End {
        let framed = Rc::clone(&self.framed);
        let mut silence = pin!(watch(connection, tuning, async || framed.ping().await));
        std::future::poll_fn(|cx| {
            if silence.as_mut().poll(cx).is_ready() {
                return Poll::Ready(End::Silent);
            }
            self.poll_round(cx, connection, &changed)
        })
        .await
    }

    fn poll_round(&mut self, cx: &mut Context<'_>, connection: &Connection, changed: &impl Fn()) -> Poll<End> {
        self.remember(cx);
        if self.pause.is_pending(cx) {
            // Nobody needs to wake it before.
            return Poll::Pending;
        }
        self.framed.awake.set(false);
        if let Some(pause) = self.next_pause.take() {
            let end = self.poll_output(cx, connection, false, changed);
            self.begin_pause(pause, cx);
            return end;
        }
        let mut round = Round::new(connection, &self.framed, &self.pool);
        let mut read = Reading::More;
        for _ in 0..READS {
            read = match Self::poll_some(&mut self.io, &mut self.read, cx, &mut round) {
                Poll::Ready(Ok(())) => continue,
                Poll::Ready(Err(e)) => Reading::Ended(e),
                Poll::Pending => Reading::Dry,
            };
            break;
        }
        let (answers, has_changed) = (round.answers, round.changed);
        if let Reading::Ended(e) = read {
            // A GOAWAY that says what was wrong is worth a try.
            let _ = self.poll_write(cx);
            return Poll::Ready(end(e, connection));
        }
        self.expire(cx, connection);
        let end = self.poll_output(cx, connection, has_changed, changed);
        self.next_pause = match read {
            Reading::More => None,
            _ => pause(self.last_pause, answers, connection.in_use.get()),
        };
        if let Err(error) = self.go_on(cx, matches!(read, Reading::More)) {
            return Poll::Ready(End::Broken(error));
        }
        end
    }

    /// Sees to it that there is another round: soon if there may be `more` to read, after the pause if there is to be one, or else as soon as something arrives. In long pauses
    /// nothing that arrives wakes the thread.
    fn go_on(&mut self, cx: &mut Context<'_>, more: bool) -> io::Result<()> {
        if self.next_pause.is_some_and(|pause| pause >= LONG_PAUSE) {
            self.io.socket().unwatch();
        }
        let mut soon = more || self.next_pause.is_some();
        if !soon {
            self.last_pause = Duration::ZERO;
            // What came after the last look is to be seen.
            soon = self.io.socket().watch()?;
        }
        if soon {
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Writes what there is, and says goodbye when that was the last of it. `changed` is to be told if `has_changed`, or if there is room again.
    fn poll_output(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection,
        has_changed: bool,
        changed: &impl Fn(),
    ) -> Poll<End> {
        let full = !self.framed.has_room();
        if self.poll_write(cx).is_ready() && connection.is_done() && self.say_goodbye(cx).is_ready() {
            return Poll::Ready(End::Closed);
        }
        if has_changed || full && self.framed.has_room() {
            let limit = self.framed.protocol.borrow().peer_limit().unwrap_or(0);
            connection.set_limit(limit);
            changed();
        }
        Poll::Pending
    }

    fn remember(&self, cx: &Context<'_>) {
        let mut driver = self.framed.driver.borrow_mut();
        if !driver.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
    }

    fn begin_pause(&mut self, pause: Duration, cx: &mut Context<'_>) {
        self.last_pause = pause;
        self.pause.set(next_beat(pause), cx);
        let pauses = self.pause.is_pending(cx);
        self.framed.awake.set(pauses);
        if !pauses {
            // Over before it began: no timer will wake the task, nor does an unwatched socket.
            cx.waker().wake_by_ref();
        }
    }

    fn poll_some(
        io: &mut Box<dyn Duplex>,
        buffer: &mut [u8],
        cx: &mut Context<'_>,
        round: &mut Round<'_>,
    ) -> Poll<Result<(), io::Error>> {
        let n = ready!(poll_read(io, buffer, cx))?;
        round.connection.note_heard();
        let received = round.framed.protocol.borrow_mut().receive(&buffer[..n], round);
        Poll::Ready(received.map_err(broken))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        poll_read(&mut self.io, &mut self.read, cx)
    }

    /// Gives up the requests whose time is over.
    fn expire(&mut self, cx: &mut Context<'_>, connection: &Connection) {
        if self.deadline.is_pending(cx) {
            return;
        }
        let mut late = Vec::new();
        {
            let mut deadlines = self.framed.deadlines.borrow_mut();
            let mut protocol = self.framed.protocol.borrow_mut();
            if let Some(upto) = deadlines.over(Instant::now()) {
                let open = protocol.open_streams_upto(upto);
                late.extend(open.into_iter().filter_map(|stream| protocol.reset(stream)));
            }
            if protocol.open_streams() == 0 {
                deadlines.clear();
            }
            if let Some(at) = deadlines.next() {
                self.deadline.set(at, cx);
            }
        }
        let round = Round::new(connection, &self.framed, &self.pool);
        for flight in late {
            round.tell(flight, Err(Failure::Timeout));
        }
    }

    /// Writes out what there is. Pending when the socket is full, which wakes this task when it is not.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.written == self.out.len() {
                self.out.clear();
                self.written = 0;
                std::mem::swap(&mut self.out, self.framed.protocol.borrow_mut().output());
            }
            self.framed.backlog.set(self.out.len() - self.written);
            if self.deaf || (self.out.is_empty() && !self.unflushed) {
                self.out.clear();
                self.written = 0;
                self.framed.backlog.set(0);
                return Poll::Ready(());
            }
            if ready!(self.poll_write_out(cx)).is_err() {
                self.deaf = true;
            }
        }
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.written..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += n;
            self.unflushed = true;
        }
        // TLS may hold encrypted bytes back when the socket is full.
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn say_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.framed.protocol.borrow_mut().goaway();
        ready!(self.poll_write(cx));
        // Whether the peer hears it or not.
        let _ = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
        Poll::Ready(())
    }
}

impl Drop for FramedDriver {
    /// However the driver ends: nobody waits for ever, and no stream keeps the connection.
    fn drop(&mut self) {
        let streams = self.framed.protocol.borrow_mut().drain();
        let reply = self.pool.upgrade().and_then(|pool| pool.reply());
        for (_, Flight { request, permit }) in streams {
            // Or the pool would grant streams on it again.
            permit.connection().retire();
            let lost = Failure::Lost(permit.connection().id);
            drop(permit);
            if let Some(reply) = &reply {
                reply.answered(request, Err(lost));
            }
        }
    }
}

fn end(e: io::Error, connection: &Connection) -> End {
    if e.kind() == io::ErrorKind::UnexpectedEof && connection.in_use.get() == 0 {
        return End::Closed;
    }
    End::Broken(e)
}

enum Reading {
    /// There may be more.
    More,
    /// That was all for now.
    Dry,
    Ended(io::Error),
}

fn poll_read(io: &mut Box<dyn Duplex>, buffer: &mut [u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
    match buffer.filled().len() {
        0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        n => Poll::Ready(Ok(n)),
    }
}

fn broken(e: ProtocolError) -> io::Error {
    io::Error::other(e)
}
