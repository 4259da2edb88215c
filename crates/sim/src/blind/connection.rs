//! The I/O of one blind connection: everything that has arrived in, all answers out.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::delays::Delays;
use super::numbers::{Numbers, Seen};
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
    /// Answers that were late because they had to be.
    late: AtomicU64,
    late_us: AtomicU64,
}

impl Counters {
    pub(crate) fn stats(&self) -> BlindStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BlindStats {
            requests: load(&self.requests),
            writes: load(&self.writes),
            bytes_read: load(&self.bytes_read),
            without_token: load(&self.without_token),
            late: load(&self.late),
            late_us: load(&self.late_us),
        }
    }

    pub(crate) fn reset(&self) {
        let counters = [
            &self.requests,
            &self.writes,
            &self.bytes_read,
            &self.without_token,
            &self.late,
            &self.late_us,
        ];
        for counter in counters {
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
    let mut delays = Delays::new();
    let mut bodies = Bodies::new(shared);
    let mut input = vec![0; ROUND];
    let mut filled = 0;
    let mut out = Vec::with_capacity(ROUND / 4);
    sink.greet(&mut out);
    loop {
        if delays.next().is_some() {
            answer_due(&mut delays, &mut sink, &mut out, shared)?;
        }
        if !out.is_empty() {
            io.write_all(&out).await?;
            io.flush().await?;
            out.clear();
        }
        let arrived = poll_fn(|cx| fill(&mut io, &mut input[filled..], cx));
        let read = match delays.next() {
            None => arrived.await?,
            Some(due) => tokio::select! {
                biased;
                read = arrived => read?,
                () = tokio::time::sleep_until(due.into()) => continue,
            },
        };
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let settings = shared.settings();
        sink.delaying = settings.latency.is_some() || settings.latency_ms > 0;
        let answered = sink.answered;
        let taken = sink.take(&input[..filled], &mut out, |body| bodies.look_at(body));
        count(shared, sink.answered - answered, read, bodies.take_without());
        delays.add(&mut sink.unanswered, || shared.latency(&settings));
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

fn answer_due(delays: &mut Delays, sink: &mut Sink, out: &mut Vec<u8>, shared: &Shared) -> io::Result<()> {
    let answered = sink.answered;
    let mut violation = None;
    let (late, waited) = delays.take(|stream| violation = sink.answer(stream, out).err().or(violation));
    shared.blind.late.fetch_add(late, Ordering::Relaxed);
    shared.blind.late_us.fetch_add(waited, Ordering::Relaxed);
    count(shared, sink.answered - answered, 0, 0);
    violation.map_or(Ok(()), |text| Err(io::Error::new(io::ErrorKind::InvalidData, text)))
}

/// What is done with the last frame of each body.
struct Bodies<'a> {
    tokens: Option<&'a Tokens>,
    numbers: Option<&'a Numbers>,
    /// Where the last body had its token.
    place: usize,
    without: u64,
}

impl<'a> Bodies<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self {
            tokens: shared.blind_tokens.as_ref(),
            numbers: shared.blind_numbers.as_ref(),
            place: 0,
            without: 0,
        }
    }

    fn look_at(&mut self, body: &[u8]) {
        if let Some(numbers) = self.numbers {
            self.without += u64::from(numbers.see(body, &mut self.place) == Seen::Nothing);
        } else if let Some(tokens) = self.tokens {
            self.without += u64::from(!tokens.see(body));
        }
    }

    /// How many bodies had no token since this was asked last.
    fn take_without(&mut self) -> u64 {
        std::mem::take(&mut self.without)
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
    if read > 0 {
        add(&blind.bytes_read, u64::try_from(read).unwrap_or(u64::MAX));
    }
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
