//! A sender thread's connections to one origin, and who may open a stream on them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until, timeout};

use super::connect::Origin;
use super::connection::{self, Connection, Driver, End};
use super::exchange::{Failure, Reply};
use super::permit::Permit;
use super::{Backoff, Tuning};
use crate::metrics::{CONNECTIONS_ENDED_TOTAL, CONNECTIONS_OPEN, CONNECTS_TOTAL};

const RECONNECTS: Backoff = Backoff {
    first: Duration::from_millis(100),
    cap: Duration::from_secs(5),
};

/// The limit that is expected of a peer that has not said one yet.
const USUAL_LIMIT: usize = 100;

/// Connections are opened as they are needed, the next when those that stand are more than half full, and replaced when they end.
pub(crate) struct Pool {
    me: Weak<Pool>,
    origin: Arc<Origin>,
    tuning: Tuning,
    reply: Weak<dyn Reply>,
    state: RefCell<State>,
}

struct State {
    /// Those on which streams may be opened.
    open: Vec<Rc<Connection>>,
    /// Attempts to connect under way, or waiting for `retry_at`.
    connecting: usize,
    /// Oldest first. Those who gave up stay until their turn comes, or the list would grow.
    waiters: VecDeque<oneshot::Sender<Result<Permit, Failure>>>,
    /// Permits given out, those of retiring connections included.
    in_use: usize,
    /// What a connection of this peer was last seen to carry.
    usual: usize,
    /// Attempts in a row after which nothing was answered.
    failures: u32,
    retry_at: Option<Instant>,
    closed: bool,
}

impl Pool {
    /// `reply` is told what becomes of the requests that are [sent](Permit::send).
    pub(crate) fn new(origin: Arc<Origin>, tuning: Tuning, reply: Weak<dyn Reply>) -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            me: me.clone(),
            state: RefCell::new(State {
                open: Vec::with_capacity(tuning.connections),
                connecting: 0,
                waiters: VecDeque::new(),
                in_use: 0,
                usual: tuning.streams.min(USUAL_LIMIT),
                failures: 0,
                retry_at: None,
                closed: false,
            }),
            origin,
            tuning,
            reply,
        })
    }

    pub(super) fn reply(&self) -> Option<Rc<dyn Reply>> {
        self.reply.upgrade()
    }

    /// The right to open a stream at once, if there is one and nobody waits for it.
    pub(crate) fn try_permit(&self) -> Option<Permit> {
        let permit = {
            let mut state = self.state.borrow_mut();
            if state.closed || !state.waiters.is_empty() {
                return None;
            }
            state.grant(self)?
        };
        if self.wants_connections() {
            self.pump();
        }
        Some(permit)
    }

    /// Are there fewer connections than the load asks for?
    fn wants_connections(&self) -> bool {
        let state = self.state.borrow();
        state.open.len() < self.tuning.connections && state.missing(&self.tuning) > 0
    }

    /// Waits for the right to open a stream at once, first come first served. Cancel-safe.
    pub(crate) async fn permit(&self) -> Result<Permit, Failure> {
        let answer = {
            let mut state = self.state.borrow_mut();
            if state.closed {
                return Err(Failure::Closed);
            }
            if state.waiters.is_empty()
                && let Some(permit) = state.grant(self)
            {
                drop(state);
                self.pump();
                return Ok(permit);
            }
            let (waiter, answer) = oneshot::channel();
            if state.waiters.len() == state.waiters.capacity() {
                state.waiters.retain(|w| !w.is_closed());
            }
            state.waiters.push_back(waiter);
            answer
        };
        self.pump();
        answer.await.unwrap_or(Err(Failure::Closed))
    }

    /// Streams that may be open at once: what stands by what its peer allows, the rest by what was last seen.
    pub(crate) fn capacity(&self) -> usize {
        let state = self.state.borrow();
        if state.closed {
            return 0;
        }
        let standing: usize = state.open.iter().map(|c| c.limit(self.tuning.streams)).sum();
        standing + (self.tuning.connections.saturating_sub(state.open.len())) * state.usual
    }

    /// No permits any more. Connections close when their last stream has ended, idle ones now.
    pub(crate) fn close(&self) {
        let (open, waiters) = {
            let mut state = self.state.borrow_mut();
            state.closed = true;
            (std::mem::take(&mut state.open), std::mem::take(&mut state.waiters))
        };
        drop(waiters);
        for connection in open {
            connection.retire();
        }
    }

    /// A permit is back.
    pub(super) fn returned(&self) {
        self.state.borrow_mut().in_use -= 1;
        self.pump();
    }

    /// The peer has answered: it is not in trouble.
    pub(super) fn note_answer(&self) {
        let mut state = self.state.borrow_mut();
        if state.failures > 0 {
            state.failures = 0;
            state.retry_at = None;
        }
    }

    /// Gives permits to those who wait and opens connections that are needed.
    pub(super) fn pump(&self) {
        loop {
            let (permit, waiter) = {
                let mut state = self.state.borrow_mut();
                while state.waiters.front().is_some_and(oneshot::Sender::is_closed) {
                    state.waiters.pop_front();
                }
                if state.waiters.is_empty() {
                    break;
                }
                let Some(permit) = state.grant(self) else { break };
                (permit, state.waiters.pop_front())
            };
            // Cannot fail: nobody else ran since the waiter was seen to be there.
            if let Some(waiter) = waiter {
                let _ = waiter.send(Ok(permit));
            }
        }
        let missing = self.state.borrow().missing(&self.tuning);
        for _ in 0..missing {
            self.open_one();
        }
    }

    fn open_one(&self) {
        let Some(pool) = self.me.upgrade() else { return };
        pool.state.borrow_mut().connecting += 1;
        spawn_local(async move {
            let retry_at = pool.state.borrow().retry_at;
            if let Some(at) = retry_at {
                sleep_until(at).await;
            }
            let id = pool.origin.next_attempt();
            if pool.state.borrow().closed {
                return;
            }
            let opening = connection::open(&pool.origin, &pool.tuning, id, pool.me.clone());
            let opened = timeout(pool.tuning.connect_timeout, opening).await;
            let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            match opened {
                Ok((connection, driver)) => pool.opened(connection, driver),
                Err(e) => pool.failed(id, &e),
            }
        });
    }

    fn opened(&self, connection: Rc<Connection>, driver: Driver) {
        let provider = self.origin.provider;
        ::metrics::counter!(CONNECTS_TOTAL, "provider" => provider, "result" => "ok").increment(1);
        tracing::debug!(
            provider,
            host = self.origin.host(),
            connection = connection.id,
            "connected"
        );
        let closed = {
            let mut state = self.state.borrow_mut();
            state.connecting -= 1;
            state.usual = connection.limit(self.tuning.streams).max(1);
            if !state.closed {
                state.open.push(Rc::clone(&connection));
            }
            state.closed
        };
        if closed {
            connection.retire();
        }
        let pool = self.me.clone();
        let tuning = self.tuning.clone();
        spawn_local(async move {
            let _counted = Counted::new(provider);
            let changed = || {
                if let Some(pool) = pool.upgrade() {
                    pool.changed();
                }
            };
            let end = driver.run(&connection, &tuning, changed).await;
            if let Some(pool) = pool.upgrade() {
                pool.ended(&connection, &end);
            }
        });
        self.pump();
    }

    /// Those who wait while nothing else stands are told; otherwise they wait for what stands.
    fn failed(&self, id: u64, e: &io::Error) {
        let provider = self.origin.provider;
        let told = {
            let mut state = self.state.borrow_mut();
            state.connecting -= 1;
            if state.closed {
                return;
            }
            state.note_failure();
            if state.open.is_empty() {
                std::mem::take(&mut state.waiters)
            } else {
                VecDeque::new()
            }
        };
        ::metrics::counter!(CONNECTS_TOTAL, "provider" => provider, "result" => "failed").increment(1);
        tracing::warn!(provider, host = self.origin.host(), error = %e, waiting = told.len(), "cannot connect to the provider");
        for waiter in told {
            let _ = waiter.send(Err(Failure::Connect(id)));
        }
        self.pump();
    }

    /// A connection's limit has moved, or it takes no new streams.
    pub(super) fn changed(&self) {
        {
            let mut state = self.state.borrow_mut();
            state.open.retain(|c| c.is_open());
            if let Some(limit) = state.open.iter().map(|c| c.limit(self.tuning.streams)).max() {
                state.usual = limit.max(1);
            }
        }
        self.pump();
    }

    fn ended(&self, connection: &Rc<Connection>, end: &End) {
        let (provider, id) = (self.origin.provider, connection.id);
        let open = connection.in_use.get();
        let reason = match end {
            End::Closed => "closed",
            End::Broken(_) => "error",
            End::Silent => "silent",
        };
        ::metrics::counter!(CONNECTIONS_ENDED_TOTAL, "provider" => provider, "reason" => reason).increment(1);
        match end {
            End::Broken(e) => tracing::info!(provider, connection = id, open, error = %e, "a connection broke"),
            End::Silent => tracing::warn!(
                provider,
                connection = id,
                open,
                "a connection is dead: no answer to a PING"
            ),
            End::Closed => tracing::debug!(provider, connection = id, open, "a connection closed"),
        }
        connection.retire();
        {
            let mut state = self.state.borrow_mut();
            state.open.retain(|c| !Rc::ptr_eq(c, connection));
            // Without this a peer that accepts connections and serves none would be called without end.
            if !connection.has_answered() {
                state.note_failure();
            }
        }
        self.pump();
    }
}

impl State {
    /// A permit on the connection with the most room, if any has room.
    fn grant(&mut self, pool: &Pool) -> Option<Permit> {
        let cap = pool.tuning.streams;
        if self.in_use >= pool.tuning.connections * cap {
            return None;
        }
        let roomy = self.open.iter().filter(|c| c.is_open() && c.has_room(cap));
        let connection = Rc::clone(roomy.min_by_key(|c| c.in_use.get())?);
        connection.in_use.set(connection.in_use.get() + 1);
        self.in_use += 1;
        Some(Permit::new(connection, pool.me.clone()))
    }

    /// How many connections are to be opened now.
    fn missing(&self, tuning: &Tuning) -> usize {
        let load = self.in_use + self.waiters.len();
        if self.closed || load == 0 {
            return 0;
        }
        // One careful attempt at a time while the peer is in trouble.
        let most = if self.failures > 0 {
            self.open.len().max(1)
        } else {
            tuning.connections
        };
        let wanted = (2 * load).div_ceil(self.usual).min(most);
        let waiting_for_nothing = !self.waiters.is_empty() && self.open.is_empty();
        wanted
            .max(usize::from(waiting_for_nothing))
            .saturating_sub(self.open.len() + self.connecting)
    }

    fn note_failure(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(Instant::now() + RECONNECTS.after(self.failures));
    }
}

/// Counts a connection in the gauge for as long as it lives, however its task ends.
struct Counted(&'static str);

impl Counted {
    fn new(provider: &'static str) -> Self {
        ::metrics::gauge!(CONNECTIONS_OPEN, "provider" => provider).increment(1.0);
        Self(provider)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        ::metrics::gauge!(CONNECTIONS_OPEN, "provider" => self.0).decrement(1.0);
    }
}
