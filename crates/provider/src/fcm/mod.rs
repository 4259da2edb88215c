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

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bugle_model::{Clock, Invalid, Outcome, Provider as ProviderName, TargetKind};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::header::RETRY_AFTER;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use crate::config::{ConfigError, TlsConfig};
use crate::transport::{Answer, Failure, Origin, Permit, Pool, Trust, Tuning, parse_retry_after};
use crate::{Client, Prepared, Provider, Slot};
use account::Account;
use auth::{AccessToken, Auth};
use request::Rendered;
use response::{Verdict, classify};

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

    fn client(self: Arc<Self>, threads: usize) -> Box<dyn Client> {
        let config = &self.config;
        let tuning = Tuning {
            connections: self.share(threads),
            streams: config.streams,
            connect_timeout: config.connect_timeout.get(),
            ping_after: config.ping_after.get(),
            idle_ping_after: config.idle_ping_after.get(),
            ping_timeout: config.ping_timeout.get(),
        };
        let sender = Sender {
            pool: Pool::new(Arc::clone(&self.origin), tuning),
            auth: Arc::clone(&self.auth),
            clock: Arc::clone(&self.clock),
            request_timeout: config.request_timeout.get(),
        };
        Box::new(FcmClient(Rc::new(sender)))
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
    clock: Arc<dyn Clock>,
    request_timeout: Duration,
}

/// What a [`Slot`] holds.
struct Granted {
    permit: Permit,
    token: Arc<AccessToken>,
}

impl Client for FcmClient {
    fn prepare(&self, body: &RawValue) -> Result<Prepared, Invalid> {
        Ok(Prepared(Rc::new(Rendered::new(body)?)))
    }

    fn slot(&self) -> LocalBoxFuture<'_, Result<Slot, Outcome>> {
        Box::pin(async {
            let granted = self.0.grant().await?;
            Ok(Slot(Box::new(granted)))
        })
    }

    fn send(&self, slot: Slot, push: &Prepared, target: &TargetKind) -> LocalBoxFuture<'static, Outcome> {
        let body = push
            .0
            .downcast_ref::<Rendered>()
            .and_then(|rendered| rendered.body(target));
        let sender = Rc::clone(&self.0);
        Box::pin(async move {
            let (Some(body), Ok(granted)) = (body, slot.0.downcast::<Granted>()) else {
                // Another provider's slot or push, or a target that is none: a mistake of the caller's.
                return Outcome::Payload { reason: "no target" };
            };
            sender.send(*granted, body).await
        })
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
    async fn grant(&self) -> Result<Granted, Outcome> {
        // The token first: without one nobody may hold a stream. Then again, because it may have ended during a long wait.
        self.auth.token().await?;
        let permit = self.pool.permit().await.map_err(Failure::outcome)?;
        let token = self.auth.token().await?;
        Ok(Granted { permit, token })
    }

    async fn send(&self, granted: Granted, body: Bytes) -> Outcome {
        let deadline = Instant::now() + self.request_timeout;
        let Granted { permit, token } = granted;
        let first = match self.once(&permit, &token, body.clone(), deadline).await {
            Ok(verdict) => verdict,
            Err(failure) => return failure.outcome(),
        };
        if !first.token_refused || !self.auth.replace(&token) {
            return first.outcome;
        }
        let repeated = timeout_at(deadline, self.repeat(permit, body, deadline)).await;
        repeated.unwrap_or_else(|_| Failure::Timeout.outcome())
    }

    /// Sends once more with a fresh token, over the same stream's permit if its connection still takes requests.
    async fn repeat(&self, permit: Permit, body: Bytes, deadline: Instant) -> Outcome {
        let token = match self.auth.token().await {
            Ok(token) => token,
            Err(outcome) => return outcome,
        };
        let permit = if permit.is_usable() {
            permit
        } else {
            drop(permit);
            match self.pool.permit().await {
                Ok(permit) => permit,
                Err(failure) => return failure.outcome(),
            }
        };
        match self.once(&permit, &token, body, deadline).await {
            Ok(verdict) => verdict.outcome,
            Err(failure) => failure.outcome(),
        }
    }

    async fn once(
        &self,
        permit: &Permit,
        token: &AccessToken,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Verdict, Failure> {
        let answer = permit.exchange(request::head(token), body, deadline).await?;
        self.judge(answer)
    }

    fn judge(&self, answer: Answer) -> Result<Verdict, Failure> {
        let body = match answer.body {
            Ok(body) => body,
            // The status has said it all.
            Err(_) if answer.status.is_success() => Bytes::new(),
            Err(failure) => return Err(failure),
        };
        let retry_after = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| parse_retry_after(value, self.clock.now()));
        Ok(classify(answer.status, retry_after, &body))
    }
}
