//! The access token: fetched once for all threads, renewed early, and replaced when FCM refuses it.
//!
//! At most one exchange is under way in the process ([`Shared::flying`]). It runs as a task on the thread that asked first; all others wait
//! for [`Auth::changed`]. Whoever waits while an exchange fails is given that failure; whoever comes later waits for the next attempt,
//! which keeps a growing distance. So a failure is told once to each that met it, and Google is not called in a loop.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bugle_model::{Clock, Outcome};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Uri};
use rustls::ClientConfig;
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

use super::account::Account;
use super::token_exchange::{Issued, Refusal, exchange};
use crate::metrics::TOKEN_EXCHANGES_TOTAL;
use crate::transport::{Backoff, Head};

/// So long a refusal is told to everybody who asks, without asking Google again.
const REFUSAL_HOLDS: Duration = Duration::from_secs(1);

/// A token that FCM refuses is replaced at most this often. One that is refused in between is not the token's fault.
const REPLACE_EVERY: Duration = Duration::from_secs(5);

const RETRIES: Backoff = Backoff {
    first: Duration::from_millis(250),
    cap: Duration::from_secs(10),
};

/// An access token and what every request made with it has in common.
pub(super) struct AccessToken {
    serial: u64,
    /// `POST` to the account's project.
    pub(super) head: Head,
    renew_at: Instant,
    ends_at: Instant,
}

impl AccessToken {
    /// Tells it from those before and after it.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// Is it good, and not to be renewed yet?
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now < self.renew_at
    }
}

/// The process's one access token of an app.
pub(super) struct Auth {
    path: PathBuf,
    /// FCM's scheme, host and path prefix.
    endpoint: Uri,
    tls: Arc<ClientConfig>,
    clock: Arc<dyn Clock>,
    patience: Duration,
    shared: Mutex<Shared>,
    /// Of the token in `shared`, for threads that keep a copy.
    serial: AtomicU64,
    /// Counts the ends of exchanges.
    changed: watch::Sender<u64>,
}

struct Shared {
    account: Arc<Account>,
    token: Option<Arc<AccessToken>>,
    /// An exchange is under way.
    flying: bool,
    /// Exchanges that have ended, …
    ended: u64,
    /// … and how the last of them failed.
    failure: Option<Outcome>,
    /// Until when a refusal is told without a new attempt.
    refused_until: Option<Instant>,
    failures: u32,
    retry_at: Option<Instant>,
    replaced_at: Option<Instant>,
    issued: u64,
}

impl Auth {
    pub(super) fn new(
        path: PathBuf,
        account: Account,
        endpoint: Uri,
        tls: Arc<ClientConfig>,
        clock: Arc<dyn Clock>,
        patience: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            path,
            endpoint,
            tls,
            clock,
            patience,
            shared: Mutex::new(Shared {
                account: Arc::new(account),
                token: None,
                flying: false,
                ended: 0,
                failure: None,
                refused_until: None,
                failures: 0,
                retry_at: None,
                replaced_at: None,
                issued: 0,
            }),
            serial: AtomicU64::new(0),
            changed: watch::Sender::new(0),
        })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // Nothing panics while it holds the lock, and a half-written state would only cost an exchange.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token that is good now. The error is the outcome of the target that wanted it. Cancel-safe.
    pub(super) async fn token(self: &Arc<Self>) -> Result<Arc<AccessToken>, Outcome> {
        let mut met = None;
        loop {
            let mut changed = {
                let mut shared = self.shared();
                let now = Instant::now();
                if let Some(token) = shared.token.clone().filter(|token| now < token.ends_at) {
                    if now >= token.renew_at && shared.may_retry(now) {
                        self.launch(&mut shared);
                    }
                    return Ok(token);
                }
                let told =
                    met.is_some_and(|met| shared.ended > met) || shared.refused_until.is_some_and(|until| now < until);
                if let (true, Some(failure)) = (told, &shared.failure) {
                    return Err(*failure);
                }
                met = Some(shared.ended);
                self.launch(&mut shared);
                // Under the lock, or an exchange that ends right now would be missed.
                self.changed.subscribe()
            };
            // The sender lives in `self`: no error.
            let _ = changed.changed().await;
        }
    }

    /// The serial number of the token that is in use. 0 = there is none.
    pub(super) fn serial(&self) -> u64 {
        self.serial.load(Ordering::Relaxed)
    }

    /// FCM refused the token of this serial number. True when a repetition with [`Auth::token`] makes sense: it has been or will be replaced.
    pub(super) fn replace(&self, refused: u64) -> bool {
        let mut shared = self.shared();
        if shared.token.as_ref().is_none_or(|token| token.serial != refused) {
            return true;
        }
        let now = Instant::now();
        if shared.replaced_at.is_some_and(|at| now < at + REPLACE_EVERY) {
            return false;
        }
        shared.replaced_at = Some(now);
        shared.token = None;
        self.serial.store(0, Ordering::Relaxed);
        shared.refused_until = None;
        true
    }

    /// Starts an exchange unless one is under way.
    fn launch(self: &Arc<Self>, shared: &mut Shared) {
        if std::mem::replace(&mut shared.flying, true) {
            return;
        }
        let flight = Flight {
            auth: Arc::clone(self),
            landed: false,
        };
        spawn_local(flight.run(shared.retry_at));
    }

    fn land(&self, result: Result<AccessToken, Refusal>) {
        let mut shared = self.shared();
        shared.flying = false;
        shared.ended += 1;
        shared.refused_until = None;
        let now = Instant::now();
        let label = match result {
            Ok(token) => {
                self.serial.store(token.serial, Ordering::Relaxed);
                shared.token = Some(Arc::new(token));
                shared.failures = 0;
                shared.retry_at = None;
                shared.failure = None;
                "ok"
            }
            Err(refusal) => {
                shared.failures = shared.failures.saturating_add(1);
                shared.retry_at = Some(now + RETRIES.after(shared.failures));
                shared.fail(refusal, now)
            }
        };
        let ended = shared.ended;
        drop(shared);
        ::metrics::counter!(TOKEN_EXCHANGES_TOTAL, "provider" => "fcm", "result" => label).increment(1);
        self.changed.send_replace(ended);
    }

    /// Exchanges with the account at hand; where that is refused, with the file's new content, if it has one.
    async fn obtain(&self) -> Result<AccessToken, Refusal> {
        let account = Arc::clone(&self.shared().account);
        match self.ask(&account).await {
            Err(Refusal::Refused(reason)) => {
                let Some(corrected) = self.reread(&account) else {
                    return Err(Refusal::Refused(reason));
                };
                self.ask(&corrected).await
            }
            answered => answered,
        }
    }

    async fn ask(&self, account: &Account) -> Result<AccessToken, Refusal> {
        let asked = Instant::now();
        let issued = exchange(account, &self.tls, self.clock.now(), self.patience).await?;
        self.prepare(account, &issued, asked)
            .ok_or_else(|| Refusal::Failed("a token that does not fit a header".into()))
    }

    /// Renders what all requests with this token share. Its lifetime counts from before it was asked for.
    fn prepare(&self, account: &Account, issued: &Issued, asked: Instant) -> Option<AccessToken> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", issued.token.expose_secret())).ok()?;
        bearer.set_sensitive(true);
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(AUTHORIZATION, bearer);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut shared = self.shared();
        shared.issued += 1;
        Some(AccessToken {
            serial: shared.issued,
            head: Head::new(super::request::uri(&self.endpoint, &account.project)?, headers)?,
            renew_at: asked + issued.lifetime.mul_f64(0.8),
            ends_at: asked
                + issued
                    .lifetime
                    .mul_f64(0.95)
                    .max(issued.lifetime.saturating_sub(Duration::from_secs(30))),
        })
    }

    /// The file's account, if it differs from the one that was refused.
    fn reread(&self, refused: &Account) -> Option<Arc<Account>> {
        // A small local file, read only after a refusal: not worth another thread.
        match Account::open(&self.path) {
            Ok(account) if account.is_same(refused) => None,
            Ok(account) => {
                tracing::info!(
                    project = account.project,
                    "the credentials file has changed, trying its new content"
                );
                let account = Arc::new(account);
                self.shared().account = Arc::clone(&account);
                Some(account)
            }
            Err(problem) => {
                tracing::error!(
                    problem,
                    "the credentials were refused, and their file cannot be read again"
                );
                None
            }
        }
    }
}

impl Shared {
    fn may_retry(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| now >= at)
    }

    /// Notes a failure for those who wait, and returns its label.
    fn fail(&mut self, refusal: Refusal, now: Instant) -> &'static str {
        match refusal {
            Refusal::Refused(reason) => {
                tracing::error!(
                    reason,
                    project = self.account.project,
                    "the token exchange was refused: check fcm.credentials_file"
                );
                self.refused_until = Some(now + REFUSAL_HOLDS);
                self.failure = Some(Outcome::Credential {
                    reason,
                    exchange_refused: true,
                });
                "refused"
            }
            Refusal::Failed(problem) => {
                tracing::warn!(problem, "the token exchange failed");
                self.failure = Some(Outcome::Transient {
                    reason: "token exchange",
                    after: None,
                    // All who waited for it share its number: together they are one piece of evidence. Odd numbers from the far
                    // end, so that none is a connection's.
                    connection: Some(u64::MAX - self.ended),
                });
                "failed"
            }
        }
    }
}

/// One exchange. If its thread ends before it does, others are woken to start their own.
struct Flight {
    auth: Arc<Auth>,
    landed: bool,
}

impl Flight {
    async fn run(mut self, not_before: Option<Instant>) {
        if let Some(at) = not_before {
            sleep_until(at).await;
        }
        let result = self.auth.obtain().await;
        self.landed = true;
        self.auth.land(result);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.landed {
            self.auth.shared().flying = false;
            self.auth.changed.send_modify(|_| {});
        }
    }
}
