//! Ends what nobody sends, and forgets what was kept long enough.

use std::sync::Arc;
use std::time::Duration;

use bugle_model::Clock;
use bugle_store::{Result, Store};
use tokio_util::sync::CancellationToken;

use crate::{Config, HistoryConfig, metrics as names};

/// Old rows are looked for so often.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// The loop that sweeps the ledger. It needs no sender: a push ends even where nothing can be sent.
pub struct Sweeper {
    /// The ledger.
    pub store: Arc<dyn Store>,
    /// What is over.
    pub clock: Arc<dyn Clock>,
    /// How often.
    pub config: Config,
    /// What is kept.
    pub history: HistoryConfig,
}

impl Sweeper {
    /// Runs until it is stopped.
    pub async fn run(self, stop: CancellationToken) {
        let every = self.config.sweep.get();
        let mut since_forget = FORGET_EVERY;
        loop {
            let swept = async {
                self.sweep().await?;
                if since_forget >= FORGET_EVERY {
                    self.forget().await?;
                    since_forget = Duration::ZERO;
                }
                Result::Ok(())
            };
            if let Err(error) = swept.await {
                metrics::counter!(names::FAILED_ROUNDS, "loop" => "sweep").increment(1);
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot end expired pushes: the store failed"
                );
            }
            since_forget += every;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    /// Ends everything that is over, in bounded steps.
    pub async fn sweep(&self) -> Result<()> {
        loop {
            let swept = self.store.sweep(self.clock.now()).await?;
            metrics::counter!(names::SWEPT_PAGES).increment(swept.pages);
            if !swept.more {
                return Ok(());
            }
        }
    }

    /// Forgets old accounts and devices that are gone for long, in bounded steps.
    pub async fn forget(&self) -> Result<()> {
        let now = self.clock.now();
        while self
            .store
            .forget(now.minus(self.history.keep.get()), now.minus(self.history.gone.get()))
            .await?
            > 0
        {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}
