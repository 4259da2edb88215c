//! The blind mode: a sink that answers every HTTP/2 request with the same 200 and looks at none.
//!
//! It is for measuring a sender's speed on a machine that has to run the sink too: it must cost next to nothing. It
//! has a port of its own; the exchange of tokens and everything below `/sim` stay with the port that checks.
//!
//! ```text
//! accept (the simulator's runtime) ──round robin──► thread: current-thread runtime
//!                                                     connection: fill ► Sink::take ► one write, and again
//! ```
//!
//! - [`sink::Sink`] is the protocol without I/O: bytes in, bytes out, a few numbers of state for each connection and
//!   none for each stream. Header blocks are never decoded, so neither path, method nor bearer is known.
//! - [`connection`] reads all that has arrived, and writes all the answers to it at once.
//! - [`delays::Delays`] keeps answers back where the settings give a latency.
//! - [`tokens::Tokens`], where it is asked for, counts distinct tokens by 64-bit hashes; [`numbers::Numbers`] by the number that each begins with.

mod connection;
mod delays;
mod numbers;
mod sink;
mod tokens;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::cipher_suite;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::server::{ACCEPT_PAUSE, OpenConnection};
use crate::shared::Shared;

pub(crate) use self::connection::Counters;
pub(crate) use self::numbers::Numbers;
pub(crate) use self::tokens::Tokens;

/// A running blind sink. Dropping it stops it too.
pub(crate) struct Blind {
    pub(crate) addr: SocketAddr,
    accepting: JoinHandle<()>,
    /// Each ends with its thread.
    threads: Vec<oneshot::Receiver<()>>,
}

/// A connection that was accepted, not yet on its thread's runtime.
type Arrival = (std::net::TcpStream, OpenConnection);

impl Blind {
    /// Binds the port and starts the threads.
    pub(crate) async fn start(shared: &Arc<Shared>, config: &Config, tls: &rustls::ServerConfig) -> Result<Self> {
        let address = config
            .blind_listen
            .unwrap_or_else(|| SocketAddr::new(config.listen.ip(), 0));
        let failed = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let acceptor = TlsAcceptor::from(Arc::new(cheaper(tls)));
        let mut lanes = Vec::new();
        let mut threads = Vec::new();
        for number in 0..config.blind_threads.max(1) {
            let (lane, arrivals) = mpsc::unbounded_channel();
            let (ending, ended) = oneshot::channel();
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(Error::Thread)?;
            let (shared, acceptor) = (Arc::clone(shared), acceptor.clone());
            std::thread::Builder::new()
                .name(format!("blind-{number}"))
                .spawn(move || {
                    work(&runtime, arrivals, &shared, &acceptor);
                    drop(runtime);
                    drop(ending);
                })
                .map_err(Error::Thread)?;
            lanes.push(lane);
            threads.push(ended);
        }
        let accepting = tokio::spawn(accept(listener, lanes, Arc::clone(shared)));
        Ok(Self {
            addr,
            accepting,
            threads,
        })
    }

    /// Closes the port and cuts every connection; done when the threads are.
    pub(crate) async fn stop(mut self) {
        self.accepting.abort();
        for ended in self.threads.drain(..) {
            // Nothing is ever sent: the error is the end of the thread.
            let _ = ended.await;
        }
    }
}

impl Drop for Blind {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// HTTP/2 only, and the cheapest cipher first, whatever the client prefers.
fn cheaper(tls: &rustls::ServerConfig) -> rustls::ServerConfig {
    let mut provider = rustls::crypto::CryptoProvider::clone(tls.crypto_provider());
    let cheapest = cipher_suite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.retain(|suite| *suite != cheapest);
    provider.cipher_suites.insert(0, cheapest);
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    tls.ignore_client_order = true;
    tls
}

/// Hands connections to the threads in turn. The threads end when this does, because their channels close.
async fn accept(listener: TcpListener, lanes: Vec<mpsc::UnboundedSender<Arrival>>, shared: Arc<Shared>) {
    for lane in lanes.iter().cycle() {
        let stream = loop {
            match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => break stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        // A thread that has ended has panicked, and its panic was reported; its connections are closed.
        let _ = lane.send((stream, OpenConnection::new(Arc::clone(&shared))));
    }
}

/// One thread, until no connection can come any more; dropping its runtime then cuts those that are left.
fn work(
    runtime: &Runtime,
    mut arrivals: mpsc::UnboundedReceiver<Arrival>,
    shared: &Arc<Shared>,
    acceptor: &TlsAcceptor,
) {
    runtime.block_on(async {
        while let Some((stream, open)) = arrivals.recv().await {
            let (shared, acceptor) = (Arc::clone(shared), acceptor.clone());
            tokio::spawn(async move {
                if let Err(error) = serve(stream, &shared, acceptor).await {
                    tracing::debug!(%error, "a blind connection ended");
                }
                drop(open);
            });
        }
    });
}

async fn serve(stream: std::net::TcpStream, shared: &Shared, acceptor: TlsAcceptor) -> io::Result<()> {
    connection::serve(tokio::net::TcpStream::from_std(stream)?, shared, acceptor).await
}
