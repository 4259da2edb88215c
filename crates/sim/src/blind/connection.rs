//! The I/O of one blind connection: everything that has arrived in, all answers out.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::sink::Sink;
use super::tokens::Tokens;
use crate::fault::Outcome;
use crate::report::BlindStats;
use crate::server::{HELLO_TIMEOUT, TLS_HANDSHAKE};
use crate::shared::Shared;

/// How much is read before it is answered, in bytes; more than one frame.
const ROUND: usize = 256 * 1024;
/// What TLS reads at once, in bytes; by itself it would ask the system for 4 KiB at a time.
const TLS_READ: usize = 64 * 1024;

/// The counters of all blind connections.
#[derive(Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    writes: AtomicU64,
    bytes_read: AtomicU64,
    without_token: AtomicU64,
}

impl Counters {
    pub(crate) fn stats(&self) -> BlindStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BlindStats {
            requests: load(&self.requests),
            writes: load(&self.writes),
            bytes_read: load(&self.bytes_read),
            without_token: load(&self.without_token),
        }
    }

    pub(crate) fn reset(&self) {
        for counter in [&self.requests, &self.writes, &self.bytes_read, &self.without_token] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// Serves a connection, TLS or plain, until the client closes it.
pub(super) async fn serve(stream: TcpStream, shared: &Shared, acceptor: TlsAcceptor) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    let greeting = async {
        stream.peek(&mut first).await?;
        Ok::<_, io::Error>(first[0] == TLS_HANDSHAKE)
    };
    if tokio::time::timeout(HELLO_TIMEOUT, greeting).await?? {
        let stream = BufReader::with_capacity(TLS_READ, stream);
        let stream = tokio::time::timeout(HELLO_TIMEOUT, acceptor.accept(stream)).await??;
        rounds(stream, shared).await
    } else {
        rounds(stream, shared).await
    }
}

async fn rounds(mut io: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) -> io::Result<()> {
    let mut sink = Sink::new(shared.settings().stream_limit, &shared.message_name(true));
    let mut input = vec![0; ROUND];
    let mut filled = 0;
    let mut out = Vec::with_capacity(ROUND / 4);
    sink.greet(&mut out);
    loop {
        if !out.is_empty() {
            io.write_all(&out).await?;
            io.flush().await?;
            out.clear();
        }
        let read = poll_fn(|cx| fill(&mut io, &mut input[filled..], cx)).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let answered = sink.answered;
        let mut bodies = Bodies {
            tokens: shared.blind_tokens.as_ref(),
            without: 0,
        };
        let taken = sink.take(&input[..filled], &mut out, |body| bodies.look_at(body));
        count(shared, sink.answered - answered, read, bodies.without);
        match taken {
            Ok(used) => {
                input.copy_within(used..filled, 0);
                filled -= used;
            }
            Err(violation) => {
                // What was answered before it still goes out, with the GOAWAY that names it.
                io.write_all(&out).await?;
                io.shutdown().await?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, violation));
            }
        }
    }
}

/// What is done with the last frame of each body.
struct Bodies<'a> {
    tokens: Option<&'a Tokens>,
    without: u64,
}

impl Bodies<'_> {
    fn look_at(&mut self, body: &[u8]) {
        if let Some(tokens) = self.tokens {
            self.without += u64::from(!tokens.see(body));
        }
    }
}

/// Reads until nothing more is there or the buffer is full; 0 only at the end of the stream.
fn fill(io: &mut (impl AsyncRead + Unpin), buffer: &mut [u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    while buffer.remaining() > 0 {
        let before = buffer.filled().len();
        match Pin::new(&mut *io).poll_read(cx, &mut buffer) {
            Poll::Pending if before == 0 => return Poll::Pending,
            Poll::Ready(Err(error)) if before == 0 => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) if buffer.filled().len() > before => {}
            // The end, an error or a wait: it will be there again after what has been read was answered.
            _ => break,
        }
    }
    Poll::Ready(Ok(buffer.filled().len()))
}

fn count(shared: &Shared, answered: u64, read: usize, without_token: u64) {
    let add = |counter: &AtomicU64, more: u64| counter.fetch_add(more, Ordering::Relaxed);
    let blind = &shared.blind;
    add(&blind.bytes_read, u64::try_from(read).unwrap_or(u64::MAX));
    if without_token > 0 {
        add(&blind.without_token, without_token);
    }
    if answered > 0 {
        add(&blind.requests, answered);
        add(&blind.writes, 1);
        shared.counters.outcomes_more(Outcome::Accepted, answered);
        shared.counters.requests_more(answered);
    }
}
