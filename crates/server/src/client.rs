//! bugle's own API, from the other side: for the commands that talk to a running server.

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// A client of one server.
pub(crate) struct Client {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    base: String,
    key: String,
}

impl Client {
    /// For the server at `http://host:port`.
    pub(crate) fn new(base: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            http: HttpClient::builder(TokioExecutor::new()).build_http(),
            base: base.into(),
            key: key.into(),
        }
    }

    /// One operation's result; its error object becomes an error.
    pub(crate) async fn call(&self, method: &str, params: &Value) -> anyhow::Result<Value> {
        let mut answer = self.post(&format!("/api/{method}"), params.to_string()).await?;
        if let Some(error) = answer.get("error") {
            bail!(
                "{method}: {}",
                error.get("message").and_then(Value::as_str).unwrap_or("unknown error")
            );
        }
        Ok(answer.get_mut("result").map(Value::take).unwrap_or_default())
    }

    /// Several operations in one request; all must succeed.
    pub(crate) async fn batch(&self, commands: Vec<Value>) -> anyhow::Result<Vec<Value>> {
        let mut answer = self
            .post("/api/batch", serde_json::json!({ "commands": commands }).to_string())
            .await?;
        let replies = answer.get_mut("replies").map(Value::take).unwrap_or_default();
        let Value::Array(replies) = replies else {
            bail!("batch: the answer has no replies: {answer}")
        };
        if let Some(error) = replies.iter().find_map(|reply| reply.get("error")) {
            bail!("batch: {error}");
        }
        Ok(replies)
    }

    async fn post(&self, path: &str, body: String) -> anyhow::Result<Value> {
        let request = Request::post(format!("{}{path}", self.base))
            .header("x-api-key", &self.key)
            .body(Full::new(Bytes::from(body)))?;
        let answer = self
            .http
            .request(request)
            .await
            .with_context(|| format!("cannot reach {}", self.base))?;
        let status = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .context("the answer broke off")?
            .to_bytes();
        if !status.is_success() {
            bail!("{path}: HTTP {status}: {}", String::from_utf8_lossy(&body));
        }
        serde_json::from_slice(&body).with_context(|| format!("{path}: the answer is no JSON"))
    }
}
