//! From an origin's name to a byte stream: DNS, TCP, TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use rand::seq::SliceRandom;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::socket::Socket;

/// A stream of bytes in both directions, with or without TLS.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin {
    /// What it goes through.
    fn socket(&mut self) -> &mut Socket;
}

impl Duplex for Socket {
    fn socket(&mut self) -> &mut Socket {
        self
    }
}

impl Duplex for TlsStream<Socket> {
    fn socket(&mut self) -> &mut Socket {
        self.get_mut().0
    }
}

/// Where connections go. Shared by all threads.
pub(crate) struct Origin {
    /// The provider's name, for metrics and logs.
    pub(crate) provider: &'static str,
    host: String,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    attempts: AtomicU64,
}

impl Origin {
    /// The origin of an `http` or `https` URI. The error reads after a key's name.
    pub(crate) fn new(provider: &'static str, uri: &Uri, tls: &Arc<ClientConfig>) -> Result<Self, &'static str> {
        const EXPECTED: &str = "expected https://host or http://host, with or without a port";
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(EXPECTED)?;
        // An IPv6 address is written in brackets in a URI only.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (port, tls) = if uri.scheme() == Some(&Scheme::HTTPS) {
            let name = ServerName::try_from(host.clone()).map_err(|_| EXPECTED)?;
            (443, Some((Arc::clone(tls), name)))
        } else if uri.scheme() == Some(&Scheme::HTTP) {
            (80, None)
        } else {
            return Err(EXPECTED);
        };
        Ok(Self {
            provider,
            host,
            port: uri.port_u16().unwrap_or(port),
            tls,
            attempts: AtomicU64::new(0),
        })
    }

    /// Numbers an attempt to connect, and the connection that comes of it. Unique within this origin.
    pub(crate) fn next_attempt(&self) -> u64 {
        self.attempts.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The host's name, for logs.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Is the connection encrypted?
    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }
}

/// What [`dial`] came to.
pub(crate) struct Dialled {
    pub(crate) io: Box<dyn Duplex>,
    /// The protocol that TLS agreed on; `None` without TLS or where the peer does not negotiate.
    pub(crate) protocol: Option<Vec<u8>>,
}

/// Resolves, connects, and shakes hands where the origin wants TLS. `patience` is for one address; the caller bounds the whole.
pub(crate) async fn dial(origin: &Origin, patience: Duration) -> io::Result<Dialled> {
    let tcp = connect_any(origin, patience).await?;
    // Writes are collected before they reach the socket, so that Nagle's delay would only add latency.
    tcp.set_nodelay(true)?;
    let tcp = Socket::new(tcp);
    let Some((config, name)) = &origin.tls else {
        return Ok(Dialled {
            io: Box::new(tcp),
            protocol: None,
        });
    };
    let tls = TlsConnector::from(Arc::clone(config))
        .connect(name.clone(), tcp)
        .await?;
    let protocol = tls.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    Ok(Dialled {
        io: Box::new(tls),
        protocol,
    })
}

/// Asks DNS for every connection and begins at a random address, so that the connections spread over the provider's machines.
async fn connect_any(origin: &Origin, patience: Duration) -> io::Result<TcpStream> {
    let mut addresses: Vec<SocketAddr> = tokio::net::lookup_host((origin.host.as_str(), origin.port))
        .await?
        .collect();
    addresses.shuffle(&mut rand::rng());
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        match tokio::time::timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(e)) => last = e,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}
