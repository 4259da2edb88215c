//! HTTP/1.1: for token exchanges, the endpoints below `/sim`, and messages by hand.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::reply::Verdict;
use crate::server::BODY_LIMIT;
use crate::shared::{Lane, Shared};
use crate::wire::Wire;

/// Serves a connection until either side closes it.
pub(crate) async fn serve(shared: Arc<Shared>, wire: Wire, lane: Lane) {
    let lane = Arc::new(lane);
    let service = service_fn(|request| answer(Arc::clone(&shared), Arc::clone(&lane), request));
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(wire), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP/1.1 connection ended");
    }
}

/// An error cuts the connection: hyper closes it without an answer.
async fn answer(shared: Arc<Shared>, lane: Arc<Lane>, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => Some(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => None,
        Err(error) => return Err(io::Error::other(error)),
    };
    let plan = shared.plan(&lane, &head, body, false);
    if !plan.delay.is_zero() {
        tokio::time::sleep(plan.delay).await;
    }
    if let Some(pending) = plan.pending {
        pending.settle();
    }
    match plan.verdict {
        Verdict::Reply(reply) => Ok(reply.head().map(|()| Full::new(reply.body))),
        Verdict::Silent => match std::future::pending::<Infallible>().await {},
        // HTTP/1.1 has no way to refuse one request.
        Verdict::Cut | Verdict::Refuse => Err(io::ErrorKind::ConnectionReset.into()),
    }
}
