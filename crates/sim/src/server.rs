//! Listening, and finding out what a connection speaks.
//!
//! One port understands everything: a first byte of 0x16 is a TLS handshake, and within it or without it the HTTP/2
//! preface tells HTTP/2 from HTTP/1.1 (after ALPN has chosen `h2`, nothing is left to find out).

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::shared::{Lane, Shared};
use crate::wire::{Socket, Wire};
use crate::{http1, http2};

/// The longest body that is read, in bytes.
pub(crate) const BODY_LIMIT: usize = 64 * 1024;
/// The first byte of a TLS record that holds a handshake.
pub(crate) const TLS_HANDSHAKE: u8 = 0x16;
/// The first bytes of every HTTP/2 connection, and of no request of HTTP/1.1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// How long a connection may take to say what it speaks.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to rest when accepting fails, for instance because file descriptors have run out.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts until it is told to stop or aborted; both cut every connection, and stopping waits until they are gone.
pub(crate) async fn listen(
    shared: Arc<Shared>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    mut stop: oneshot::Receiver<()>,
) {
    let acceptor = TlsAcceptor::from(tls);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let guard = OpenConnection::new(Arc::clone(&shared));
                    connections.spawn(serve(guard, stream, acceptor.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// Counts a connection as open as long as it lives.
pub(crate) struct OpenConnection(Arc<Shared>);

impl OpenConnection {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        shared.counters.connections_opened.fetch_add(1, Ordering::Relaxed);
        shared.counters.connections_open.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.counters.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(open: OpenConnection, stream: TcpStream, acceptor: TlsAcceptor) {
    let shared = Arc::clone(&open.0);
    match tokio::time::timeout(HELLO_TIMEOUT, greet(stream, acceptor)).await {
        Ok(Ok((wire, lane, true))) => http2::serve(shared, wire, lane).await,
        Ok(Ok((wire, lane, false))) => http1::serve(shared, wire, lane).await,
        Ok(Err(error)) => tracing::debug!(%error, "a connection did not begin"),
        Err(_) => tracing::debug!("a connection did not begin in time"),
    }
}

/// The connection as HTTP sees it, and whether it speaks HTTP/2.
async fn greet(stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<(Wire, Lane, bool)> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let tls = first[0] == TLS_HANDSHAKE;
    let lane = Lane { tls, ..Lane::default() };
    let mut socket = if tls {
        let stream = acceptor.accept(stream).await?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let socket = Socket::Tls(Box::new(stream));
        if http2 {
            return Ok((Wire::new(socket, Bytes::new()), lane, true));
        }
        socket
    } else {
        Socket::Plain(stream)
    };
    let mut sniffed = BytesMut::with_capacity(1024);
    while sniffed.len() < PREFACE.len() && PREFACE.starts_with(&sniffed) {
        if socket.read(&mut sniffed).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let http2 = sniffed.starts_with(PREFACE);
    Ok((Wire::new(socket, sniffed.freeze()), lane, http2))
}
