//! A peer that speaks HTTP/2 frame by frame, so that tests decide over settings, resets, GOAWAY and silence.
//!
//! It does not decode headers: the target is found in the body, and answers have the indexed status 200 only.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::spawn_local;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const PREFACE: usize = 24;

/// What to do with a request.
#[derive(Clone, Copy)]
pub(crate) enum Act {
    Accept,
    /// Keeps it open until [`Peer::release`].
    Hold,
    Refuse,
    Reset,
    /// Accepts it and says that it was the last.
    GoAway,
    /// GOAWAY with last id 0, then the connection ends.
    SendAway,
    /// Ends the connection at once.
    Cut,
}

/// What a test tells all connections.
#[derive(Clone, Copy)]
enum Order {
    Limit(u32),
    /// Of each connection so many.
    Release(usize),
    Freeze,
    GoAway,
}

type Script = Box<dyn Fn(&str) -> Act>;

/// The peer and what it has seen.
pub(crate) struct Peer {
    pub(crate) port: u16,
    /// The stream limit of new connections; `None` says nothing.
    pub(crate) limit: Cell<Option<u32>>,
    /// Answers even those streams that the client has reset.
    pub(crate) stubborn: Cell<bool>,
    /// Sends no SETTINGS at all.
    pub(crate) mute: Cell<bool>,
    script: RefCell<Script>,
    orders: RefCell<Vec<mpsc::UnboundedSender<Order>>>,
    pub(crate) connections: Cell<usize>,
    pub(crate) alive: Cell<usize>,
    pub(crate) open: Cell<usize>,
    pub(crate) most_open: Cell<usize>,
    /// Streams that came although the limit, acknowledged by the client, was reached.
    pub(crate) violations: Cell<usize>,
    pub(crate) resets: Cell<usize>,
    pub(crate) acked: Cell<usize>,
    pub(crate) pings: Cell<usize>,
    /// How often each target was accepted.
    pub(crate) accepted: RefCell<BTreeMap<String, usize>>,
}

fn add(cell: &Cell<usize>) {
    cell.set(cell.get() + 1);
}

impl Peer {
    pub(crate) async fn start(limit: Option<u32>) -> Rc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Rc::new(Self {
            port: listener.local_addr().unwrap().port(),
            limit: Cell::new(limit),
            stubborn: Cell::default(),
            mute: Cell::default(),
            script: RefCell::new(Box::new(|_| Act::Accept)),
            orders: RefCell::default(),
            connections: Cell::default(),
            alive: Cell::default(),
            open: Cell::default(),
            most_open: Cell::default(),
            violations: Cell::default(),
            resets: Cell::default(),
            acked: Cell::default(),
            pings: Cell::default(),
            accepted: RefCell::default(),
        });
        let server = Rc::clone(&peer);
        spawn_local(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                add(&server.connections);
                add(&server.alive);
                let server = Rc::clone(&server);
                spawn_local(async move {
                    let mut connection = Connection::new(Rc::clone(&server), tcp);
                    let _ = connection.run().await;
                    server.open.set(server.open.get() - connection.streams.len());
                    server.alive.set(server.alive.get() - 1);
                });
            }
        });
        peer
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn script(&self, script: impl Fn(&str) -> Act + 'static) {
        *self.script.borrow_mut() = Box::new(script);
    }

    fn order(&self, order: Order) {
        for connection in self.orders.borrow().iter() {
            let _ = connection.send(order);
        }
    }

    /// Announces another stream limit on all connections.
    pub(crate) fn announce(&self, limit: u32) {
        self.order(Order::Limit(limit));
    }

    /// Accepts what is held.
    pub(crate) fn release(&self) {
        self.order(Order::Release(usize::MAX));
    }

    /// Accepts so many of those that are held longest, on each connection.
    pub(crate) fn release_some(&self, count: usize) {
        self.order(Order::Release(count));
    }

    /// From now on nothing is read or written, on the connections that stand.
    pub(crate) fn freeze(&self) {
        self.order(Order::Freeze);
    }

    /// Sends GOAWAY after the latest stream.
    pub(crate) fn go_away(&self) {
        self.order(Order::GoAway);
    }
}

/// A stream whose request is not answered yet.
#[derive(Default)]
struct Stream {
    body: Vec<u8>,
    held: bool,
}

struct Connection {
    peer: Rc<Peer>,
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    orders: mpsc::UnboundedReceiver<Order>,
    streams: BTreeMap<u32, Stream>,
    /// Limits announced and not acknowledged, and the one in force.
    announced: Vec<u32>,
    limit: u32,
    latest: u32,
    /// After a GOAWAY nothing above is processed.
    last: Option<u32>,
}

impl Connection {
    fn new(peer: Rc<Peer>, tcp: TcpStream) -> Self {
        tcp.set_nodelay(true).unwrap();
        let (read, write) = tcp.into_split();
        let (order, orders) = mpsc::unbounded_channel();
        peer.orders.borrow_mut().push(order);
        Self {
            peer,
            read: BufReader::new(read),
            write,
            orders,
            streams: BTreeMap::new(),
            announced: Vec::new(),
            limit: u32::MAX,
            latest: 0,
            last: None,
        }
    }

    async fn run(&mut self) -> io::Result<()> {
        self.read.read_exact(&mut [0; PREFACE]).await?;
        if self.peer.mute.get() {
            std::future::pending::<()>().await;
        }
        self.announce(self.peer.limit.get()).await?;
        loop {
            // A frame's head is peeked at, so that an order that comes in between loses no byte.
            tokio::select! {
                biased;
                order = self.orders.recv() => match order.unwrap() {
                    Order::Limit(limit) => self.announce(Some(limit)).await?,
                    Order::Release(count) => self.release(count).await?,
                    Order::Freeze => std::future::pending().await,
                    Order::GoAway => self.go_away(self.latest).await?,
                },
                readable = tokio::io::AsyncBufReadExt::fill_buf(&mut self.read) => {
                    if readable?.is_empty() {
                        return Ok(());
                    }
                    if !self.frame().await? {
                        return Ok(());
                    }
                }
            }
            if self.last.is_some() && self.streams.is_empty() {
                return self.part().await;
            }
        }
    }

    /// Ends in good order: closing with requests unread would make the kernel take back what is still on its way to the client.
    async fn part(&mut self) -> io::Result<()> {
        self.write.shutdown().await?;
        tokio::io::copy(&mut self.read, &mut tokio::io::sink()).await?;
        Ok(())
    }

    /// Reads a frame and reacts. False: the connection ends.
    async fn frame(&mut self) -> io::Result<bool> {
        let mut head = [0; 9];
        self.read.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        self.read.read_exact(&mut payload).await?;
        match kind {
            HEADERS => self.opened(id),
            DATA => {
                self.write(WINDOW_UPDATE, 0, 0, &u32::try_from(length).unwrap().to_be_bytes())
                    .await?;
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.body.extend_from_slice(&payload);
                    if flags & END_STREAM != 0 {
                        return self.requested(id).await;
                    }
                }
            }
            RST_STREAM => {
                add(&self.peer.resets);
                if self.peer.stubborn.get() && self.streams.get(&id).is_some_and(|stream| stream.held) {
                    self.accept(id).await?;
                }
                self.closed(id);
            }
            SETTINGS if flags & ACK == 0 => self.write(SETTINGS, ACK, 0, &[]).await?,
            SETTINGS => {
                self.limit = self.announced.remove(0);
                add(&self.peer.acked);
            }
            PING if flags & ACK == 0 => {
                add(&self.peer.pings);
                self.write(PING, ACK, 0, &payload).await?;
            }
            _ => {}
        }
        Ok(true)
    }

    fn opened(&mut self, id: u32) {
        if self.last.is_some_and(|last| id > last) {
            return;
        }
        if self.streams.len() >= self.limit as usize {
            add(&self.peer.violations);
        }
        self.latest = id;
        self.streams.insert(id, Stream::default());
        add(&self.peer.open);
        self.peer
            .most_open
            .set(self.peer.most_open.get().max(self.peer.open.get()));
    }

    fn closed(&mut self, id: u32) {
        if self.streams.remove(&id).is_some() {
            self.peer.open.set(self.peer.open.get() - 1);
        }
    }

    async fn requested(&mut self, id: u32) -> io::Result<bool> {
        let token = token(&self.streams[&id].body);
        let act = (self.peer.script.borrow())(&token);
        match act {
            Act::Accept => self.accept(id).await?,
            Act::Hold => self.streams.get_mut(&id).unwrap().held = true,
            Act::Refuse => self.reset(id, 7).await?,
            Act::Reset => self.reset(id, 2).await?,
            Act::GoAway => {
                self.accept(id).await?;
                self.go_away(id).await?;
            }
            Act::SendAway => {
                self.go_away(0).await?;
            }
            Act::Cut => return Ok(false),
        }
        Ok(true)
    }

    async fn accept(&mut self, id: u32) -> io::Result<()> {
        let token = token(&self.streams[&id].body);
        *self.peer.accepted.borrow_mut().entry(token).or_default() += 1;
        self.closed(id);
        self.write(HEADERS, END_HEADERS, id, &[0x88]).await?;
        self.write(DATA, END_STREAM, id, br#"{"name":"projects/p/messages/1"}"#)
            .await
    }

    async fn reset(&mut self, id: u32, reason: u32) -> io::Result<()> {
        self.closed(id);
        self.write(RST_STREAM, 0, id, &reason.to_be_bytes()).await
    }

    async fn go_away(&mut self, last: u32) -> io::Result<()> {
        self.last = Some(last);
        for id in self.streams.keys().copied().filter(|id| *id > last).collect::<Vec<_>>() {
            self.closed(id);
        }
        let payload = [last.to_be_bytes(), 0_u32.to_be_bytes()].concat();
        self.write(GOAWAY, 0, 0, &payload).await
    }

    async fn release(&mut self, count: usize) -> io::Result<()> {
        for id in self
            .streams
            .iter()
            .filter(|(_, s)| s.held)
            .map(|(id, _)| *id)
            .take(count)
            .collect::<Vec<_>>()
        {
            self.accept(id).await?;
        }
        Ok(())
    }

    async fn announce(&mut self, limit: Option<u32>) -> io::Result<()> {
        self.announced.push(limit.unwrap_or(u32::MAX));
        let payload = limit.map_or(Vec::new(), |limit| [&[0, 3][..], &limit.to_be_bytes()].concat());
        self.write(SETTINGS, 0, 0, &payload).await
    }

    async fn write(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&id.to_be_bytes());
        frame.extend_from_slice(payload);
        self.write.write_all(&frame).await
    }
}

fn token(body: &[u8]) -> String {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    body["message"]["token"].as_str().unwrap().to_owned()
}
