//! Does everything on the way to FCM work? For `bugle check`.
//!
//! The same parts that send are used, in their order: credentials, authorities, connection, token exchange, one request. The request is
//! `validate_only`: FCM checks it like any other and delivers it to nobody.

use std::path::Path;
use std::rc::Weak;
use std::sync::Arc;
use std::time::Duration;

use bugle_model::{Clock, Outcome, Timestamp};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HOST};
use http::{HeaderValue, Request, Uri};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

use super::account::Account;
use super::response::classify;
use super::token_exchange::{Issued, Refusal, exchange};
use super::{Config, request};
use crate::config::TlsConfig;
use crate::finding::Finding;
use crate::transport::{self, Answer, Failure, Framing, Origin, Pool, Reply, Trust, Tuning, Whole, dial, http_date};

const CREDENTIALS: &str = "FCM credentials";
const AUTHORITIES: &str = "TLS authorities";
const ENDPOINT: &str = "FCM endpoint";
const TOKEN_ENDPOINT: &str = "FCM token endpoint";
const CLOCK: &str = "clock";
const EXCHANGE: &str = "FCM token exchange";
const SEND: &str = "FCM validate-only push";

/// Google refuses assertions from a clock that is off by more.
const CLOCK_MAY_BE_OFF: Duration = Duration::from_mins(5);

/// To a topic, because a made-up token would be refused before some of the rest is looked at.
const PUSH: &str = r#"{"validate_only":true,"message":{"topic":"bugle-check","notification":{"title":"bugle check"}}}"#;

/// Tries everything in turn; one finding per item, whatever fails. Must run inside a `LocalSet`.
pub async fn check(config: &Config, tls: &TlsConfig, clock: &dyn Clock) -> Vec<Finding> {
    if !config.is_on() {
        let off = "FCM is off: fcm.credentials_file is empty, so that pushes are refused";
        return vec![Finding::skipped(CREDENTIALS, off)];
    }
    let mut found = Vec::new();
    let account = credentials(config, &mut found);
    let Some(trust) = authorities(tls, &mut found) else {
        let items = [ENDPOINT, CLOCK, TOKEN_ENDPOINT, EXCHANGE, SEND];
        found.extend(items.map(|item| Finding::skipped(item, "needs the TLS authorities")));
        return found;
    };
    let check = Check { config, clock, trust };
    check.endpoint(&mut found).await;
    let Some(account) = account else {
        let items = [TOKEN_ENDPOINT, EXCHANGE, SEND];
        found.extend(items.map(|item| Finding::skipped(item, "needs the credentials")));
        return found;
    };
    check.token_endpoint(&account, &mut found).await;
    match check.exchange(&account, &mut found).await {
        Some(issued) => found.push(check.send(&account, &issued).await),
        None => found.push(Finding::skipped(SEND, "needs an access token")),
    }
    found
}

fn credentials(config: &Config, found: &mut Vec<Finding>) -> Option<Account> {
    match Account::open(Path::new(&config.credentials_file)) {
        Ok(account) => {
            let words = format!(
                "{}: service account of project {}",
                config.credentials_file, account.project
            );
            found.push(Finding::ok(CREDENTIALS, words));
            Some(account)
        }
        Err(problem) => {
            let remedy = "set fcm.credentials_file to a service account's key, readable for bugle: Firebase console, Project settings, Service accounts, Generate new private key";
            found.push(Finding::failed(CREDENTIALS, problem, remedy));
            None
        }
    }
}

fn authorities(tls: &TlsConfig, found: &mut Vec<Finding>) -> Option<Trust> {
    match Trust::open(tls) {
        Ok(trust) => {
            let words = match tls.extra_ca_file.as_str() {
                "" => "those of the system".to_owned(),
                file => format!("those of the system and of {file}"),
            };
            found.push(Finding::ok(AUTHORITIES, words));
            Some(trust)
        }
        Err(problem) => {
            let remedy = "set tls.extra_ca_file to a PEM file with certificates that bugle may read, or remove the key";
            found.push(Finding::failed(AUTHORITIES, problem.to_string(), remedy));
            None
        }
    }
}

struct Check<'a> {
    config: &'a Config,
    clock: &'a dyn Clock,
    trust: Trust,
}

impl Check<'_> {
    fn patience(&self) -> Duration {
        self.config.connect_timeout.get() + self.config.request_timeout.get()
    }

    /// TCP and TLS, and with an answer's date the clock.
    async fn endpoint(&self, found: &mut Vec<Finding>) {
        let uri = match self.config.endpoint_uri() {
            Ok(uri) => uri,
            Err(problem) => {
                found.push(Finding::failed(ENDPOINT, problem.to_string(), "correct fcm.endpoint"));
                found.push(Finding::skipped(CLOCK, "needs an endpoint that answers"));
                return;
            }
        };
        let reached = self.reach(ENDPOINT, &uri).await;
        let works = reached.state == crate::finding::State::Ok;
        found.push(reached);
        found.push(if works {
            self.time(&uri).await
        } else {
            Finding::skipped(CLOCK, "needs an endpoint that answers")
        });
    }

    async fn token_endpoint(&self, account: &Account, found: &mut Vec<Finding>) {
        found.push(self.reach(TOKEN_ENDPOINT, &account.token_uri).await);
    }

    async fn reach(&self, item: &'static str, uri: &Uri) -> Finding {
        let place = place(uri);
        let origin = match Origin::new("fcm", uri, &self.trust.offering(&[b"h2", b"http/1.1"])) {
            Ok(origin) => origin,
            Err(problem) => return Finding::failed(item, format!("{place}: {problem}"), "correct the address"),
        };
        let patience = self.config.connect_timeout.get();
        match timeout(patience * 2, dial(&origin, patience)).await {
            Ok(Ok(_)) if origin.is_tls() => Finding::ok(item, format!("{place}: TCP and TLS work")),
            Ok(Ok(_)) => Finding::ok(item, format!("{place}: TCP works, there is no TLS")),
            Ok(Err(error)) => Finding::failed(item, format!("{place}: {error}"), remedy_of(&error)),
            Err(_) => Finding::failed(
                item,
                format!("{place}: no connection within {} s", (patience * 2).as_secs()),
                NETWORK,
            ),
        }
    }

    async fn time(&self, uri: &Uri) -> Finding {
        let Ok(Some(theirs)) = timeout(self.patience(), self.date(uri)).await else {
            return Finding::skipped(CLOCK, "the endpoint's answer has no date to compare with");
        };
        let ours = self.clock.now();
        let off = ours.since(theirs).max(theirs.since(ours));
        let words = format!("{} s off the endpoint's", off.as_secs());
        if off <= CLOCK_MAY_BE_OFF {
            return Finding::ok(CLOCK, words);
        }
        let remedy =
            "set the machine's clock, by NTP for instance: Google refuses what is signed more than 5 minutes off";
        Finding::failed(CLOCK, words, remedy)
    }

    /// The header `Date` of an answer to a request that asks for nothing.
    async fn date(&self, uri: &Uri) -> Option<Timestamp> {
        let origin = Origin::new("fcm", uri, &self.trust.offering(&[b"http/1.1"])).ok()?;
        let dialled = dial(&origin, self.config.connect_timeout.get()).await.ok()?;
        let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(dialled.io))
            .await
            .ok()?;
        spawn_local(connection);
        let request = Request::get("/").header(HOST, uri.authority()?.as_str());
        let answer = send
            .send_request(request.body(Empty::<Bytes>::new()).ok()?)
            .await
            .ok()?;
        http_date(answer.headers().get(DATE)?.to_str().ok()?)
    }

    async fn exchange(&self, account: &Account, found: &mut Vec<Finding>) -> Option<Issued> {
        let tls = self.trust.offering(&[b"h2", b"http/1.1"]);
        match exchange(account, &tls, self.clock.now(), self.patience()).await {
            Ok(issued) => {
                let words = format!("an access token for {} s", issued.lifetime.as_secs());
                found.push(Finding::ok(EXCHANGE, words));
                return Some(issued);
            }
            Err(Refusal::Refused(word)) => found.push(Finding::failed(
                EXCHANGE,
                format!("refused: {word}"),
                "make a new key for the service account in the Firebase console: this one was deleted, or the account was; if the clock is off, set it first",
            )),
            Err(Refusal::Failed(problem)) => found.push(Finding::failed(EXCHANGE, problem, NETWORK)),
        }
        None
    }

    async fn send(&self, account: &Account, issued: &Issued) -> Finding {
        match timeout(self.patience(), self.ask(account, issued)).await {
            Ok(Ok(answer)) => {
                let answer = answer.answer();
                let outcome = classify(answer.status, None, answer.body.unwrap_or_default()).outcome;
                judged(answer.status, &outcome, &account.project)
            }
            Ok(Err(problem)) => Finding::failed(SEND, problem, NETWORK),
            Err(_) => Finding::failed(SEND, "no answer in time", NETWORK),
        }
    }

    async fn ask(&self, account: &Account, issued: &Issued) -> Result<Whole, String> {
        let wrong = |problem: &dyn std::fmt::Display| problem.to_string();
        let endpoint = self.config.endpoint_uri().map_err(|e| wrong(&e))?;
        let origin = Origin::new("fcm", &endpoint, &self.trust.offering(&[b"h2"])).map_err(|e| wrong(&e))?;
        let uri = request::uri(&endpoint, &account.project).ok_or("the project's name does not fit a URL")?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", issued.token.expose_secret()))
            .map_err(|_| "the access token does not fit a header")?;
        bearer.set_sensitive(true);
        let request = Request::post(uri)
            .version(http::Version::HTTP_2)
            .header(AUTHORIZATION, bearer)
            .header(CONTENT_TYPE, "application/json")
            .body(())
            .map_err(|e| wrong(&e))?;
        let pool = Pool::new(Arc::new(origin), self.tuning(), Weak::<Nobody>::new());
        let deadline = Instant::now() + self.patience();
        let permit = pool.permit().await.map_err(told)?;
        let answer = permit
            .exchange(request, Bytes::from_static(PUSH.as_bytes()), deadline)
            .await;
        pool.close();
        answer.map_err(told)
    }

    fn tuning(&self) -> Tuning {
        Tuning {
            // Its answer is waited for.
            framing: Framing::H2,
            connections: 1,
            streams: 1,
            connect_timeout: self.config.connect_timeout.get(),
            ping_after: self.config.ping_after.get(),
            idle_ping_after: self.config.idle_ping_after.get(),
            ping_timeout: self.config.ping_timeout.get(),
        }
    }
}

/// The request is awaited: nobody is told of it.
struct Nobody;

impl Reply for Nobody {
    fn answered(&self, _: transport::Request, _: Result<Answer<'_>, Failure>) {}
}

const NETWORK: &str =
    "look at DNS, the firewall and the proxy: bugle must reach this address directly, port 443 as a rule";

fn remedy_of(error: &std::io::Error) -> &'static str {
    if error.to_string().contains("certificate") {
        "its certificate is not trusted: set tls.extra_ca_file to the authority that signed it, or find out who is in between"
    } else {
        NETWORK
    }
}

fn place(uri: &Uri) -> String {
    format!(
        "{}://{}",
        uri.scheme_str().unwrap_or_default(),
        uri.authority().map_or("", |authority| authority.as_str())
    )
}

fn told(failure: Failure) -> String {
    match failure {
        Failure::Unprocessed | Failure::Closed => "the connection ended before the request was taken",
        Failure::Reset => "the request was broken off",
        Failure::Lost(_) => "the connection was lost",
        Failure::Connect(_) => "no HTTP/2 connection",
        Failure::HeadTooLarge => "it takes no header list as large as that of a request",
        Failure::Timeout => "no answer in time",
    }
    .to_owned()
}

fn judged(status: u16, outcome: &Outcome, project: &str) -> Finding {
    let refused = |word: &str, remedy: String| Finding::failed(SEND, format!("HTTP {status}: {word}"), remedy);
    match outcome {
        Outcome::Accepted => Finding::ok(SEND, "FCM would have taken it"),
        // Whoever is told what is wrong with the message has been let in.
        Outcome::Device { reason } | Outcome::Mismatch { reason } | Outcome::Payload { reason } => Finding::ok(
            SEND,
            format!("FCM let it in and refused its made-up target: HTTP {status} {reason}"),
        ),
        Outcome::Credential { reason, .. } => {
            let remedy = match *reason {
                "UNAUTHENTICATED" => {
                    "FCM does not take the access token: make a new key for the service account".to_owned()
                }
                "PERMISSION_DENIED" => format!(
                    "enable the Firebase Cloud Messaging API (V1) for project {project}, and give the service account the role Firebase Cloud Messaging API Admin"
                ),
                "NOT_FOUND" => format!(
                    "is {project} the right project? Look at project_id in fcm.credentials_file, and at fcm.endpoint"
                ),
                _ => "is fcm.endpoint FCM's address? Another server seems to answer there".to_owned(),
            };
            refused(reason, remedy)
        }
        Outcome::Throttle { .. } => refused(
            "over quota",
            "wait a minute and check again; if it stays, ask for more quota".to_owned(),
        ),
        _ => refused("the provider's own trouble", "check again in a few minutes".to_owned()),
    }
}
