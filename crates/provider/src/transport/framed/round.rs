//! A round of reading: what the peer's frames mean for the requests, the connection and the pool.

use std::rc::{Rc, Weak};

use super::{Flight, Framed};
use crate::http2::{self, Events, StreamFailure};
use crate::transport::connection::Connection;
use crate::transport::exchange::{Answer, Failure, Reply};
use crate::transport::pool::Pool;

/// A body of this length was cut by us, a shorter one was broken off by the peer.
const MAX_WHOLE: usize = 64 << 10;

/// What comes of a round of reading.
pub(super) struct Round<'a> {
    pub(super) connection: &'a Connection,
    pub(super) framed: &'a Framed,
    pool: Option<Rc<Pool>>,
    reply: Option<Rc<dyn Reply>>,
    pub(super) answers: usize,
    /// The peer's limit or its readiness may have changed.
    pub(super) changed: bool,
}

impl<'a> Round<'a> {
    pub(super) fn new(connection: &'a Connection, framed: &'a Framed, pool: &Weak<Pool>) -> Self {
        let pool = pool.upgrade();
        Self {
            connection,
            framed,
            reply: pool.as_ref().and_then(|pool| pool.reply()),
            pool,
            answers: 0,
            changed: false,
        }
    }

    pub(super) fn tell(&self, flight: Flight, answer: Result<Answer<'_>, Failure>) {
        let Flight { request, permit } = flight;
        // Before the answer is told: whoever hears it may want the next stream.
        drop(permit);
        if let Some(reply) = &self.reply {
            reply.answered(request, answer);
        }
    }
}

impl Events<Flight> for Round<'_> {
    fn ahead(&self, flight: &Flight) {
        if let Some(reply) = &self.reply {
            reply.ahead(&flight.request);
        }
    }

    fn answer(&mut self, flight: Flight, answer: http2::Answer<'_>) {
        self.answers += 1;
        self.connection.note_answer();
        if let Some(pool) = &self.pool {
            pool.note_answer();
        }
        let broken = answer.is_truncated() && answer.body().len() < MAX_WHOLE;
        let answer = Answer {
            status: answer.status(),
            retry_after: answer.field("retry-after"),
            body: if broken { Err(Failure::Reset) } else { Ok(answer.body()) },
        };
        self.tell(flight, Ok(answer));
    }

    fn failed(&mut self, flight: Flight, failure: StreamFailure) {
        let failure = match failure {
            StreamFailure::Refused => {
                flight.permit.note_refusal();
                Failure::Unprocessed
            }
            StreamFailure::Reset(_) | StreamFailure::Malformed(_) => Failure::Reset,
        };
        self.tell(flight, Err(failure));
    }

    fn settings(&mut self) {
        self.changed = true;
    }

    fn goaway(&mut self, _: http2::ErrorCode) {
        self.connection.retire();
        self.changed = true;
    }

    fn pong(&mut self) {
        self.framed.pong.notify_waiters();
    }
}
