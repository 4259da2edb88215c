//! A Google for tests: `/token` and FCM over HTTP/1.1 and HTTP/2, on one port, with answers that a test scripts.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

/// A request to FCM.
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Seen {
    pub(crate) fn token(&self) -> &str {
        self.body["message"]["token"].as_str().unwrap_or_default()
    }

    pub(crate) fn bearer(&self) -> &str {
        self.headers["authorization"]
            .to_str()
            .unwrap()
            .strip_prefix("Bearer ")
            .unwrap()
    }
}

pub(crate) type Reply = (u16, Vec<(&'static str, String)>, String);

pub(crate) fn ok() -> Reply {
    (
        200,
        Vec::new(),
        json!({"name": "projects/test-project/messages/1"}).to_string(),
    )
}

pub(crate) fn status(status: u16, body: impl Into<String>) -> Reply {
    (status, Vec::new(), body.into())
}

type Script<T> = RefCell<Box<dyn Fn(&T) -> Reply>>;

pub(crate) struct Google {
    pub(crate) port: u16,
    pub(crate) exchanges: Cell<usize>,
    pub(crate) sends: Cell<usize>,
    /// How long `/token` takes.
    pub(crate) token_delay: Cell<Duration>,
    /// Answers of `/token`, from the form; by default tokens `at1`, `at2`, … for an hour.
    pub(crate) on_token: Script<String>,
    pub(crate) on_send: Script<Seen>,
}

impl Google {
    pub(crate) async fn start() -> Rc<Self> {
        Self::listen(None, Http::Both).await
    }

    pub(crate) async fn start_http2_only() -> Rc<Self> {
        Self::listen(None, Http::Two).await
    }

    pub(crate) async fn start_tls(config: rustls::ServerConfig) -> Rc<Self> {
        Self::listen(Some(TlsAcceptor::from(Arc::new(config))), Http::Both).await
    }

    async fn listen(tls: Option<TlsAcceptor>, http: Http) -> Rc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let google = Rc::new(Self {
            port: listener.local_addr().unwrap().port(),
            exchanges: Cell::new(0),
            sends: Cell::new(0),
            token_delay: Cell::new(Duration::ZERO),
            on_token: RefCell::new(Box::new(|_| status(500, "unscripted"))),
            on_send: RefCell::new(Box::new(|_| ok())),
        });
        google.issue_tokens(3_600);
        let server = Rc::clone(&google);
        spawn_local(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                tcp.set_nodelay(true).unwrap();
                let (server, tls) = (Rc::clone(&server), tls.clone());
                spawn_local(async move {
                    match tls {
                        None => server.serve(tcp, http).await,
                        Some(tls) => {
                            if let Ok(tls) = tls.accept(tcp).await {
                                server.serve(tls, http).await;
                            }
                        }
                    }
                });
            }
        });
        google
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn token_uri(&self) -> String {
        format!("{}/token", self.url())
    }

    /// From now on tokens live so long.
    pub(crate) fn issue_tokens(self: &Rc<Self>, seconds: u64) {
        let me = Rc::downgrade(self);
        *self.on_token.borrow_mut() = Box::new(move |_| {
            let serial = me.upgrade().unwrap().exchanges.get();
            status(
                200,
                json!({"access_token": format!("at{serial}"), "expires_in": seconds}).to_string(),
            )
        });
    }

    pub(crate) fn on_send(&self, script: impl Fn(&Seen) -> Reply + 'static) {
        *self.on_send.borrow_mut() = Box::new(script);
    }

    pub(crate) fn on_token(&self, script: impl Fn(&String) -> Reply + 'static) {
        *self.on_token.borrow_mut() = Box::new(script);
    }

    async fn serve(self: Rc<Self>, io: impl AsyncRead + AsyncWrite + Unpin + 'static, http: Http) {
        let service = service_fn(move |request: Request<Incoming>| {
            let me = Rc::clone(&self);
            async move { Ok::<_, std::convert::Infallible>(me.answer(request).await) }
        });
        let mut builder = auto::Builder::new(Local);
        if http == Http::Two {
            builder = builder.http2_only();
        }
        let _ = builder.serve_connection(TokioIo::new(io), service).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let (code, headers, body) = if head.uri.path() == "/token" {
            self.exchanges.set(self.exchanges.get() + 1);
            let form = String::from_utf8(body.to_vec()).unwrap();
            let reply = (self.on_token.borrow())(&form);
            tokio::time::sleep(self.token_delay.get()).await;
            reply
        } else {
            self.sends.set(self.sends.get() + 1);
            let seen = Seen {
                path: head.uri.path().to_owned(),
                headers: head.headers,
                body: serde_json::from_slice(&body).unwrap(),
            };
            (self.on_send.borrow())(&seen)
        };
        let mut response = Response::builder().status(code);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        response.body(Full::new(body.into())).unwrap()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Http {
    Both,
    Two,
}

#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}
