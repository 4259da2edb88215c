//! Hears of references from the other processes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions};
use tokio_util::sync::CancellationToken;

use super::announcement::{self, Heard};
use super::{CHANNEL, PATIENCE, Pauses, mix};
use crate::memory::Memory;
use crate::{Error, Queue as _, metrics as names};

/// A connection that was silent for so long is asked whether it lives.
const SILENCE: Duration = Duration::from_secs(5);
/// Announcements that cannot be read ask for the ledger at most so often.
const UNREADABLE: Duration = Duration::from_secs(1);

/// Puts what it hears into the process's own queue.
pub(super) struct Listener {
    pub(super) options: PgConnectOptions,
    pub(super) instance: u64,
    pub(super) own: Arc<Memory>,
}

impl Listener {
    /// A new connection that listens.
    pub(super) async fn listen(&self) -> Result<PgListener, Error> {
        let connect = async {
            let pool = PgPoolOptions::new()
                .max_connections(1)
                .max_lifetime(None)
                .idle_timeout(None)
                .connect_with(self.options.clone())
                .await?;
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.eager_reconnect(false);
            listener.ignore_pool_close_event(true);
            listener.listen(CHANNEL).await?;
            Ok(listener)
        };
        match tokio::time::timeout(PATIENCE, connect).await {
            Ok(listener) => listener.map_err(Error::Postgres),
            Err(_) => Err(Error::Silent {
                backend: "PostgreSQL (store.url)",
                within: PATIENCE,
            }),
        }
    }

    /// Listens until the stop.
    pub(super) async fn run(self, first: PgListener, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.hear_all(first) => {}
        }
    }

    async fn hear_all(&self, first: PgListener) {
        let mut listener = first;
        loop {
            let problem = self.hear_until_lost(&mut listener).await;
            tracing::warn!(problem, "no longer told of pages by other processes; connecting again");
            drop(listener);
            listener = self.listen_again().await;
            tracing::info!("told of pages by other processes again");
            // What was announced meanwhile is only in the ledger.
            self.own.look();
        }
    }

    async fn listen_again(&self) -> PgListener {
        let mut pauses = Pauses::new();
        loop {
            metrics::counter!(names::RECONNECTS, "connection" => "listener").increment(1);
            match self.listen().await {
                Ok(listener) => return listener,
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "not yet"),
            }
            pauses.next().await;
        }
    }

    /// Returns why it ended.
    async fn hear_until_lost(&self, listener: &mut PgListener) -> String {
        let mut unreadable = None;
        loop {
            match tokio::time::timeout(SILENCE, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => self.hear(&notification, &mut unreadable),
                Ok(Ok(None)) => return "the connection was closed".to_owned(),
                Ok(Err(error)) => return error.to_string(),
                Err(_) => {
                    let question = sqlx::query("SELECT 1").execute(&mut *listener);
                    match tokio::time::timeout(PATIENCE, question).await {
                        Ok(Ok(_)) => {}
                        Ok(Err(error)) => return error.to_string(),
                        Err(_) => return "no answer in time".to_owned(),
                    }
                }
            }
        }
    }

    fn hear(&self, notification: &PgNotification, unreadable: &mut Option<Instant>) {
        match announcement::read(self.instance, notification.payload()) {
            Heard::Own => {}
            Heard::Pages { mut pages, look } => {
                metrics::counter!(names::HEARD).increment(pages.len() as u64);
                mix(&mut pages);
                self.own.offer(pages);
                if look {
                    self.own.look();
                }
            }
            Heard::Unreadable => {
                if unreadable.is_none_or(|at| at.elapsed() >= UNREADABLE) {
                    tracing::debug!("an announcement of another version: looking into the ledger");
                    *unreadable = Some(Instant::now());
                    self.own.look();
                }
            }
        }
    }
}
