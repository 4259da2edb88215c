//! The byte stream under a connection: plain or TLS, with what was sniffed put back and the writes gathered.
//!
//! HTTP/2 writes a frame at a time. Here they collect in a buffer until the flush, so that many answers cost one
//! system call and one TLS record. A write is always taken whole; so the buffer ends at a frame's end whenever the
//! HTTP/2 side is not writing, and that is where [`Injector`] can put a frame of our own.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// One GOAWAY frame with a last stream id, an error code and no text: RFC 9113, section 6.8.
const GOAWAY_HEAD: [u8; 9] = [0, 0, 8, 7, 0, 0, 0, 0, 0];

/// A TCP connection, with or without TLS.
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

pub(crate) struct Wire {
    socket: Socket,
    sniffed: Bytes,
    out: BytesMut,
    injector: Injector,
}

/// Writes frames that the HTTP/2 library would not write.
#[derive(Clone, Default)]
pub(crate) struct Injector(Arc<Mutex<BytesMut>>);

impl Injector {
    /// Announces that streams above `last` will not be processed. Must not be called while HTTP/2 is being polled.
    pub(crate) fn goaway(&self, last: u32) {
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        frames.extend_from_slice(&GOAWAY_HEAD);
        frames.extend_from_slice(&last.to_be_bytes());
        frames.extend_from_slice(&0_u32.to_be_bytes());
    }
}

impl Wire {
    pub(crate) fn new(socket: Socket, sniffed: Bytes) -> Self {
        Self {
            socket,
            sniffed,
            out: BytesMut::new(),
            injector: Injector::default(),
        }
    }

    pub(crate) fn injector(&self) -> Injector {
        self.injector.clone()
    }

    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        {
            let mut frames = self.injector.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !frames.is_empty() {
                self.out.extend_from_slice(&frames);
                frames.clear();
            }
        }
        while !self.out.is_empty() {
            let written = ready!(self.socket.as_mut().poll_write(cx, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

/// Either kind of socket.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl Socket {
    fn as_mut(&mut self) -> Pin<&mut dyn Duplex> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }

    pub(crate) async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        use tokio::io::AsyncReadExt as _;
        match self {
            Self::Plain(stream) => stream.read_buf(buffer).await,
            Self::Tls(stream) => stream.read_buf(buffer).await,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.sniffed.is_empty() {
            let length = self.sniffed.len().min(buf.remaining());
            buf.put_slice(&self.sniffed.split_to(length));
            return Poll::Ready(Ok(()));
        }
        self.socket.as_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.out.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(cx))?;
        self.socket.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(cx))?;
        self.socket.as_mut().poll_shutdown(cx)
    }
}
