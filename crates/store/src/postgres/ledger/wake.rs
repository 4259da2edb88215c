//! Legs wake other processes.
//!
//! After a commit that left legs to be expanded, the other processes on the database hear of it by a notification. `NOTIFY` takes a lock of the whole database until
//! its transaction has ended, so it is never part of one that writes data: a task of its own sends it, at most once every 20 ms, whatever was announced meanwhile.
//! Another task listens, on a connection of its own, and connects again when that is lost; as it may have missed something then, it wakes the legs once.
//!
//! Notifications are hints: whoever expands looks at the ledger from time to time, too.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::postgres::pool::Pool;
use crate::postgres::shared::random;
use crate::{Error, Handover, Result};

const CHANNEL: &str = "bugle_legs";

/// One notification in this time at most.
const COALESCE: Duration = Duration::from_millis(20);

/// So long after nothing was heard the connection is tried: it may be dead without a word.
const SILENCE: Duration = Duration::from_secs(15);

/// A connection that takes longer is dead.
const ANSWER: Duration = Duration::from_secs(5);

/// A listener that could not connect waits so long before it tries again.
const PAUSE: Duration = Duration::from_millis(500);

/// Tells other processes of legs, and hears of theirs, until it is dropped.
pub(in crate::postgres) struct LegBell {
    rung: mpsc::Sender<()>,
    listener: AbortHandle,
}

impl LegBell {
    /// Starts both tasks. What others announce from now on is heard.
    pub(in crate::postgres) async fn start(pool: &Arc<Pool>, handover: Arc<dyn Handover>) -> Result<Self> {
        // What this store signs its notifications with, so as not to hear itself.
        let me = format!("{:016x}", random()?);
        let (rung, heard) = mpsc::channel(1);
        tokio::spawn(announce(Arc::clone(pool), heard, me.clone()));
        let options = pool.connect_options();
        let listener = listen(&options).await?;
        let listener = tokio::spawn(hear(options, listener, handover, me)).abort_handle();
        Ok(Self { rung, listener })
    }

    /// There may be legs to expand, for everybody. Does not wait.
    pub(in crate::postgres) fn ring(&self) {
        // Full: it will be announced already.
        let _ = self.rung.try_send(());
    }
}

impl Drop for LegBell {
    fn drop(&mut self) {
        // The other task ends when it has announced what was rung.
        self.listener.abort();
    }
}

async fn announce(pool: Arc<Pool>, mut rung: mpsc::Receiver<()>, me: String) {
    while rung.recv().await.is_some() {
        match timeout(ANSWER, notify(&pool, &me)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "other processes were not told of legs"),
            Err(_) => tracing::debug!("other processes were not told of legs: no answer"),
        }
        sleep(COALESCE).await;
    }
}

async fn notify(pool: &Arc<Pool>, me: &str) -> Result<()> {
    let mut conn = pool.lend().await?;
    // Nothing that a crash could lose: the lock is not held until the disk has written.
    sqlx::query("SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(me)
        .execute(conn.get())
        .await?;
    conn.is_in_order(true);
    Ok(())
}

async fn listen(options: &PgConnectOptions) -> Result<PgListener> {
    // A pool for each listener: one that has died may keep its connection for long.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(options.clone());
    let connected = async {
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    };
    let late = || Error::Unavailable(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
    timeout(ANSWER, connected).await.unwrap_or_else(|_| Err(late()))
}

async fn hear(options: Arc<PgConnectOptions>, mut listener: PgListener, handover: Arc<dyn Handover>, me: String) {
    loop {
        while let Some(from) = next(&mut listener).await {
            if from != me {
                handover.legs();
            }
        }
        listener = reconnect(&options).await;
        handover.legs();
    }
}

/// Who rang next; `None` = the connection is lost.
async fn next(listener: &mut PgListener) -> Option<String> {
    loop {
        match timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => return Some(notification.payload().to_owned()),
            Ok(Ok(None) | Err(_)) => return None,
            Err(_) => {
                let ping = sqlx::query("SELECT 1").execute(&mut *listener);
                if !matches!(timeout(ANSWER, ping).await, Ok(Ok(_))) {
                    return None;
                }
            }
        }
    }
}

async fn reconnect(options: &PgConnectOptions) -> PgListener {
    loop {
        match listen(options).await {
            Ok(listener) => return listener,
            Err(error) => tracing::debug!(%error, "not listening for legs"),
        }
        sleep(PAUSE).await;
    }
}
