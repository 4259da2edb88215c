//! A TCP proxy between a test and a server, to cut, stall and slow what passes.
//!
//! It lives on a thread of its own with a runtime of its own, so a test may block while it works. Each direction of a connection is a
//! reader and a writer with a queue of chunks between them; a chunk carries the moment at which it may leave, so a delay adds to the
//! time of an answer and takes nothing from the throughput. Orders are answered when they are in force.

use std::fmt::Display;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::free_port;

/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;
/// Chunks that wait in one direction of one connection: at 500 ms of delay still 32 MB a second.
const WAITING: usize = 1024;

/// A listener of 127.0.0.1 in front of one server. Ends with its connections when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    orders: Option<mpsc::UnboundedSender<(Order, blocking::Sender<()>)>>,
    open: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Cut,
    Stall,
    Delay(Duration),
    Restore,
}

/// What holds for all connections.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    stalled: bool,
    delay: Duration,
}

impl Proxy {
    /// Starts one; `upstream` is an address or `host:port`, and is looked up for each connection.
    #[must_use]
    pub fn start(upstream: impl Display) -> Self {
        let upstream = upstream.to_string();
        let (orders, inbox) = mpsc::unbounded_channel();
        let (started, address) = blocking::channel();
        let open = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&open);
        let thread = std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(async {
                    let listener = listen().await;
                    let address = listener.local_addr().expect("bound");
                    started.send(address).expect("start() waits");
                    let carrier = Carrier {
                        upstream: upstream.into(),
                        weather: watch::Sender::new(Weather::default()),
                        open: counter,
                    };
                    carrier.run(listener, address, inbox).await;
                });
            })
            .expect("a thread");
        Self {
            address: address.recv().expect("the proxy starts"),
            orders: Some(orders),
            open,
            thread: Some(thread),
        }
    }

    /// Where it listens; the same for all its life.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections are open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Closes all connections, and refuses new ones until [`Proxy::restore`].
    pub fn cut(&self) {
        self.order(Order::Cut);
    }

    /// Keeps connections open, and takes new ones, but passes nothing on; what was sent meanwhile arrives after [`Proxy::restore`].
    pub fn stall(&self) {
        self.order(Order::Stall);
    }

    /// From now on each chunk from the server leaves this much later than it came, in order; zero ends it.
    pub fn delay(&self, by: Duration) {
        self.order(Order::Delay(by));
    }

    /// Ends a cut, a stall and a delay.
    pub fn restore(&self) {
        self.order(Order::Restore);
    }

    fn order(&self, order: Order) {
        let (done, wait) = blocking::channel();
        let orders = self.orders.as_ref().expect("until the drop");
        orders.send((order, done)).expect("the proxy's thread runs");
        wait.recv().expect("the proxy's thread obeys");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A free port, again when somebody else was faster.
async fn listen() -> TcpListener {
    loop {
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).await {
            return listener;
        }
    }
}

/// The proxy's half on its own thread.
struct Carrier {
    upstream: Arc<str>,
    weather: watch::Sender<Weather>,
    open: Arc<AtomicUsize>,
}

/// One in the number of open connections.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Carrier {
    /// Until the orders end.
    async fn run(
        self,
        listener: TcpListener,
        address: SocketAddr,
        mut inbox: mpsc::UnboundedReceiver<(Order, blocking::Sender<()>)>,
    ) {
        let mut listener = Some(listener);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                order = inbox.recv() => {
                    let Some((order, done)) = order else { break };
                    match order {
                        // Without a listener the system itself refuses.
                        Order::Cut => {
                            close(listener.take());
                            connections.shutdown().await;
                        }
                        Order::Stall => self.weather.send_modify(|weather| weather.stalled = true),
                        Order::Delay(by) => self.weather.send_modify(|weather| weather.delay = by),
                        Order::Restore => {
                            self.weather.send_replace(Weather::default());
                            if listener.is_none() {
                                listener = Some(listen_at(address).await);
                            }
                        }
                    }
                    let _ = done.send(());
                }
                client = accept(listener.as_ref()) => {
                    if let Ok(client) = client {
                        connections.spawn(self.carry(client));
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
        close(listener);
    }

    /// One connection, until one side ends it in both directions or breaks.
    fn carry(&self, client: TcpStream) -> impl Future<Output = io::Result<()>> + use<> {
        self.open.fetch_add(1, Ordering::SeqCst);
        let open = Open(Arc::clone(&self.open));
        let (there, back) = (self.weather.subscribe(), self.weather.subscribe());
        let upstream = Arc::clone(&self.upstream);
        async move {
            let _open = open;
            let server = TcpStream::connect(&*upstream).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = server.into_split();
            tokio::try_join!(
                pass(client_read, server_write, there, false),
                pass(server_read, client_write, back, true),
            )?;
            Ok(())
        }
    }
}

/// The same port again: whoever was quicker has it for a moment only, or the test cannot go on.
async fn listen_at(address: SocketAddr) -> TcpListener {
    let since = Instant::now();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert!(since.elapsed() < Duration::from_secs(10), "{address} again: {error}"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Closed for everybody: a child that is being started elsewhere in this process has a copy of the socket until its program runs, and a
/// copy would keep on taking connections.
fn close(listener: Option<TcpListener>) {
    if let Some(listener) = listener {
        let _ = shutdown(&listener, Shutdown::Both);
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}

/// One direction of one connection.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    delayed: bool,
) -> io::Result<()> {
    let (queue, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(WAITING);
    let now = weather.clone();
    let reader = async move {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            if from.read_buf(&mut chunk).await? == 0 {
                return Ok(());
            }
            let delay = if delayed { now.borrow().delay } else { Duration::ZERO };
            if queue.send((Instant::now() + delay, chunk)).await.is_err() {
                return Ok(());
            }
        }
    };
    let writer = async move {
        while let Some((due, chunk)) = chunks.recv().await {
            sleep_until(due).await;
            // An error would mean that the proxy is gone, and this with it.
            drop(weather.wait_for(|weather| !weather.stalled).await);
            to.write_all(&chunk).await?;
        }
        drop(weather.wait_for(|weather| !weather.stalled).await);
        to.shutdown().await
    };
    tokio::try_join!(reader, writer)?;
    Ok(())
}
