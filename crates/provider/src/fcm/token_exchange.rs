//! Exchanging a signed assertion for an access token (RFC 7523): one request on a connection of its own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bugle_model::Timestamp;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::task::spawn_local;

use super::account::Account;
use crate::transport::{Origin, dial};

/// Google's answers have about 2 KB.
const MAX_BODY: usize = 64 * 1024;

/// An access token as it was issued.
pub(super) struct Issued {
    pub(super) token: SecretString,
    pub(super) lifetime: Duration,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The account or its key is refused; asking again changes nothing.
    Refused(&'static str),
    /// Network, time-out, or the other side's own trouble.
    Failed(String),
}

#[derive(Deserialize)]
struct Grant {
    access_token: SecretString,
    expires_in: Option<u64>,
}

#[derive(Deserialize, Default)]
struct Denial {
    #[serde(default)]
    error: String,
}

/// Asks for a token. `patience` bounds the whole.
pub(super) async fn exchange(
    account: &Account,
    tls: &Arc<ClientConfig>,
    now: Timestamp,
    patience: Duration,
) -> Result<Issued, Refusal> {
    let origin = Origin::new("fcm", &account.token_uri, tls).map_err(|e| Refusal::Failed(e.into()))?;
    let assertion = account.assertion(now).map_err(|_| Refusal::Refused("unfit_key"))?;
    let whole = async {
        let answer = if origin.is_tls() {
            post(&origin, account, &assertion, patience, None).await
        } else {
            // Nothing says which HTTP a plain port speaks. A server of HTTP/2 only cannot have understood the first attempt.
            match post(&origin, account, &assertion, patience, Some(false)).await {
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    post(&origin, account, &assertion, patience, Some(true)).await
                }
                answered => answered,
            }
        };
        let (status, body) = answer.map_err(|e| Refusal::Failed(e.to_string()))?;
        judge(status, &body)
    };
    let late = |_| Err(Refusal::Failed("no answer in time".into()));
    tokio::time::timeout(patience, whole).await.unwrap_or_else(late)
}

/// One POST; an error of kind `InvalidData` means that the peer was reached and did not answer in this HTTP.
async fn post(
    origin: &Origin,
    account: &Account,
    assertion: &SecretString,
    patience: Duration,
    http2: Option<bool>,
) -> io::Result<(StatusCode, Bytes)> {
    let dialled = dial(origin, patience).await?;
    let http2 = http2.unwrap_or_else(|| dialled.protocol.as_deref() == Some(b"h2"));
    let io = TokioIo::new(dialled.io);
    let request = request(account, assertion, http2)?;
    let odd = |e: hyper::Error| io::Error::new(io::ErrorKind::InvalidData, e);
    let answer = if http2 {
        let (mut send, connection) = hyper::client::conn::http2::handshake(Local, io).await.map_err(odd)?;
        spawn_local(connection);
        send.send_request(request).await.map_err(odd)?
    } else {
        let (mut send, connection) = hyper::client::conn::http1::handshake(io).await.map_err(odd)?;
        spawn_local(connection);
        send.send_request(request).await.map_err(odd)?
    };
    read(answer).await
}

fn request(account: &Account, assertion: &SecretString, http2: bool) -> io::Result<Request<Full<Bytes>>> {
    // Both values are of characters that a form leaves as they are, except the colons of the grant type.
    let form = format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={}",
        assertion.expose_secret()
    );
    let uri = &account.token_uri;
    let mut request = Request::post(uri.clone())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form)))
        .map_err(io::Error::other)?;
    if !http2 {
        let authority = uri.authority().map_or("", http::uri::Authority::as_str);
        request
            .headers_mut()
            .insert(HOST, HeaderValue::from_str(authority).map_err(io::Error::other)?);
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        *request.uri_mut() = path.parse().map_err(io::Error::other)?;
    }
    Ok(request)
}

async fn read(answer: Response<Incoming>) -> io::Result<(StatusCode, Bytes)> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_BODY)
        .collect()
        .await
        .map_err(io::Error::other)?;
    Ok((status, body.to_bytes()))
}

fn judge(status: StatusCode, body: &[u8]) -> Result<Issued, Refusal> {
    if status.is_success() {
        // The body is not told: it holds the token.
        let grant: Grant =
            serde_json::from_slice(body).map_err(|_| Refusal::Failed("an answer without a token".into()))?;
        return Ok(Issued {
            token: grant.access_token,
            lifetime: Duration::from_secs(grant.expires_in.unwrap_or(3_600)),
        });
    }
    let ours =
        status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT && status != StatusCode::TOO_MANY_REQUESTS;
    if !ours {
        return Err(Refusal::Failed(format!("HTTP {}", status.as_u16())));
    }
    let denial: Denial = serde_json::from_slice(body).unwrap_or_default();
    Err(Refusal::Refused(word(&denial.error)))
}

/// The words of RFC 6749 (5.2) and Google's, so that a metric's label stays one of a few.
fn word(error: &str) -> &'static str {
    const WORDS: [&str; 8] = [
        "invalid_grant",
        "invalid_client",
        "invalid_scope",
        "invalid_request",
        "unauthorized_client",
        "unsupported_grant_type",
        "access_denied",
        "deleted_client",
    ];
    WORDS
        .into_iter()
        .find(|word| *word == error)
        .unwrap_or("token_exchange_refused")
}

/// Runs hyper's helper tasks on this thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> Option<&'static str> {
        match judge(StatusCode::from_u16(status).unwrap(), body.as_bytes()) {
            Err(Refusal::Refused(word)) => Some(word),
            _ => None,
        }
    }

    #[test]
    fn a_token_is_taken_with_its_lifetime() {
        let body = br#"{"access_token":"ya29.x","expires_in":3599,"token_type":"Bearer"}"#;
        let issued = judge(StatusCode::OK, body).ok().unwrap();
        assert_eq!(issued.token.expose_secret(), "ya29.x");
        assert_eq!(issued.lifetime, Duration::from_secs(3599));
    }

    #[test]
    fn google_refuses_with_400_and_401() {
        let body = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
        assert_eq!(refused(400, body), Some("invalid_grant"));
        assert_eq!(refused(401, r#"{"error":"invalid_client"}"#), Some("invalid_client"));
        assert_eq!(refused(403, "<html>"), Some("token_exchange_refused"));
    }

    #[test]
    fn trouble_of_theirs_is_no_refusal() {
        for (status, body) in [
            (500, ""),
            (503, "{}"),
            (429, "{}"),
            (408, ""),
            (200, "<html>"),
            (200, "{}"),
            (302, ""),
        ] {
            let answer = judge(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert!(matches!(answer, Err(Refusal::Failed(_))), "{status} {body}");
        }
    }

    #[test]
    fn no_failure_tells_a_token() {
        let body = br#"{"access_token":"ya29.secret","expires_in":"soon"}"#;
        let Err(refusal) = judge(StatusCode::OK, body) else {
            panic!("must fail")
        };
        assert!(!format!("{refusal:?}").contains("secret"));
    }
}
