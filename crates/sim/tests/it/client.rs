//! Clients that do nothing on their own: no pool, no retry.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bugle_sim::{Config, Settings, Sim};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rcgen::SigningKey as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

pub(crate) const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

pub(crate) async fn sim(settings: Settings) -> Sim {
    Sim::start(Config {
        settings,
        ..Config::default()
    })
    .await
    .unwrap()
}

/// An answer, with its body as JSON where it is that.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The `errorCode` of the `FcmError` detail.
    pub(crate) fn fcm_code(&self) -> Option<String> {
        self.detail("google.firebase.fcm.v1.FcmError")
            .map(|detail| detail["errorCode"].as_str().unwrap().to_owned())
    }

    /// The detail of this type.
    pub(crate) fn detail(&self, kind: &str) -> Option<Value> {
        let kind = format!("type.googleapis.com/{kind}");
        let body = self.json();
        body["error"]["details"]
            .as_array()?
            .iter()
            .find(|detail| detail["@type"] == kind.as_str())
            .cloned()
    }
}

/// One HTTP/2 connection.
pub(crate) struct Http2 {
    pub(crate) requests: SendRequest<Bytes>,
    /// Ends with the connection.
    pub(crate) driver: JoinHandle<Result<(), h2::Error>>,
    pub(crate) bearer: Option<String>,
    origin: String,
    project: String,
}

impl Http2 {
    /// A plain connection without a bearer.
    pub(crate) async fn open(sim: &Sim) -> Self {
        let stream = TcpStream::connect(sim.addr()).await.unwrap();
        Self::over(stream, format!("http://{}", sim.addr())).await
    }

    /// A TLS connection that trusts the simulator's CA and asks for HTTP/2.
    pub(crate) async fn open_tls(sim: &Sim) -> Self {
        let stream = tls(sim, &[b"h2"]).await.unwrap();
        Self::over(stream, format!("https://{}", sim.addr())).await
    }

    /// A plain connection with a fresh access token.
    pub(crate) async fn authorized(sim: &Sim) -> Self {
        let mut http2 = Self::open(sim).await;
        http2.authorize(sim).await;
        http2
    }

    pub(crate) async fn over<S>(stream: S, origin: String) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = h2::client::Builder::new();
        builder.initial_max_send_streams(1000);
        let (requests, connection) = builder.handshake(stream).await.unwrap();
        let driver = tokio::spawn(connection);
        Self {
            requests,
            driver,
            bearer: None,
            origin,
            project: "bugle-sim".to_owned(),
        }
    }

    pub(crate) async fn authorize(&mut self, sim: &Sim) {
        let answer = self.exchange(&grant(&assertion(sim, &json!({})))).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        self.bearer = Some(answer.json()["access_token"].as_str().unwrap().to_owned());
    }

    /// `POST /token` with this form.
    pub(crate) async fn exchange(&self, form: &str) -> Answer {
        let request = self.request(Method::POST, "/token");
        self.send(request, form.to_owned()).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let request = self.request(Method::GET, path);
        self.send(request, String::new()).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, path);
        self.send(request, body.to_string()).await.unwrap()
    }

    /// A message to this token.
    pub(crate) async fn push(&self, token: &str) -> Result<Answer, h2::Error> {
        self.message(&json!({ "token": token, "notification": { "title": "Hello" } }))
            .await
    }

    pub(crate) async fn message(&self, message: &Value) -> Result<Answer, h2::Error> {
        let path = format!("/v1/projects/{}/messages:send", self.project);
        self.send(
            self.request(Method::POST, &path),
            json!({ "message": message }).to_string(),
        )
        .await
    }

    /// The status of a push that is answered.
    pub(crate) async fn status(&self, token: &str) -> u16 {
        self.push(token).await.unwrap().status.as_u16()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> Request<()> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.origin));
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        request.body(()).unwrap()
    }

    pub(crate) async fn send(&self, request: Request<()>, body: String) -> Result<Answer, h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        let (response, mut stream) = requests.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(Bytes::from(body), true)?;
        }
        let (head, mut body) = response.await?.into_parts();
        let mut bytes = Vec::new();
        while let Some(chunk) = body.data().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            text: String::from_utf8(bytes).unwrap(),
        })
    }
}

/// One request over an HTTP/1.1 connection of its own.
pub(crate) async fn http1<S>(stream: S, request: Request<String>) -> Result<Answer, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let response = send
        .send_request(request.map(|body| Full::new(Bytes::from(body))))
        .await?;
    let (head, body) = response.into_parts();
    let bytes = body.collect().await?.to_bytes();
    driver.abort();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    })
}

/// A TLS connection to the simulator that trusts only its CA.
pub(crate) async fn tls(sim: &Sim, alpn: &[&[u8]]) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    tls_trusting(sim, sim.ca_pem(), alpn).await
}

pub(crate) async fn tls_trusting(
    sim: &Sim,
    ca_pem: &str,
    alpn: &[&[u8]],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    tls_to(sim.addr(), ca_pem, alpn).await
}

pub(crate) async fn tls_to(
    address: std::net::SocketAddr,
    ca_pem: &str,
    alpn: &[&[u8]],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// A right assertion with these claims (and header `kid`, `alg`) put over it.
pub(crate) fn assertion(sim: &Sim, changes: &Value) -> String {
    let account: Value = serde_json::from_str(&sim.service_account_json()).unwrap();
    let key = rcgen::KeyPair::from_pem(account["private_key"].as_str().unwrap()).unwrap();
    signed(&account, &key, changes)
}

pub(crate) fn signed(account: &Value, key: &rcgen::KeyPair, changes: &Value) -> String {
    let now = unix_seconds();
    let mut header = json!({ "alg": "RS256", "typ": "JWT", "kid": account["private_key_id"] });
    let mut claims = json!({
        "iss": account["client_email"],
        "aud": account["token_uri"],
        "scope": SCOPE,
        "iat": now,
        "exp": now + 3600,
    });
    for (name, value) in changes.as_object().unwrap() {
        let part = if matches!(name.as_str(), "kid" | "alg") {
            &mut header
        } else {
            &mut claims
        };
        part[name] = value.clone();
    }
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(&header), encode(&claims));
    let signature = key.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

pub(crate) fn grant(assertion: &str) -> String {
    format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}")
}

#[expect(clippy::disallowed_methods, reason = "an assertion must be of this moment")]
pub(crate) fn unix_seconds() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}
