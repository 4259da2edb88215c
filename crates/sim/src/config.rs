//! What a simulator is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use crate::settings::Settings;

/// Where the simulator listens and who it pretends to be. Every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address to listen on. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whether the URLs that are handed out begin with `https`. The port understands both in any case.
    pub tls: bool,
    /// The host name in those URLs; without it the address that is listened on (127.0.0.1 for `0.0.0.0`).
    pub host: Option<String>,
    /// More host names and addresses for the certificate, beside `localhost`, `127.0.0.1`, `::1` and `host`.
    pub names: Vec<String>,
    /// The Firebase project id.
    pub project: String,
    /// Keeps the keys and writes `ca.pem`, `ca-key.pem` and `service-account.json` there, so that a simulator that is
    /// started again is trusted again. Without it the keys live in memory.
    pub state_dir: Option<PathBuf>,
    /// The length of an access token in bytes; real ones have about 1000.
    pub access_token_bytes: usize,
    /// So many of the newest accepted messages are kept to be looked at.
    pub keep_messages: usize,
    /// Whether there is a blind sink too, on a port of its own: HTTP/2 that is answered unseen (see the crate).
    pub blind: bool,
    /// Where the blind sink listens; without it a free port of `listen`'s address.
    pub blind_listen: Option<SocketAddr>,
    /// The threads of the blind sink, each with connections of its own; at least 1.
    pub blind_threads: usize,
    /// Whether and how the blind sink counts distinct tokens.
    pub blind_tokens: BlindTokens,
    /// How it behaves at first.
    pub settings: Settings,
}

/// How a blind sink counts distinct tokens: what stands behind `"token":"` in every body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlindTokens {
    /// Not at all.
    Uncounted,
    /// By 64-bit hashes.
    Hashes,
    /// By the nine digits that each begins with, below 16 777 216; far cheaper. When tokens from 900000000 on arrive is told at `/sim/marks`.
    Numbers,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: false,
            host: None,
            names: Vec::new(),
            project: "bugle-sim".to_owned(),
            state_dir: None,
            access_token_bytes: 1_000,
            keep_messages: 16,
            blind: false,
            blind_listen: None,
            blind_threads: 1,
            blind_tokens: BlindTokens::Uncounted,
            settings: Settings::default(),
        }
    }
}

impl Config {
    /// `https://host:port`, for a simulator that listens on `bound`.
    pub(crate) fn url(&self, bound: SocketAddr) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        match &self.host {
            Some(host) => format!("{scheme}://{host}:{}", bound.port()),
            None if bound.ip().is_unspecified() => format!("{scheme}://127.0.0.1:{}", bound.port()),
            None => format!("{scheme}://{bound}"),
        }
    }
}
