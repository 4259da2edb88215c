//! A connection over bugle's own HTTP/2 ([`crate::http2`]): its handle and its driver.
//!
//! A request is put into the connection's output at once; no task waits for it. The driver writes what has collected, reads what there is, and tells the answers, all in
//! one go: what a round of system calls and TLS records costs is shared by as many requests as possible. While many streams are open and answers trickle in, it
//! lets a millisecond pass between two rounds, four or eight where answers take long.
//!
//! Each open stream holds its [`Permit`], which holds the connection: whatever ends the driver ends all streams, so nothing is kept alive by itself.

mod deadlines;
mod driver;
mod pause;
mod round;

pub(super) use driver::{FramedDriver, open};

use std::cell::{Cell, RefCell};
use std::task::Waker;

use tokio::sync::Notify;
use tokio::time::Instant;

use self::deadlines::Deadlines;
use super::exchange::{Failure, Head, Request};
use super::permit::Permit;
use crate::http2::{self, Settings};

/// With more than this waiting to be written no stream is opened: the peer does not read.
const BACKLOG: usize = 256 << 10;
/// What a stream is kept with.
struct Flight {
    request: Request,
    permit: Permit,
}

type Protocol = http2::Connection<Flight>;

/// The handle.
pub(super) struct Framed {
    protocol: RefCell<Protocol>,
    /// What waits to be written, as far as it is known: bytes.
    backlog: Cell<usize>,
    deadlines: RefCell<Deadlines>,
    driver: RefCell<Option<Waker>>,
    /// The driver will look by itself: it is woken already, or it pauses.
    awake: Cell<bool>,
    pong: Notify,
}

impl Framed {
    fn new() -> Self {
        Self {
            protocol: RefCell::new(http2::Connection::new(Settings::default())),
            backlog: Cell::new(0),
            deadlines: RefCell::default(),
            driver: RefCell::default(),
            awake: Cell::new(true),
            pong: Notify::new(),
        }
    }

    /// Puts a request into the output. `Err` = nothing was sent: the peer does not take a head of this size
    /// ([`Failure::HeadTooLarge`]), or the connection takes no request any more ([`Failure::Unprocessed`]).
    pub(super) fn send(
        &self,
        permit: Permit,
        head: &Head,
        body: &[&[u8]],
        deadline: Instant,
        request: Request,
    ) -> Result<(), (Permit, Failure)> {
        let mut protocol = self.protocol.borrow_mut();
        match protocol.request(head.framed(), &[], body, Flight { request, permit }) {
            Ok(stream) => {
                self.backlog.set(protocol.output().len());
                drop(protocol);
                self.deadlines.borrow_mut().add(deadline, stream);
                self.wake();
                Ok(())
            }
            Err(flight) => {
                let too_large = protocol.is_open() && !protocol.takes(head.framed(), &[]);
                let failure = if too_large {
                    Failure::HeadTooLarge
                } else {
                    Failure::Unprocessed
                };
                Err((flight.permit, failure))
            }
        }
    }

    /// May the peer be given more?
    pub(super) fn has_room(&self) -> bool {
        self.backlog.get() < BACKLOG
    }

    /// Makes the driver look.
    pub(super) fn wake(&self) {
        if !self.awake.replace(true)
            && let Some(driver) = &*self.driver.borrow()
        {
            driver.wake_by_ref();
        }
    }

    async fn ping(&self) {
        let pong = self.pong.notified();
        self.protocol.borrow_mut().ping();
        self.wake();
        pong.await;
    }
}
