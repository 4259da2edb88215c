//! Accepts the API's connections, with bounds on how many, how slow and how idle they may be.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::timeout::RequestBodyTimeoutLayer;

use crate::config::Http;

/// After a stop connections get so long to take their answers; one that keeps quiet does not hold up the stop.
const LINGER: Duration = Duration::from_secs(2);
/// Accepting failed for lack of something (files, memory): others may end meanwhile.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves HTTP/1.1 until the stop.
pub(crate) async fn serve(listener: TcpListener, router: Router, config: &Http, stop: CancellationToken) {
    let router = router.layer(RequestBodyTimeoutLayer::new(config.body_timeout.get()));
    let places = Arc::new(Semaphore::new(config.max_connections));
    let connections = TaskTracker::new();
    loop {
        // The place comes first: what cannot be served waits in the kernel's queue instead of here.
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async { (Arc::clone(&places).acquire_owned().await, listener.accept().await) } => accepted,
        };
        match accepted {
            (Ok(place), Ok((stream, _))) => {
                let serving = connection(stream, router.clone(), config.idle_timeout.get(), stop.clone());
                connections.spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            (_, Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
            (Err(_), Ok(_)) => break,
        }
    }
    drop(listener);
    connections.close();
    let _ = tokio::time::timeout(LINGER, connections.wait()).await;
}

async fn connection(stream: TcpStream, router: Router, idle: Duration, stop: CancellationToken) {
    // Answers are small: waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        // A client may close its sending half after the request, and still gets its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(serving);
    tokio::select! {
        // Errors are the client's: it hung up, was too slow or spoke something else.
        _ = serving.as_mut() => return,
        () = stop.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}
