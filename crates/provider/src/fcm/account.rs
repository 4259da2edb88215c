//! The service account: who we are to Google, and how we prove it.

use std::fmt;
use std::path::Path;

use bugle_model::Timestamp;
use http::Uri;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// The only scope that sending needs.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

/// Google takes assertions that are good for an hour at most.
const ASSERTION_SECS: i64 = 3_600;

fn google() -> String {
    "https://oauth2.googleapis.com/token".into()
}

/// The fields of the credentials file that matter here.
#[derive(Deserialize)]
struct File {
    #[serde(rename = "type")]
    kind: Option<String>,
    project_id: String,
    #[serde(default)]
    private_key_id: Option<String>,
    private_key: SecretString,
    client_email: String,
    #[serde(default = "google")]
    token_uri: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'static str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

/// A service account, ready to sign.
pub(crate) struct Account {
    pub(crate) project: String,
    pub(crate) token_uri: Uri,
    audience: String,
    email: String,
    key_id: Option<String>,
    key: EncodingKey,
    /// Tells whether the file has changed since.
    content: SecretString,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("project", &self.project)
            .field("email", &self.email)
            .finish_non_exhaustive()
    }
}

impl Account {
    /// Reads the file. The error reads after the key's name and holds nothing of the file's content.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let content = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Self::parse(content).map_err(|problem| format!("{}: {problem}", path.display()))
    }

    fn parse(content: String) -> Result<Self, String> {
        // serde_json's messages quote wrong values, and a wrong value may be half a key: only the place is told.
        let file: File = serde_json::from_str(&content).map_err(|e| match missing_field(&e) {
            Some(field) => format!("expected a service account's key file, `{field}` is missing"),
            None => format!(
                "expected a service account's key file (JSON), line {} column {} is wrong",
                e.line(),
                e.column()
            ),
        })?;
        if let Some(kind) = file.kind.filter(|kind| kind != "service_account") {
            return Err(format!("expected \"type\": \"service_account\", got {kind:?}"));
        }
        let path_safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
        if file.project_id.is_empty() || !file.project_id.bytes().all(path_safe) {
            return Err("project_id: expected the name of a Firebase project".into());
        }
        let key = EncodingKey::from_rsa_pem(file.private_key.expose_secret().as_bytes())
            .map_err(|_| "private_key: expected an RSA key in PEM")?;
        let token_uri: Uri = file.token_uri.parse().map_err(|_| "token_uri: expected a URL")?;
        if !matches!(token_uri.scheme_str(), Some("https" | "http")) || token_uri.host().is_none_or(str::is_empty) {
            return Err("token_uri: expected an https or http URL".into());
        }
        let account = Self {
            project: file.project_id,
            token_uri,
            audience: file.token_uri,
            email: file.client_email,
            key_id: file.private_key_id,
            key,
            content: content.into(),
        };
        // A key that parses may still be unfit; better said at start than at the first push.
        account
            .assertion(Timestamp(0))
            .map_err(|_| "private_key: cannot sign with it, expected an RSA key of at least 2048 bits")?;
        Ok(account)
    }

    /// A signed claim to be this account, good for an hour.
    pub(crate) fn assertion(&self, now: Timestamp) -> Result<SecretString, jsonwebtoken::errors::Error> {
        let header = Header {
            kid: self.key_id.clone(),
            ..Header::new(Algorithm::RS256)
        };
        let claims = Claims {
            iss: &self.email,
            scope: SCOPE,
            aud: &self.audience,
            iat: now.as_secs(),
            exp: now.as_secs() + ASSERTION_SECS,
        };
        jsonwebtoken::encode(&header, &claims, &self.key).map(SecretString::from)
    }

    /// Do both come from the same file content?
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.content.expose_secret() == other.content.expose_secret()
    }
}

/// The field that serde missed. Field names are ours, not the file's.
fn missing_field(e: &serde_json::Error) -> Option<&'static str> {
    let text = e.to_string();
    ["project_id", "private_key", "client_email"]
        .into_iter()
        .find(|field| text.starts_with(&format!("missing field `{field}`")))
}
