//! The `OAuth2` endpoint for service accounts, and the access tokens that it has issued.
//!
//! `POST /token` takes `grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer` with an assertion: a JWT of the
//! service account, signed with RS256, for this very endpoint, good for an hour at most. The answers to wrong ones are
//! those of Google's endpoint.
//!
//! A bearer is checked with every message, and is a thousand bytes long. Each connection remembers the one that was
//! good last; a generation number says when that memory is stale.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::fcm::Bearer;
use crate::form;
use crate::identity::{ServiceAccount, fill};
use crate::reply::Reply;
use crate::settings::Settings;
use crate::stats::Counters;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const PREFIX: &str = "ya29.";
/// The longest life of an assertion, in seconds.
const HOUR: u64 = 3_600;
/// How far the clocks may differ, in seconds.
const SKEW: u64 = 300;

/// The endpoint and its access tokens.
pub(crate) struct OAuth {
    account: ServiceAccount,
    token_bytes: usize,
    issued: RwLock<HashMap<Vec<u8>, Instant>>,
    /// Moves on with each revocation.
    generation: AtomicU64,
}

/// The bearer that was good last on a connection.
#[derive(Default)]
pub(crate) struct BearerCache(Mutex<Option<Good>>);

struct Good {
    authorization: HeaderValue,
    until: Instant,
    generation: u64,
}

#[derive(Deserialize)]
struct JwtHeader {
    alg: String,
    kid: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    #[serde(default)]
    scope: String,
    iat: u64,
    exp: u64,
}

/// Why an exchange is refused: Google's code and description.
struct Refusal(&'static str, String);

impl Refusal {
    fn grant(description: impl Into<String>) -> Self {
        Self("invalid_grant", description.into())
    }
}

impl OAuth {
    pub(crate) fn new(account: ServiceAccount, token_bytes: usize) -> Self {
        Self {
            account,
            token_bytes,
            issued: RwLock::default(),
            generation: AtomicU64::new(0),
        }
    }

    pub(crate) fn account(&self) -> &ServiceAccount {
        &self.account
    }

    /// Answers `POST /token`. `origin` is the URL under which the request came in, without a path.
    pub(crate) fn exchange(&self, body: &[u8], origin: &str, settings: &Settings, counters: &Counters) -> Reply {
        if settings.exchange_unavailable {
            counters.exchanges_refused.fetch_add(1, Ordering::Relaxed);
            return error(
                StatusCode::SERVICE_UNAVAILABLE,
                "temporarily_unavailable",
                "Service unavailable.",
            );
        }
        let checked = if settings.reject_exchange {
            Err(Refusal::grant("Invalid JWT Signature."))
        } else {
            self.check_grant(body, origin)
        };
        match checked {
            Ok(()) => {
                counters.exchanges.fetch_add(1, Ordering::Relaxed);
                let answer = json!({
                    "access_token": self.issue(Duration::from_secs(settings.token_lifetime_s)),
                    "expires_in": settings.token_lifetime_s,
                    "token_type": "Bearer",
                });
                Reply::json(StatusCode::OK, answer.to_string())
            }
            Err(Refusal(code, description)) => {
                counters.exchanges_refused.fetch_add(1, Ordering::Relaxed);
                error(StatusCode::BAD_REQUEST, code, &description)
            }
        }
    }

    fn check_grant(&self, body: &[u8], origin: &str) -> Result<(), Refusal> {
        let field = |name| form::value(body, name);
        match field("grant_type") {
            None => {
                return Err(Refusal(
                    "invalid_request",
                    "Required parameter is missing: grant_type".to_owned(),
                ));
            }
            Some(grant) if grant != GRANT => {
                return Err(Refusal(
                    "unsupported_grant_type",
                    format!("Invalid grant_type: {grant}"),
                ));
            }
            Some(_) => {}
        }
        let assertion = field("assertion")
            .ok_or_else(|| Refusal("invalid_request", "Required parameter is missing: assertion".to_owned()))?;
        let claims = self.verified(&assertion)?;
        self.check_claims(&claims, origin)
    }

    /// The claims of an assertion that the service account's key has signed.
    fn verified(&self, assertion: &str) -> Result<Claims, Refusal> {
        let bad = || Refusal::grant("Bad Request: the assertion is not a JWT");
        let (signed, signature) = assertion.rsplit_once('.').ok_or_else(bad)?;
        let (header, claims) = signed.split_once('.').ok_or_else(bad)?;
        let header: JwtHeader = part(header).ok_or_else(bad)?;
        let claims: Claims = part(claims).ok_or_else(bad)?;
        if claims.iss != self.account.email {
            return Err(Refusal::grant("Invalid grant: account not found"));
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| bad())?;
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.account.public_key);
        let known = header.kid.is_none_or(|kid| kid == self.account.key_id);
        if header.alg != "RS256" || !known || key.verify(signed.as_bytes(), &signature).is_err() {
            return Err(Refusal::grant("Invalid JWT Signature."));
        }
        Ok(claims)
    }

    fn check_claims(&self, claims: &Claims, origin: &str) -> Result<(), Refusal> {
        let right = &self.account.token_uri;
        // Behind a proxy the endpoint has another URL; what counts is that the client named the one that it asked.
        let asked = claims.aud.strip_suffix("/token").is_some_and(|asked| asked == origin);
        if claims.aud != *right && !asked {
            let text = format!("Invalid JWT: Failed audience check. The right audience is {right}");
            return Err(Refusal::grant(text));
        }
        let now = unix_seconds();
        let lasts = claims.exp.checked_sub(claims.iat);
        if lasts.is_none_or(|lasts| lasts > HOUR) || claims.iat > now + SKEW || claims.exp <= now {
            return Err(Refusal::grant(
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check \
                 your iat and exp values in the JWT claim.",
            ));
        }
        if !claims.scope.split_ascii_whitespace().any(|scope| scope == SCOPE) {
            let text = "Invalid OAuth scope or ID token audience provided.";
            return Err(Refusal("invalid_scope", text.to_owned()));
        }
        Ok(())
    }

    fn issue(&self, lifetime: Duration) -> String {
        let mut random = vec![0; (self.token_bytes * 3).div_ceil(4).max(16)];
        fill(&mut random);
        let mut token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        token.truncate(self.token_bytes.max(PREFIX.len() + 20));
        let now = Instant::now();
        let mut issued = self.issued.write().unwrap_or_else(PoisonError::into_inner);
        issued.retain(|_, until| *until > now);
        issued.insert(token.clone().into_bytes(), now + lifetime);
        token
    }

    /// Makes every access token invalid.
    pub(crate) fn revoke(&self) {
        self.issued.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Whether a request's bearer is one of ours and still good.
    pub(crate) fn check(&self, authorization: Option<&HeaderValue>, cache: &BearerCache) -> Result<(), Bearer> {
        let authorization = authorization.ok_or(Bearer::Missing)?;
        let now = Instant::now();
        // Read before the tokens: a revocation in between leaves a stale number in the cache, not a stale bearer.
        let generation = self.generation.load(Ordering::Acquire);
        let mut good = cache.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(good) = good.as_ref()
            && good.generation == generation
            && good.authorization == *authorization
            && good.until > now
        {
            return Ok(());
        }
        let token = bearer_token(authorization.as_bytes()).ok_or(Bearer::Missing)?;
        let until = self
            .issued
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(token)
            .copied();
        let until = until.filter(|until| *until > now).ok_or(Bearer::Refused)?;
        *good = Some(Good {
            authorization: authorization.clone(),
            until,
            generation,
        });
        Ok(())
    }
}

/// What stands behind `Bearer `.
fn bearer_token(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = authorization.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

fn error(status: StatusCode, code: &str, description: &str) -> Reply {
    Reply::json(
        status,
        json!({ "error": code, "error_description": description }).to_string(),
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "the simulator imports no crate of ours, so it has no other clock"
)]
fn unix_seconds() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
