//! One request and its answer over one permit.

use bugle_model::Outcome;
use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::connection::Connection;
use super::permit::Permit;

/// No answer that matters is longer; the rest is not read.
const MAX_BODY: usize = 64 * 1024;

/// What a peer answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The body, or its first 64 KiB; a failure where it broke off.
    pub(crate) body: Result<Bytes, Failure>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The peer surely did not process it.
    Unprocessed,
    /// The peer broke off this stream only.
    Reset,
    /// The connection of that number is gone, with this request open.
    Lost(u64),
    /// The attempt of that number to connect failed.
    Connect(u64),
    /// Not in time.
    Timeout,
    /// The pool is closed.
    Closed,
}

impl Failure {
    /// What it means for the target.
    pub(crate) fn outcome(self) -> Outcome {
        let (reason, connection) = match self {
            Self::Unprocessed | Self::Closed => return Outcome::Unprocessed,
            Self::Reset => ("stream reset", None),
            Self::Lost(id) => ("connection lost", Some(id)),
            Self::Connect(id) => ("connect", Some(id)),
            Self::Timeout => ("timeout", None),
        };
        Outcome::Transient {
            reason,
            after: None,
            connection,
        }
    }
}

impl Permit {
    /// Sends a request and reads the answer. Dropping the future resets the stream.
    pub(crate) async fn exchange(
        &self,
        request: Request<()>,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let connection = self.connection();
        let mut send = connection.handle().ok_or(Failure::Unprocessed)?;
        let Ok((response, mut stream)) = send.send_request(request, false) else {
            // A GOAWAY or an error that came since the permit, or the connection's stream numbers are used up.
            self.retire_connection();
            return Err(Failure::Unprocessed);
        };
        drop(send);
        stream.send_data(body, true).map_err(|e| self.failure(&e))?;
        let response = match timeout_at(deadline, response).await {
            Ok(Ok(response)) => response,
            Ok(Err(e)) => return Err(self.failure(&e)),
            Err(_) => return Err(Failure::Timeout),
        };
        self.note_answer();
        let (head, stream) = response.into_parts();
        let body = match timeout_at(deadline, read(stream)).await {
            Ok(body) => body.map_err(|e| broken(connection, &e)),
            Err(_) => Err(Failure::Timeout),
        };
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    fn failure(&self, e: &h2::Error) -> Failure {
        let failure = broken(self.connection(), e);
        if failure == Failure::Unprocessed && e.is_reset() {
            self.note_refusal();
        }
        failure
    }
}

/// h2 gives the error of a GOAWAY to exactly those streams that are above its last id; the others end with the connection, as an I/O error.
fn broken(connection: &Connection, e: &h2::Error) -> Failure {
    if e.is_remote() && (e.is_go_away() || e.reason() == Some(Reason::REFUSED_STREAM)) {
        return Failure::Unprocessed;
    }
    if e.is_reset() {
        return Failure::Reset;
    }
    Failure::Lost(connection.id)
}

async fn read(mut stream: RecvStream) -> Result<Bytes, h2::Error> {
    let mut body = match chunk(&mut stream).await? {
        None => return Ok(Bytes::new()),
        Some(first) if stream.is_end_stream() => return Ok(first),
        Some(first) => BytesMut::from(first),
    };
    while body.len() < MAX_BODY {
        match chunk(&mut stream).await? {
            Some(more) => body.extend_from_slice(&more),
            None => break,
        }
    }
    body.truncate(MAX_BODY);
    Ok(body.freeze())
}

/// The next piece of the body; the room it took in the peer's windows is given back.
async fn chunk(stream: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
    let Some(data) = stream.data().await.transpose()? else {
        return Ok(None);
    };
    stream.flow_control().release_capacity(data.len())?;
    Ok(Some(data))
}
