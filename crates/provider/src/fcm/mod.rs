//! Firebase Cloud Messaging, HTTP v1.
//!
//! [`Fcm`] is one app's account with FCM, shared by all sender threads: the service account and its access token. Each thread's
//! client has a pool of connections of its own. [`payload`] is what the service needs to check a push when it is accepted.

mod account;
mod auth;
mod check;
mod config;
pub mod payload;
mod request;
mod response;
mod token_exchange;

pub use check::check;
pub use config::Config;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bugle_model::{Clock, Invalid, Outcome, Provider as ProviderName, TargetKind};
use futures_util::future::LocalBoxFuture;
use serde_json::value::RawValue;
use tokio::task::spawn_local;
use tokio::time::Instant;

use crate::config::{ConfigError, TlsConfig};
use crate::transport::{Answer, Failure, Origin, Permit, Pool, Reply, Request, Trust, Tuning, parse_retry_after};
use crate::{Client, Held, Outcomes, Prepared, Provider, Slot, Ticket};
use account::Account;
use auth::{AccessToken, Auth};
use request::Rendered;
use response::{Verdict, classify, message_id};

/// One app's account with FCM.
pub struct Fcm {
    config: Config,
    origin: Arc<Origin>,
    auth: Arc<Auth>,
    clock: Arc<dyn Clock>,
    /// Clients made so far: each takes its share of the connections.
    clients: AtomicUsize,
}

impl Fcm {
    /// Reads the credentials and the certificate authorities; connects to nothing yet.
    ///
    /// The error names the key. Only for a configuration that [is on](Config::is_on).
    pub fn open(config: &Config, tls: &TlsConfig, clock: Arc<dyn Clock>) -> Result<Arc<Self>, ConfigError> {
        config.validate()?;
        let endpoint = config.endpoint_uri()?;
        let path = PathBuf::from(&config.credentials_file);
        let account = Account::open(&path).map_err(|problem| ConfigError::new("fcm.credentials_file", problem))?;
        let trust = Trust::open(tls)?;
        let origin = Origin::new("fcm", &endpoint, &trust.offering(&[b"h2"]))
            .map_err(|problem| ConfigError::new("fcm.endpoint", problem))?;
        let patience = config.connect_timeout.get() + config.request_timeout.get();
        let tokens = trust.offering(&[b"h2", b"http/1.1"]);
        Ok(Arc::new(Self {
            config: config.clone(),
            origin: Arc::new(origin),
            auth: Auth::new(path, account, endpoint, tokens, Arc::clone(&clock), patience),
            clock,
            clients: AtomicUsize::new(0),
        }))
    }

    /// The connections of the next client, of `threads`: an equal share, the first ones taking what is left over.
    fn share(&self, threads: usize) -> usize {
        let threads = threads.max(1);
        let index = self.clients.fetch_add(1, Ordering::Relaxed) % threads;
        let (each, rest) = (self.config.connections / threads, self.config.connections % threads);
        (each + usize::from(index < rest)).max(1)
    }
}

impl Provider for Fcm {
    fn name(&self) -> ProviderName {
        ProviderName::Fcm
    }

    fn client(self: Arc<Self>, threads: usize, outcomes: Rc<dyn Outcomes>) -> Box<dyn Client> {
        let config = &self.config;
        let tuning = Tuning {
            framing: config.framing,
            connections: self.share(threads),
            streams: config.streams,
            connect_timeout: config.connect_timeout.get(),
            ping_after: config.ping_after.get(),
            idle_ping_after: config.idle_ping_after.get(),
            ping_timeout: config.ping_timeout.get(),
        };
        let sender = Rc::new_cyclic(|me: &Weak<Sender>| Sender {
            pool: Pool::new(Arc::clone(&self.origin), tuning, me.clone()),
            auth: Arc::clone(&self.auth),
            token: RefCell::default(),
            clock: Arc::clone(&self.clock),
            request_timeout: config.request_timeout.get(),
            outcomes,
        });
        Box::new(FcmClient(sender))
    }

    fn max_open(&self) -> usize {
        self.config.connections.max(self.clients.load(Ordering::Relaxed)) * self.config.streams
    }
}

/// One thread's client.
struct FcmClient(Rc<Sender>);

struct Sender {
    pool: Rc<Pool>,
    auth: Arc<Auth>,
    /// This thread's copy of the access token: asking for it costs no lock.
    token: RefCell<Option<Arc<AccessToken>>>,
    clock: Arc<dyn Clock>,
    request_timeout: Duration,
    outcomes: Rc<dyn Outcomes>,
}

impl Client for FcmClient {
    fn prepare(&self, body: &RawValue) -> Result<Prepared, Invalid> {
        Ok(Prepared(Rc::new(Rendered::new(body)?)))
    }

    fn try_slot(&self, now: std::time::Instant) -> Option<Slot> {
        let now = Instant::from_std(now);
        if !self.0.has_fresh_token(now) {
            return None;
        }
        Some(Slot(Held::Stream(self.0.pool.try_permit()?, now)))
    }

    fn slot(&self) -> LocalBoxFuture<'_, Result<Slot, Outcome>> {
        Box::pin(async { Ok(Slot(Held::Stream(self.0.grant().await?, Instant::now()))) })
    }

    fn send(&self, slot: Slot, push: &Prepared, target: &TargetKind, ticket: Ticket) {
        let sent = match (slot.0, push.0.downcast_ref::<Rendered>()) {
            (Held::Stream(permit, granted), Some(rendered)) => {
                rendered.with_body(target, |body| self.0.send(permit, body, granted, ticket))
            }
            _ => None,
        };
        if sent.is_none() {
            // Another provider's slot or push, or a target that is none: a mistake of the caller's.
            self.0.refuse(ticket, Outcome::Payload { reason: "no target" });
        }
    }

    fn capacity(&self) -> usize {
        self.0.pool.capacity()
    }

    fn close(&self) {
        self.0.pool.close();
    }
}

impl Drop for FcmClient {
    fn drop(&mut self) {
        self.0.pool.close();
    }
}

impl Sender {
    async fn grant(&self) -> Result<Permit, Outcome> {
        // The token first: without one nobody may hold a stream. Then again, because it may have ended during a long wait.
        self.auth.token().await?;
        let permit = self.pool.permit().await.map_err(Failure::outcome)?;
        let token = self.auth.token().await?;
        self.token.replace(Some(token));
        Ok(permit)
    }

    /// Is the thread's copy of the access token the one in use, and not to be renewed?
    fn has_fresh_token(&self, now: Instant) -> bool {
        let token = self.token.borrow();
        token
            .as_ref()
            .is_some_and(|token| token.serial() == self.auth.serial() && token.is_fresh(now))
    }

    fn send(&self, permit: Permit, body: &[&[u8]], granted: Instant, ticket: Ticket) {
        // A slot is granted with a token only; one that was replaced since is worth a try.
        let Some(token) = self.token.borrow().clone() else {
            return self.refuse(ticket, Outcome::Unprocessed);
        };
        let request = Request {
            ticket,
            token: token.serial(),
        };
        permit.send(&token.head, body, granted + self.request_timeout, request);
    }

    /// Tells an outcome that needs no answer, from a task of its own.
    fn refuse(&self, ticket: Ticket, outcome: Outcome) {
        let outcomes = Rc::clone(&self.outcomes);
        spawn_local(async move { outcomes.outcome(ticket, outcome, "") });
    }

    fn judge(&self, answer: &Answer<'_>) -> Result<Verdict, Failure> {
        let body = match answer.body {
            Ok(body) => body,
            // The status has said it all.
            Err(_) if (200..300).contains(&answer.status) => &[],
            Err(failure) => return Err(failure),
        };
        let retry_after = answer.retry_after.and_then(|value| std::str::from_utf8(value).ok());
        let retry_after = retry_after.and_then(|value| parse_retry_after(value, self.clock.now()));
        Ok(classify(answer.status, retry_after, body))
    }
}

impl Reply for Sender {
    fn ahead(&self, request: &Request) {
        self.outcomes.ahead(request.ticket);
    }

    fn answered(&self, request: Request, answer: Result<Answer<'_>, Failure>) {
        let ticket = request.ticket;
        let judged = answer.and_then(|answer| Ok((self.judge(&answer)?, answer)));
        match judged {
            Err(failure) => self.outcomes.outcome(ticket, failure.outcome(), ""),
            Ok((verdict, answer)) if verdict.outcome == Outcome::Accepted => {
                let body = answer.body.unwrap_or_default();
                self.outcomes.outcome(ticket, Outcome::Accepted, &message_id(body));
            }
            Ok((verdict, _)) if verdict.token_refused && self.auth.replace(request.token) => {
                self.outcomes.outcome(ticket, Outcome::Unprocessed, "");
            }
            Ok((verdict, _)) => self.outcomes.outcome(ticket, verdict.outcome, ""),
        }
    }
}
