//! Tells the other processes of references.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bugle_model::PageRef;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{CHANNEL, PATIENCE, Pauses, announcement};
use crate::{Error, metrics as names};

/// What collects within this time leaves together.
const COALESCE: Duration = Duration::from_millis(5);
/// References that wait to be announced at most.
const BUFFER: usize = 20_000;

/// Collects references and notifies.
pub(super) struct Announcer {
    instance: u64,
    buffer: Mutex<Buffer>,
    filled: Notify,
    emptied: Notify,
}

#[derive(Default)]
struct Buffer {
    pages: Vec<PageRef>,
    /// References were dropped: the others must look into the ledger.
    lost: bool,
    /// A batch is on its way.
    busy: bool,
}

impl Buffer {
    fn is_empty(&self) -> bool {
        self.pages.is_empty() && !self.lost
    }
}

/// A new connection.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Error> {
    match tokio::time::timeout(PATIENCE, options.connect()).await {
        Ok(connection) => connection.map_err(Error::Postgres),
        Err(_) => Err(Error::Silent {
            backend: "PostgreSQL (store.url)",
            within: PATIENCE,
        }),
    }
}

impl Announcer {
    pub(super) fn new(instance: u64) -> Self {
        Self {
            instance,
            buffer: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
        }
    }

    /// Leaves references to be announced soon; beyond the bound they become "look into the ledger".
    pub(super) fn announce(&self, pages: Vec<PageRef>) {
        if pages.is_empty() {
            return;
        }
        {
            let mut buffer = self.buffer();
            let room = BUFFER - buffer.pages.len();
            buffer.lost |= pages.len() > room;
            buffer.pages.extend(pages.into_iter().take(room));
        }
        self.filled.notify_one();
    }

    /// Waits until all has been announced.
    pub(super) async fn flushed(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            {
                let buffer = self.buffer();
                if buffer.is_empty() && !buffer.busy {
                    return;
                }
            }
            emptied.await;
        }
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        // What a panic could leave behind are hints.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces until the stop.
    pub(super) async fn run(self: Arc<Self>, options: PgConnectOptions, first: PgConnection, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.announce_all(options, first) => {}
        }
    }

    async fn announce_all(&self, options: PgConnectOptions, first: PgConnection) {
        let mut connection = Some(first);
        loop {
            self.filled.notified().await;
            let (pages, lost) = {
                let mut buffer = self.buffer();
                buffer.busy = true;
                (std::mem::take(&mut buffer.pages), std::mem::take(&mut buffer.lost))
            };
            let batch = announcement::write(self.instance, &pages, lost);
            if !batch.is_empty() {
                connection = self.send(&options, connection, &batch).await;
                metrics::counter!(names::ANNOUNCED).increment(pages.len() as u64);
            }
            self.buffer().busy = false;
            self.emptied.notify_waiters();
            tokio::time::sleep(COALESCE).await;
        }
    }

    /// One try. What fails is not repeated, for it gets old: the others look into the ledger instead.
    async fn send(
        &self,
        options: &PgConnectOptions,
        connection: Option<PgConnection>,
        batch: &[String],
    ) -> Option<PgConnection> {
        let mut connection = match connection {
            Some(connection) => connection,
            None => self.reconnect(options).await,
        };
        let notify = sqlx::query("SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload")
            .bind(CHANNEL)
            .bind(batch)
            .execute(&mut connection);
        let problem = match tokio::time::timeout(PATIENCE, notify).await {
            Ok(Ok(_)) => return Some(connection),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!(
            problem,
            "cannot tell the other processes of pages; they will look into the ledger"
        );
        // Without words: who is silent would not answer a farewell either.
        let _ = tokio::time::timeout(Duration::ZERO, connection.close_hard()).await;
        self.buffer().lost = true;
        self.filled.notify_one();
        None
    }

    async fn reconnect(&self, options: &PgConnectOptions) -> PgConnection {
        let mut pauses = Pauses::new();
        loop {
            metrics::counter!(names::RECONNECTS, "connection" => "announcer").increment(1);
            match connect(options).await {
                Ok(connection) => return connection,
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "not yet"),
            }
            pauses.next().await;
        }
    }
}
