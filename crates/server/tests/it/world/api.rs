//! A client of the API.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::{CHANNEL, assert_sums};

/// A client of the API.
#[derive(Clone)]
pub(crate) struct Api {
    http: Client<HttpConnector, Full<Bytes>>,
    addr: SocketAddr,
    key: String,
}

impl Api {
    pub(crate) fn new(addr: SocketAddr, key: &str) -> Self {
        Self {
            http: Client::builder(TokioExecutor::new()).build_http(),
            addr,
            key: key.to_owned(),
        }
    }

    pub(crate) async fn raw(&self, path: &str, body: impl Into<Bytes>) -> (StatusCode, Bytes) {
        self.try_raw(path, body).await.expect("an answer")
    }

    /// `None` = there was no answer.
    async fn try_raw(&self, path: &str, body: impl Into<Bytes>) -> Option<(StatusCode, Bytes)> {
        let request = Request::post(format!("http://{}{path}", self.addr))
            .header("x-api-key", &self.key)
            .body(Full::new(body.into()))
            .unwrap();
        let answer = self.http.request(request).await.ok()?;
        Some((answer.status(), answer.into_body().collect().await.ok()?.to_bytes()))
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, String) {
        let request = Request::get(format!("http://{}{path}", self.addr))
            .header("x-api-key", &self.key)
            .body(Full::default())
            .unwrap();
        let answer = self.http.request(request).await.unwrap();
        (
            answer.status(),
            String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap(),
        )
    }

    /// The whole answer of an operation.
    pub(crate) async fn answer(&self, method: &str, params: &Value) -> Value {
        let (_, body) = self.raw(&format!("/api/{method}"), params.to_string()).await;
        serde_json::from_slice(&body).unwrap()
    }

    /// The whole answer of an operation by a process that may be killed meanwhile; `None` = there was none.
    pub(crate) async fn answer_if_any(&self, method: &str, params: &Value) -> Option<Value> {
        let (_, body) = self.try_raw(&format!("/api/{method}"), params.to_string()).await?;
        serde_json::from_slice(&body).ok()
    }

    /// An operation's result; it must succeed.
    pub(crate) async fn call(&self, method: &str, params: &Value) -> Value {
        let mut answer = self.answer(method, params).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }

    /// Registers a device for each token and subscribes it to [`CHANNEL`].
    pub(crate) async fn register_all(&self, tokens: impl IntoIterator<Item = String>) {
        self.register_on(&["android", "ios", "web"], tokens).await;
    }

    /// The same, with these platforms in turn.
    pub(crate) async fn register_on(&self, platforms: &[&str], tokens: impl IntoIterator<Item = String>) {
        let tokens: Vec<String> = tokens.into_iter().collect();
        for chunk in tokens.chunks(500) {
            let commands: Vec<Value> = chunk
                .iter()
                .enumerate()
                .map(|(i, token)| json!({"device_register": {"platform": platforms[i % platforms.len()], "token": token, "channels": [CHANNEL]}}))
                .collect();
            let (status, body) = self
                .raw(
                    "/api/batch",
                    json!({"commands": commands, "parallel": true}).to_string(),
                )
                .await;
            assert!(status.is_success());
            let answer: Value = serde_json::from_slice(&body).unwrap();
            for reply in answer["replies"].as_array().unwrap() {
                assert!(reply.get("error").is_none(), "{reply}");
            }
        }
    }

    /// Broadcasts to [`CHANNEL`]; answers the uid.
    pub(crate) async fn broadcast(&self) -> String {
        let push = json!({"recipient": {"channels": [CHANNEL]}, "notification": {"fcm": {"notification": {"title": "Hello", "body": "How are you?"}}}});
        self.call("send_push_notification", &push).await["uid"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(crate) async fn status(&self, uid: &str) -> Value {
        self.call("push_status", &json!({ "uid": uid })).await
    }

    /// The account once the push has ended.
    pub(crate) async fn ended(&self, uid: &str, within: Duration) -> Value {
        self.wait_for(uid, within, |status| status.get("ended_at").is_some())
            .await
    }

    pub(crate) async fn wait_for(&self, uid: &str, within: Duration, reached: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + within;
        loop {
            let status = self.status(uid).await;
            assert_sums(&status);
            if reached(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "not reached in {within:?}: {status}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Tokens of all registered devices.
    pub(crate) async fn tokens(&self) -> Vec<String> {
        let mut tokens = Vec::new();
        let mut cursor = Value::Null;
        loop {
            let page = self
                .call("device_list", &json!({"limit": 1000, "cursor": cursor}))
                .await;
            tokens.extend(
                page["items"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|device| device["token"].as_str().unwrap().to_owned()),
            );
            match page.get("next_cursor") {
                Some(next) => cursor = next.clone(),
                None => return tokens,
            }
        }
    }
}
