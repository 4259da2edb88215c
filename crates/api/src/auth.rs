//! Who may ask: keys, and the app that each of them stands for.

use ::http::{HeaderMap, Uri};
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use bugle_model::AppId;
use secrecy::{ExposeSecret, SecretString};
use subtle::{Choice, ConstantTimeEq};

type Hash = [u8; SHA256_OUTPUT_LEN];

/// The keys of all apps. Only their hashes are kept, and each look-up compares with all of them in constant time.
pub struct Keys(Vec<(Hash, AppId)>);

impl Keys {
    /// Keys, each with the app that it stands for.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = (SecretString, AppId)>) -> Self {
        let hashes = keys.into_iter().map(|(key, app)| (hash(key.expose_secret()), app));
        Self(hashes.collect())
    }

    /// The app whose key a request shows.
    pub(crate) fn app_of(&self, headers: &HeaderMap, uri: &Uri) -> Option<AppId> {
        self.find(&presented(headers, uri)?)
    }

    fn find(&self, key: &str) -> Option<AppId> {
        let wanted = hash(key);
        let mut found = None;
        // No early end: the time must not tell which key came close.
        for (at, (hash, _)) in self.0.iter().enumerate() {
            let same: Choice = hash.ct_eq(&wanted);
            if bool::from(same) {
                found = Some(at);
            }
        }
        found.map(|at| self.0[at].1.clone())
    }
}

fn hash(key: &str) -> Hash {
    let mut hash = [0; SHA256_OUTPUT_LEN];
    hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
    hash
}

/// The key that a request shows: the first of `X-API-Key`, `Authorization: apikey KEY` and `?api_key=KEY`.
fn presented(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let text_of = |name| {
        headers
            .get(name)
            .and_then(|value: &::http::HeaderValue| value.to_str().ok())
    };
    if let Some(key) = text_of("x-api-key") {
        return Some(key.to_owned());
    }
    let (scheme, key) = text_of("authorization")
        .and_then(|value| value.split_once(' '))
        .unwrap_or_default();
    if scheme.eq_ignore_ascii_case("apikey") {
        return Some(key.trim().to_owned());
    }
    let query = axum::extract::Query::<ApiKey>::try_from_uri(uri).ok()?;
    query.0.api_key
}

#[derive(serde::Deserialize)]
struct ApiKey {
    api_key: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let other = AppId::parse("other").unwrap();
        Keys::new([("one".into(), AppId::default_app()), ("two words%".into(), other)])
    }

    fn app_of(keys: &Keys, headers: &[(&'static str, &str)], uri: &str) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        keys.app_of(&map, &uri.parse().unwrap())
            .map(|app| app.as_str().to_owned())
    }

    #[test]
    fn a_key_may_be_shown_in_three_ways() {
        let keys = keys();
        let default = Some("default".to_owned());
        assert_eq!(app_of(&keys, &[("x-api-key", "one")], "/api"), default);
        for value in ["apikey one", "ApiKey one", "APIKEY   one "] {
            assert_eq!(app_of(&keys, &[("authorization", value)], "/api"), default, "{value}");
        }
        assert_eq!(app_of(&keys, &[], "/api?x=1&api_key=one"), default);
        assert_eq!(
            app_of(&keys, &[], "/api?api_key=two%20words%25"),
            Some("other".to_owned())
        );
        let basic = [("authorization", "Basic b25lOm9uZQ==")];
        assert_eq!(app_of(&keys, &basic, "/api?api_key=one"), default);
    }

    #[test]
    fn anything_else_is_nobody() {
        let keys = keys();
        for headers in [
            &[] as &[_],
            &[("x-api-key", "on")],
            &[("x-api-key", "")],
            &[("authorization", "one")],
            &[("authorization", "apikey")],
            &[("authorization", "bearer one")],
            &[("x-api-key", "wrong"), ("authorization", "apikey one")],
        ] {
            assert_eq!(app_of(&keys, headers, "/api"), None, "{headers:?}");
        }
        assert_eq!(app_of(&keys, &[], "/api?api_key=one&api_key=one"), None);
        assert_eq!(app_of(&keys, &[], "/api?api_key=%zz"), None);
    }
}
