//! One request and its answer over one permit.

use bugle_model::Outcome;
use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout_at};

use super::connection::Connection;
use super::permit::Permit;
use crate::Ticket;
use crate::http2::{self, Indexing};

/// No answer that matters is longer; the rest is not read.
const MAX_BODY: usize = 64 * 1024;

/// Whose a request is: the sender's number for the target, and the number of the access token that it was sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) ticket: Ticket,
    pub(crate) token: u64,
}

/// Who is told what became of the requests that [`Permit::send`] has sent.
pub(crate) trait Reply {
    /// An answer is about to come, see [`http2::Events::ahead`].
    fn ahead(&self, request: &Request) {
        let _ = request;
    }

    /// Exactly once for each request, from the task that drives its connection.
    fn answered(&self, request: Request, answer: Result<Answer<'_>, Failure>);
}

/// What all requests of an access token have in common.
pub(crate) struct Head {
    uri: Uri,
    headers: HeaderMap,
    framed: http2::Head,
}

impl Head {
    /// A `POST` with headers that live as long as the access token. `None` = it cannot be sent.
    pub(crate) fn new(uri: Uri, headers: HeaderMap) -> Option<Self> {
        let path = uri.path_and_query()?.as_str();
        let mut framed = http2::Head::new(uri.scheme_str()?, uri.authority()?.as_str(), path).ok()?;
        for (name, value) in &headers {
            framed = framed
                .header(name.as_str(), value.to_str().ok()?, Indexing::Table)
                .ok()?;
        }
        Some(Self { uri, headers, framed })
    }

    pub(super) fn framed(&self) -> &http2::Head {
        &self.framed
    }

    fn request(&self) -> http::Request<()> {
        let mut request = http::Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// What a peer answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<&'a [u8]>,
    /// The body, or its first 64 KiB; a failure where it broke off.
    pub(crate) body: Result<&'a [u8], Failure>,
}

/// An answer that was waited for.
pub(crate) struct Whole {
    status: StatusCode,
    headers: HeaderMap,
    body: Result<Bytes, Failure>,
}

impl Whole {
    pub(crate) fn answer(&self) -> Answer<'_> {
        Answer {
            status: self.status.as_u16(),
            retry_after: self.headers.get(RETRY_AFTER).map(HeaderValue::as_bytes),
            body: self.body.as_deref().map_err(|failure| *failure),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The peer surely did not process it.
    Unprocessed,
    /// It was not sent: the peer takes no header list as large as that of every request with this access token.
    HeadTooLarge,
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
            // Each target is evidence of its own, as with time-outs: no other connection would take it either.
            Self::HeadTooLarge => ("header list too large", None),
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
    /// Sends a request with a body in pieces. What becomes of it is told to the pool's [`Reply`], after this has returned.
    pub(crate) fn send(self, head: &Head, body: &[&[u8]], deadline: Instant, request: Request) {
        let connection = self.connection_rc();
        let Some(framed) = connection.framed() else {
            let (head, body) = (head.request(), body.concat().into());
            spawn_local(async move {
                let answer = self.exchange(head, body, deadline).await;
                self.tell(request, answer.as_ref().map(Whole::answer).map_err(|failure| *failure));
            });
            return;
        };
        if let Err((permit, failure)) = framed.send(self, head, body, deadline, request) {
            if failure == Failure::Unprocessed {
                // A GOAWAY or an error that came since the permit, or the connection's stream numbers are used up.
                permit.retire_connection();
            }
            spawn_local(async move { permit.tell(request, Err(failure)) });
        }
    }

    fn tell(self, request: Request, answer: Result<Answer<'_>, Failure>) {
        let reply = self.reply();
        // Before the answer is told: whoever hears it may want the next stream.
        drop(self);
        if let Some(reply) = reply {
            reply.answered(request, answer);
        }
    }

    /// Sends a request and reads the answer, over h2 only. Dropping the future resets the stream.
    pub(crate) async fn exchange(
        &self,
        request: http::Request<()>,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Whole, Failure> {
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
        Ok(Whole {
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
