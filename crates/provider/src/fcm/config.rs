//! `[fcm]`

use std::fmt::Display;

use bugle_model::{PerMinute, Period};
use http::Uri;
use serde::{Deserialize, Serialize};

use crate::Framing;
use crate::config::ConfigError;

/// FCM's default quota of a project, in messages a minute.
const QUOTA: u32 = 600_000;

/// How FCM is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The service account's JSON file. Empty = FCM is off.
    pub credentials_file: String,
    /// Where FCM is. `http://` means HTTP/2 with prior knowledge, for tests.
    pub endpoint: String,
    /// Whose HTTP/2 carries the requests.
    pub framing: Framing,
    /// Connections of the whole process; each sender thread has at least one.
    pub connections: usize,
    /// Requests open at once on one connection. FCM may allow fewer.
    pub streams: usize,
    /// Messages a minute, over all processes; 0 = no limit. `auto` = FCM's default quota at Google's own address, no limit anywhere else.
    pub messages_per_minute: PerMinute,
    /// How long it takes from a quiet time to the full rate. FCM asks for at least a minute. 0s = at once.
    pub ramp_up: Period,
    /// How long one request may take. FCM asks for at least 10 s.
    pub request_timeout: Period,
    /// How long connecting may take, from DNS to the first HTTP/2 frame.
    pub connect_timeout: Period,
    /// A PING goes out when requests are open and nothing was heard for so long.
    pub ping_after: Period,
    /// A PING goes out when no request is open and nothing was heard for so long.
    pub idle_ping_after: Period,
    /// A connection that does not answer a PING for so long is dead.
    pub ping_timeout: Period,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            credentials_file: String::new(),
            endpoint: "https://fcm.googleapis.com".into(),
            framing: Framing::Own,
            connections: 4,
            streams: 500,
            messages_per_minute: PerMinute::Auto,
            ramp_up: Period::secs(60),
            request_timeout: Period::secs(10),
            connect_timeout: Period::secs(5),
            // Together less than a request may take: the requests of a dead connection then end as lost with it, which is one
            // piece of evidence, and not as that many time-outs.
            ping_after: Period::secs(4),
            idle_ping_after: Period::secs(60),
            ping_timeout: Period::secs(4),
        }
    }
}

impl Config {
    /// Is FCM wanted at all?
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.credentials_file.is_empty()
    }

    /// Checks every value that can be checked without opening a file.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.endpoint_uri()?;
        within("fcm.connections", self.connections, 1, 1_000)?;
        within("fcm.streams", self.streams, 1, 100_000)?;
        let (least, most, day) = (Period::millis(1), Period::secs(600), Period::secs(86_400));
        within("fcm.ramp_up", self.ramp_up, Period::millis(0), Period::secs(3_600))?;
        within("fcm.request_timeout", self.request_timeout, least, most)?;
        within("fcm.connect_timeout", self.connect_timeout, least, most)?;
        within("fcm.ping_after", self.ping_after, least, day)?;
        within("fcm.idle_ping_after", self.idle_ping_after, least, day)?;
        within("fcm.ping_timeout", self.ping_timeout, least, most)
    }

    /// Messages a minute for this endpoint; 0 = no limit.
    #[must_use]
    pub fn quota(&self) -> u32 {
        let host = self.endpoint_uri().ok().and_then(|uri| uri.host().map(str::to_owned));
        let googles = host.is_some_and(|host| host == "googleapis.com" || host.ends_with(".googleapis.com"));
        self.messages_per_minute.or(if googles { QUOTA } else { 0 })
    }

    pub(crate) fn endpoint_uri(&self) -> Result<Uri, ConfigError> {
        let problem = || {
            ConfigError::new(
                "fcm.endpoint",
                "expected https://host or http://host, with or without a port",
            )
        };
        let uri: Uri = self.endpoint.parse().map_err(|_| problem())?;
        let scheme = uri.scheme_str().unwrap_or_default();
        if !matches!(scheme, "https" | "http") || uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
            return Err(problem());
        }
        Ok(uri)
    }
}

fn within<T: PartialOrd + Display + Copy>(key: &'static str, value: T, least: T, most: T) -> Result<(), ConfigError> {
    if (&least..=&most).contains(&&value) {
        return Ok(());
    }
    Err(ConfigError::new(
        key,
        format!("expected {least} to {most}, got {value}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_off() {
        let config = Config::default();
        assert_eq!(config.validate(), Ok(()));
        assert!(!config.is_on());
    }

    #[test]
    fn the_quota_is_fcm_s_at_google_s_address_and_what_is_asked_for_elsewhere() {
        let quota = |endpoint: &str, messages_per_minute| {
            let endpoint = endpoint.to_owned();
            Config {
                endpoint,
                messages_per_minute,
                ..Config::default()
            }
            .quota()
        };
        let googles = "https://fcm.googleapis.com";
        assert_eq!(quota(googles, PerMinute::Auto), 600_000);
        assert_eq!(quota(googles, PerMinute::Of(0)), 0);
        assert_eq!(quota("https://127.0.0.1:8443", PerMinute::Auto), 0);
        assert_eq!(quota("https://notgoogleapis.com", PerMinute::Auto), 0);
        assert_eq!(quota("http://127.0.0.1:8080", PerMinute::Of(1_200)), 1_200);
    }

    #[test]
    fn a_wrong_value_is_named_by_its_key() {
        let wrong = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate().unwrap_err().key
        };
        assert_eq!(wrong(|c| c.endpoint = "fcm.googleapis.com".into()), "fcm.endpoint");
        assert_eq!(
            wrong(|c| c.endpoint = "ftp://fcm.googleapis.com".into()),
            "fcm.endpoint"
        );
        assert_eq!(wrong(|c| c.endpoint = String::new()), "fcm.endpoint");
        assert_eq!(wrong(|c| c.connections = 0), "fcm.connections");
        assert_eq!(wrong(|c| c.streams = 0), "fcm.streams");
        assert_eq!(wrong(|c| c.request_timeout = Period::millis(0)), "fcm.request_timeout");
        assert_eq!(wrong(|c| c.ping_timeout = Period::millis(0)), "fcm.ping_timeout");
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let known: Result<Config, _> = serde_json::from_str(r#"{"streams": 7}"#);
        assert_eq!(known.unwrap().streams, 7);
        let unknown: Result<Config, _> = serde_json::from_str(r#"{"stream": 7}"#);
        assert!(unknown.is_err());
    }
}
