//! The handle on a running simulator.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::blind::Blind;
use crate::choice::token_hash;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::fault::Outcome;
use crate::identity::{Files, Identity};
use crate::messages::SeenMessage;
use crate::report::Report;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::stats::Stats;
use crate::tally::{TokenCounts, TokenPage};
use crate::{rates, server};

/// A running simulator. Dropping it stops it too.
pub struct Sim {
    shared: Arc<Shared>,
    addr: SocketAddr,
    url: String,
    blind: Option<(Blind, String)>,
    listening: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl Sim {
    /// Binds the port, makes or loads the keys, and serves on the present tokio runtime.
    pub async fn start(config: Config) -> Result<Self> {
        config.settings.check()?;
        let failed = |source| Error::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let url = config.url(addr);
        let (config, identity) = {
            let url = url.clone();
            // An RSA key takes long enough to hold up a runtime.
            let made = tokio::task::spawn_blocking(move || {
                let identity = Identity::load(&config, &url);
                (config, identity)
            });
            made.await.map_err(|_| Error::Stopping)?
        };
        let identity = identity?;
        let tls = Arc::clone(&identity.tls);
        let shared = Arc::new(Shared::new(&config, identity));
        let blind = if config.blind {
            let blind = Blind::start(&shared, &config, &tls).await?;
            let url = config.url(blind.addr);
            Some((blind, url))
        } else {
            None
        };
        let (stop, stopped) = oneshot::channel();
        let listen = server::listen(Arc::clone(&shared), listener, tls, stopped);
        let watch = rates::watch(Arc::clone(&shared));
        let listening = tokio::spawn(async {
            tokio::select! {
                () = listen => {}
                () = watch => {}
            }
        });
        Ok(Self {
            shared,
            addr,
            url,
            blind,
            listening,
            stop: Some(stop),
        })
    }

    /// The address that is listened on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL to send to, without a path: `https://127.0.0.1:4711`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.url
    }

    /// The address that the blind sink listens on, where there is one.
    #[must_use]
    pub fn blind_addr(&self) -> Option<SocketAddr> {
        self.blind.as_ref().map(|(blind, _)| blind.addr)
    }

    /// The URL to send to blindly, without a path; tokens are exchanged at [`Sim::endpoint`] all the same.
    #[must_use]
    pub fn blind_endpoint(&self) -> Option<&str> {
        self.blind.as_ref().map(|(_, url)| url.as_str())
    }

    /// The certificate authority to trust, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.shared.ca_pem
    }

    /// The credentials to send with: a service-account file whose `token_uri` is this simulator. Holds a private key.
    #[must_use]
    pub fn service_account_json(&self) -> String {
        self.shared.oauth.account().json()
    }

    /// Writes `ca.pem` and `service-account.json` into a directory, readable by their owner only.
    pub fn write_files(&self, dir: &Path) -> Result<Files> {
        crate::identity::write_files(dir, &self.shared.ca_pem, self.shared.oauth.account())
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The counters, the rate of the moment, and what the process has cost: what `GET /sim/stats` answers.
    #[must_use]
    pub fn report(&self) -> Report {
        self.shared.report()
    }

    /// Messages in each of the last 180 seconds at most, newest last.
    #[must_use]
    pub fn rates(&self) -> Vec<u64> {
        self.shared.rates.seconds()
    }

    /// Waits until so many messages have arrived since the start or the last reset.
    pub async fn requests_reached(&self, requests: u64) {
        self.shared.counters.reached(requests).await;
    }

    /// What became of up to `limit` tokens behind the cursor `after`, of one class or of all.
    ///
    /// `None` where the cursor is none of this simulator's.
    #[must_use]
    pub fn tokens(&self, class: Option<Outcome>, after: Option<&str>, limit: usize) -> Option<TokenPage> {
        self.shared.tally.page(class, after, limit)
    }

    /// What became of one token; `None` where it was never seen.
    #[must_use]
    pub fn token(&self, token: &str) -> Option<TokenCounts> {
        self.shared.tally.token(token, token_hash(token))
    }

    /// The newest accepted messages, newest last.
    #[must_use]
    pub fn messages(&self) -> Vec<SeenMessage> {
        self.shared.messages.list()
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings::clone(&self.shared.settings())
    }

    /// Puts these settings in force.
    pub fn set(&self, settings: Settings) -> Result<()> {
        settings.check()?;
        self.shared.change(|_| Ok(settings)).map(drop)
    }

    /// Changes some settings by a JSON merge patch, as `POST /sim/settings` does; returns the settings then in force.
    pub fn merge(&self, patch: &Value) -> Result<Settings> {
        self.shared.change(|settings| settings.merged(patch))
    }

    /// Makes every access token invalid.
    pub fn revoke(&self) {
        self.shared.oauth.revoke();
    }

    /// Forgets statistics, tokens and messages.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Closes the port and cuts every connection; done when all are gone.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            // Where nobody receives it, the task has ended already.
            let _ = stop.send(());
        }
        if let Some((blind, _)) = self.blind.take() {
            blind.stop().await;
        }
        // The task returns nothing, and a panic in it has been reported by the runtime.
        let _ = (&mut self.listening).await;
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
