//! Collects what h2 writes, so that many frames leave in one TLS record and one system call.
//!
//! h2 flushes after every few frames, and writes a DATA frame of some size by itself: under TLS each becomes a record and a system call
//! of its own, which costs more than everything else about a request. Here a write is a copy into a buffer and a flush is nothing;
//! the connection's driver calls [`Drain::poll_drain`] when h2 has nothing more to say. A full buffer is written out at once.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// So much is collected at most before it must be written: four TLS records.
const LIMIT: usize = 64 * 1024;

struct Inner<T> {
    io: T,
    buffer: Vec<u8>,
    /// How much of the buffer is written already.
    written: usize,
    /// Something was handed to `io` since its last flush.
    unflushed: bool,
    /// Writing has failed.
    deaf: bool,
}

impl<T: AsyncWrite + Unpin> Inner<T> {
    /// A peer that closes while requests are on their way to it makes writing fail, but what it sent before (answers, its GOAWAY) is still
    /// there to be read. So that is no error yet: nothing more is written, and reading finds the end.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.deaf {
            self.deaf = ready!(self.poll_write_out(cx)).is_err();
        }
        self.buffer.clear();
        self.written = 0;
        Poll::Ready(())
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.buffer.len() {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.buffer[self.written..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += n;
            self.unflushed = true;
        }
        // TLS may hold encrypted bytes back when the socket is full.
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// The byte stream for h2.
pub(crate) struct Coalesced<T> {
    inner: Rc<RefCell<Inner<T>>>,
    heard: Rc<Cell<Instant>>,
}

/// The driver's end of it.
pub(crate) struct Drain<T>(Rc<RefCell<Inner<T>>>);

impl<T> Coalesced<T> {
    /// Wraps a byte stream. `heard` is set whenever something is read.
    pub(crate) fn new(io: T, heard: Rc<Cell<Instant>>) -> (Self, Drain<T>) {
        let inner = Rc::new(RefCell::new(Inner {
            io,
            buffer: Vec::with_capacity(LIMIT),
            written: 0,
            unflushed: false,
            deaf: false,
        }));
        let drain = Drain(Rc::clone(&inner));
        (Self { inner, heard }, drain)
    }
}

impl<T: AsyncWrite + Unpin> Drain<T> {
    /// Writes out what was collected. Pending when the socket is full; the task is woken when it is not.
    pub(crate) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.borrow_mut().poll_drain(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Coalesced<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner.borrow_mut().io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.heard.set(Instant::now());
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Coalesced<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.inner.borrow_mut();
        if inner.buffer.len() >= LIMIT && inner.poll_drain(cx).is_pending() {
            return Poll::Pending;
        }
        let room = LIMIT - inner.buffer.len().min(LIMIT);
        let taken = bytes.len().min(room);
        inner.buffer.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner.borrow_mut();
        ready!(inner.poll_drain(cx));
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::task::noop_waker;

    use super::*;

    /// Counts writes; takes at most `room` bytes until it is given more.
    #[derive(Default)]
    struct Sink {
        writes: usize,
        bytes: Vec<u8>,
        room: usize,
        broken: bool,
    }

    impl AsyncWrite for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if self.broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if self.room == 0 {
                return Poll::Pending;
            }
            let n = bytes.len().min(self.room);
            self.room -= n;
            self.writes += 1;
            self.bytes.extend_from_slice(&bytes[..n]);
            Poll::Ready(Ok(n))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Sink {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    fn wrap(room: usize) -> (Coalesced<Sink>, Drain<Sink>) {
        let sink = Sink {
            room,
            ..Sink::default()
        };
        Coalesced::new(sink, Rc::new(Cell::new(Instant::now())))
    }

    #[test]
    fn many_small_writes_leave_as_one() {
        let (mut writer, drain) = wrap(usize::MAX);
        let waker = noop_waker();
        let cx = &mut Context::from_waker(&waker);
        for _ in 0..100 {
            assert!(Pin::new(&mut writer).poll_write(cx, &[7; 300]).is_ready());
            assert!(Pin::new(&mut writer).poll_flush(cx).is_ready());
        }
        assert_eq!(drain.0.borrow().io.writes, 0);
        assert!(drain.poll_drain(cx).is_ready());
        assert_eq!(drain.0.borrow().io.writes, 1);
        assert_eq!(drain.0.borrow().io.bytes.len(), 30_000);
    }

    #[test]
    fn a_full_socket_pushes_back_and_loses_nothing() {
        let (mut writer, drain) = wrap(1_000);
        let waker = noop_waker();
        let cx = &mut Context::from_waker(&waker);
        let mut sent: Vec<u8> = Vec::new();
        let mut next = 0_u8;
        loop {
            let chunk = vec![next; 5_000];
            match Pin::new(&mut writer).poll_write(cx, &chunk) {
                Poll::Ready(n) => sent.extend_from_slice(&chunk[..n.unwrap()]),
                Poll::Pending => break,
            }
            next = next.wrapping_add(1);
            assert!(sent.len() <= LIMIT + 5_000, "must push back");
        }
        assert!(drain.poll_drain(cx).is_pending());
        drain.0.borrow_mut().io.room = usize::MAX;
        assert!(drain.poll_drain(cx).is_ready());
        assert_eq!(drain.0.borrow().io.bytes, sent);
    }

    #[test]
    fn a_write_that_fails_is_left_to_the_reader() {
        let (mut writer, drain) = wrap(usize::MAX);
        let waker = noop_waker();
        let cx = &mut Context::from_waker(&waker);
        drain.0.borrow_mut().io.broken = true;
        for _ in 0..100 {
            assert!(Pin::new(&mut writer).poll_write(cx, &[7; 5_000]).map(|r| r.is_ok()) == Poll::Ready(true));
        }
        assert!(drain.poll_drain(cx).is_ready());
        assert!(drain.0.borrow().buffer.is_empty());
    }

    /// What the whole exercise is for: an h2 client with bodies above its own chaining threshold.
    #[tokio::test]
    async fn h2_requests_with_large_bodies_share_writes() {
        let (writer, drain) = wrap(usize::MAX);
        let (mut send, mut connection) = h2::client::handshake(writer).await.unwrap();
        let mut open = Vec::new();
        for _ in 0..20 {
            let request = http::Request::post("http://fcm/v1").body(()).unwrap();
            let (answer, mut body) = send.send_request(request, false).unwrap();
            body.send_data(vec![b'x'; 1_500].into(), true).unwrap();
            open.push((answer, body));
        }
        poll_fn(|cx| {
            assert!(Pin::new(&mut connection).poll(cx).is_pending());
            drain.poll_drain(cx)
        })
        .await;
        let inner = drain.0.borrow();
        assert!(inner.io.bytes.len() > 20 * 1_500);
        assert_eq!(inner.io.writes, 1, "30 kB of frames fit one write");
    }
}
