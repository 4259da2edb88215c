//! bugle's own API, from the other side: for the commands that talk to a running server.
//!
//! What goes wrong is told in words for the person at the keyboard: [`Unanswered`] for a request that was not carried out as a whole, [`ApiError`] for an operation's own
//! error.

use std::fmt;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A client of one server.
pub(crate) struct Client {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    base: String,
    key: SecretString,
    key_from: String,
    patience: Duration,
}

/// An operation's error object.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ApiError {
    pub(crate) code: u32,
    pub(crate) message: String,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

/// Why a request was not answered with results.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// No connection, or it broke off. The request may have been carried out all the same.
    Unreachable { base: String, problem: String },
    /// No such key.
    Key { base: String, key_from: String },
    /// Any other HTTP status than 200, or an answer that is none of bugle's.
    Http { status: StatusCode, problem: String },
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { base, problem } => {
                write!(
                    f,
                    "cannot reach bugle at {base}: {problem}. Is it running there? --url names its address"
                )
            }
            Self::Key { base, key_from } => write!(
                f,
                "the server at {base} does not take this API key ({key_from}): give it with --key or in BUGLE_KEY. It was printed at the server's first start and is in the file api-key of its data directory, unless api.keys is set"
            ),
            Self::Http { status, problem } => write!(f, "HTTP {status}: {problem}"),
        }
    }
}

impl std::error::Error for Unanswered {}

/// What came of one command of a batch.
#[derive(Debug, Deserialize)]
pub(crate) struct Reply {
    pub(crate) error: Option<ApiError>,
}

#[derive(Deserialize)]
struct Replies {
    replies: Vec<Reply>,
}

impl Client {
    /// For the server at `http://host:port`.
    pub(crate) fn new(base: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            http: HttpClient::builder(TokioExecutor::new()).build_http(),
            base: base.into(),
            key: key.into().into(),
            key_from: "given".to_owned(),
            patience: PATIENCE,
        }
    }

    /// Says where the key is from, for the error that it is refused.
    pub(crate) fn with_key_from(mut self, key_from: String) -> Self {
        self.key_from = key_from;
        self
    }

    /// Waits so long for each answer.
    pub(crate) fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The server's address.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// One operation's result; its error object becomes an [`ApiError`].
    pub(crate) async fn call(&self, method: &str, params: &Value) -> anyhow::Result<Value> {
        let mut answer: Value = self.post(&format!("/api/{method}"), params.to_string()).await?;
        if let Some(error) = answer.get_mut("error") {
            let error: ApiError = serde_json::from_value(error.take())?;
            return Err(anyhow::Error::new(error).context(method.to_owned()));
        }
        Ok(answer.get_mut("result").map(Value::take).unwrap_or_default())
    }

    /// Several operations in one request, at once and in any order; all must succeed.
    pub(crate) async fn batch(&self, commands: Vec<Value>) -> anyhow::Result<Vec<Value>> {
        let body = serde_json::json!({ "parallel": true, "commands": commands }).to_string();
        let mut answer: Value = self.post("/api/batch", body).await?;
        let replies = answer.get_mut("replies").map(Value::take).unwrap_or_default();
        let Value::Array(replies) = replies else {
            bail!("batch: the answer has no replies: {answer}")
        };
        if let Some(error) = replies.iter().find_map(|reply| reply.get("error")) {
            bail!("batch: {error}");
        }
        Ok(replies)
    }

    /// Several operations in one request, rendered already; what came of each.
    pub(crate) async fn outcomes(&self, body: String) -> Result<Vec<Reply>, Unanswered> {
        let Replies { replies } = self.post("/api/batch", body).await?;
        Ok(replies)
    }

    /// The JSON that a path answers.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = Request::get(format!("{}{path}", self.base)).body(Full::default())?;
        let (status, body) = self.answer(request).await?;
        if !status.is_success() {
            bail!("{path}: HTTP {status}: {}", refusal(&body));
        }
        Ok(serde_json::from_slice(&body)?)
    }

    /// Does a bugle answer there?
    pub(crate) async fn is_healthy(&self) -> bool {
        let Ok(request) = Request::get(format!("{}/health", self.base)).body(Full::default()) else {
            return false;
        };
        matches!(self.answer(request).await, Ok((StatusCode::OK, body)) if body.starts_with(b"{\"status\""))
    }

    async fn post<T: for<'de> Deserialize<'de>>(&self, path: &str, body: String) -> Result<T, Unanswered> {
        let odd = |status, problem: &dyn fmt::Display| Unanswered::Http {
            status,
            problem: problem.to_string(),
        };
        let request = Request::post(format!("{}{path}", self.base))
            .header("x-api-key", self.key.expose_secret())
            .body(Full::new(Bytes::from(body)))
            .map_err(|problem| odd(StatusCode::BAD_REQUEST, &problem))?;
        let (status, body) = self.answer(request).await?;
        if status == StatusCode::UNAUTHORIZED {
            return Err(Unanswered::Key {
                base: self.base.clone(),
                key_from: self.key_from.clone(),
            });
        }
        if !status.is_success() {
            return Err(odd(status, &refusal(&body)));
        }
        serde_json::from_slice(&body).map_err(|_| {
            let problem = format!(
                "{} answers with something else than bugle's JSON; --url names a bugle's address",
                self.base
            );
            odd(status, &problem)
        })
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Unanswered> {
        let unreachable = |problem: String| Unanswered::Unreachable {
            base: self.base.clone(),
            problem,
        };
        let asked = async {
            let answer = self
                .http
                .request(request)
                .await
                .map_err(|error| unreachable(cause(&error)))?;
            let status = answer.status();
            let body = answer.into_body().collect().await;
            let body = body.map_err(|error| unreachable(format!("the answer broke off: {}", cause(&error))))?;
            Ok((status, body.to_bytes()))
        };
        let late = |_| Err(unreachable(format!("no answer within {} s", self.patience.as_secs())));
        tokio::time::timeout(self.patience, asked).await.unwrap_or_else(late)
    }
}

/// The message of an error body, or its beginning.
fn refusal(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refused {
        error: ApiError,
    }
    serde_json::from_slice(body).map_or_else(
        |_| String::from_utf8_lossy(body).chars().take(200).collect(),
        |Refused { error }| error.message,
    )
}

/// The innermost cause: hyper's own words say only where it happened.
fn cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
