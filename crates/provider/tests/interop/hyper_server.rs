//! hyper's HTTP/2 server, in this process.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bugle_model::Outcome;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::spawn_local;

use crate::traffic::{Traffic, run, simulator};

/// hyper on a runtime of one thread.
#[derive(Clone)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

struct Hyper {
    port: u16,
    /// How often each token's message has come.
    seen: RefCell<BTreeMap<String, usize>>,
    connections: Cell<usize>,
    /// Each change is a graceful end of all connections.
    leave: watch::Sender<u32>,
}

/// Starts one whose connections announce such a limit of header lists.
async fn start(max_header_list: u32) -> Rc<Hyper> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hyper = Rc::new(Hyper {
        port: listener.local_addr().unwrap().port(),
        seen: RefCell::default(),
        connections: Cell::new(0),
        leave: watch::Sender::new(0),
    });
    let server = Rc::clone(&hyper);
    spawn_local(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            server.connections.set(server.connections.get() + 1);
            let (server, mut leave) = (Rc::clone(&server), server.leave.subscribe());
            spawn_local(async move {
                let service = service_fn(move |request| answer(Rc::clone(&server), request));
                let mut connection = std::pin::pin!(
                    http2::Builder::new(Local)
                        .max_concurrent_streams(50)
                        .initial_stream_window_size(500)
                        .max_header_list_size(max_header_list)
                        .serve_connection(TokioIo::new(tcp), service)
                );
                loop {
                    tokio::select! {
                        _ = connection.as_mut() => return,
                        Ok(()) = leave.changed() => connection.as_mut().graceful_shutdown(),
                    }
                }
            });
        }
    });
    hyper
}

async fn answer(server: Rc<Hyper>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    if let Ok(body) = body {
        let message: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let token = message["message"]["token"].as_str().unwrap().to_owned();
        *server.seen.borrow_mut().entry(token).or_default() += 1;
    }
    Ok(Response::new(Full::from(r#"{"name":"projects/p/messages/1"}"#)))
}

#[test]
fn graceful_ends_in_the_middle_lose_and_double_nothing() {
    run(async {
        let (server, sim) = (start(16 << 10).await, simulator().await);
        let message = format!(r#"{{"notification":{{"title":"{}"}}}}"#, "x".repeat(2_000));
        let traffic = Traffic::with_message(&sim, &format!("http://127.0.0.1:{}", server.port), None, 3, &message);
        let disturb = async {
            for n in 1..=8 {
                traffic.accepted(n * 250).await;
                server.leave.send_modify(|times| *times += 1);
            }
        };
        tokio::join!(traffic.send_all(3_000), disturb);
        traffic.is_exact(|| server.seen.borrow().len()).await;
        let seen = server.seen.borrow();
        assert!(seen.values().all(|times| *times == 1), "each exactly once");
        assert!(server.connections.get() >= 12, "{}", server.connections.get());
    });
}

#[test]
fn a_header_list_beyond_the_peers_limit_is_an_outcome_and_is_not_sent() {
    run(async {
        let sim = simulator().await;
        for limit in [1, 100, 1_000] {
            let server = start(limit).await;
            let traffic = Traffic::new(&sim, &format!("http://127.0.0.1:{}", server.port), None, 2);
            let begin = Instant::now();
            let all = (0..50).map(|n| traffic.send(["a", "b", "c"][n % 3]));
            for outcome in futures_util::future::join_all(all).await {
                // Transient: the sender waits longer and longer before it tries again, and `Unprocessed` would come back at once.
                let expected = Outcome::Transient {
                    reason: "header list too large",
                    after: None,
                    connection: None,
                };
                assert_eq!(outcome, expected);
            }
            assert!(begin.elapsed() < Duration::from_secs(5), "at once, not by a time-out");
            assert!(server.seen.borrow().is_empty());
            assert!(server.connections.get() <= 2, "the connections stay");
        }
    });
}
