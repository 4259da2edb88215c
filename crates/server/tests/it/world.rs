//! What the tests here share: the real binary in a directory of its own, a simulator in this process, a client of the API.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bugle_sim::{Outcome, Sim};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const KEY: &str = "test-key";
pub(crate) const CHANNEL: &str = "news";

/// A server process and a simulator.
pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) server: Server,
    pub(crate) api: Api,
}

impl World {
    /// A simulator over TLS and a server that sends to it. `settings` are `section.key` and value.
    pub(crate) async fn start(sim_settings: Value, settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sim = simulator(dir.path(), true, sim_settings).await;
        let mut all = sending_to(&sim, dir.path());
        all.extend(
            settings
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        );
        let server = Server::start(dir, all);
        let api = Api::new(server.addr, KEY);
        Self { sim, server, api }
    }

    /// Kills the server and starts it again on the same data.
    pub(crate) fn kill_and_restart(&mut self) {
        self.server.kill();
        self.server.restart();
        self.api = Api::new(self.server.addr, KEY);
    }

    /// Fails unless the account, bucket by bucket, is what the simulator saw, token by token.
    pub(crate) fn assert_account_is_the_tally(&self, status: &Value) {
        let stats = self.sim.stats();
        let class = |outcomes: &[Outcome]| outcomes.iter().map(|outcome| stats.class(*outcome)).sum::<u64>();
        let sent = class(&[Outcome::Accepted]);
        let invalid = class(&[Outcome::Unregistered, Outcome::BadToken]);
        assert_eq!(status["sent"], sent, "sent: {status}\n{stats:#?}");
        assert_eq!(status["invalid"], invalid, "invalid: {status}\n{stats:#?}");
        assert_eq!(
            status["failed"],
            stats.tokens - sent - invalid,
            "failed: {status}\n{stats:#?}"
        );
        assert_sums(status);
    }
}

/// Fails unless every leg's and the push's counts add up.
pub(crate) fn assert_sums(status: &Value) {
    let counts = [
        "sent",
        "failed",
        "invalid",
        "skipped",
        "expired",
        "cancelled",
        "waiting",
    ];
    let number = |of: &Value, key: &str| of[key].as_u64().unwrap_or_else(|| panic!("{key} is missing in {of}"));
    let legs = status["legs"].as_array().unwrap();
    for of in legs.iter().chain([status]) {
        assert_eq!(
            number(of, "targeted"),
            counts.iter().map(|key| number(of, key)).sum::<u64>(),
            "{of}"
        );
    }
    for key in counts.iter().chain(&["targeted"]) {
        assert_eq!(
            number(status, key),
            legs.iter().map(|leg| number(leg, key)).sum::<u64>(),
            "{key}: {status}"
        );
    }
}

pub(crate) async fn simulator(dir: &Path, tls: bool, settings: Value) -> Sim {
    let config = bugle_sim::Config {
        tls,
        state_dir: Some(dir.join("sim")),
        ..bugle_sim::Config::default()
    };
    let sim = Sim::start(config).await.unwrap();
    sim.merge(&settings).unwrap();
    sim
}

/// The settings of a server that sends to the simulator, quickly enough for a test.
pub(crate) fn sending_to(sim: &Sim, dir: &Path) -> BTreeMap<String, String> {
    let file = |name: &str| dir.join("sim").join(name).display().to_string();
    [
        ("fcm.endpoint", sim.endpoint().to_owned()),
        ("fcm.credentials_file", file("service-account.json")),
        ("tls.extra_ca_file", file("ca.pem")),
        ("sender.backoff", "100ms".to_owned()),
        ("sender.backoff_max", "2s".to_owned()),
        ("log.level", "info".to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// The real binary.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) dir: TempDir,
    pub(crate) settings: BTreeMap<String, String>,
    child: Child,
}

impl Server {
    pub(crate) fn start(dir: TempDir, settings: BTreeMap<String, String>) -> Self {
        let (child, addr) = spawn(dir.path(), &settings);
        Self {
            addr,
            dir,
            settings,
            child,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended(Duration::from_secs(60)).await
    }

    pub(crate) fn signal(&self, name: &str) {
        assert!(
            Command::new("kill")
                .args([&format!("-{name}"), &self.pid().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }

    pub(crate) async fn ended(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server has not ended");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn restart(&mut self) {
        let (child, addr) = spawn(self.dir.path(), &self.settings);
        self.child = child;
        self.addr = addr;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn bugle(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bugle"));
    command.current_dir(dir).env_clear();
    command
}

/// Starts `bugle serve` and waits until it listens.
fn spawn(dir: &Path, settings: &BTreeMap<String, String>) -> (Child, SocketAddr) {
    let mut command = bugle(dir);
    command
        .arg("serve")
        .env("BUGLE__HTTP__LISTEN", "127.0.0.1:0")
        .env("BUGLE__DATA__DIR", dir.join("data"))
        .env("BUGLE__API__KEYS", KEY);
    for (key, value) in settings {
        command.env(format!("BUGLE__{}", key.replace('.', "__").to_uppercase()), value);
    }
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    let mut all = String::new();
    let addr = loop {
        line.clear();
        assert!(
            log.read_line(&mut line).unwrap() > 0,
            "the server ended at its start:\n{all}"
        );
        all += &line;
        if let Some((_, rest)) = line.split_once("listening on http://") {
            let end = rest
                .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))
                .unwrap_or(rest.len());
            break rest[..end].parse().unwrap();
        }
    };
    // The rest of the log goes to the test's own output, which is shown when it fails.
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            eprintln!("server: {line}");
        }
    });
    (child, addr)
}

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
        let request = Request::post(format!("http://{}{path}", self.addr))
            .header("x-api-key", &self.key)
            .body(Full::new(body.into()))
            .unwrap();
        let answer = self.http.request(request).await.unwrap();
        (answer.status(), answer.into_body().collect().await.unwrap().to_bytes())
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
                .raw("/api/batch", json!({ "commands": commands }).to_string())
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

pub(crate) fn tokens(prefix: &str, count: usize) -> impl Iterator<Item = String> + use<'_> {
    (0..count).map(move |i| format!("{prefix}{i:06}"))
}
