//! When to stop, and who is still at work.
//!
//! Two tokens: `stop` = take no new work, end what is open; `abort` = drop everything. The first signal stops, the second aborts. A task that ends before it was told to
//! stops the process, which then ends with an error: half a server is worse than none.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The two tokens and the tasks.
#[derive(Clone, Default)]
pub(crate) struct Lifecycle {
    /// Take no new work.
    pub(crate) stop: CancellationToken,
    /// Drop everything.
    pub(crate) abort: CancellationToken,
    tasks: TaskTracker,
    failed: Arc<AtomicBool>,
}

impl Lifecycle {
    /// Runs a task that must not end before the stop.
    pub(crate) fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (stop, abort, failed) = (self.stop.clone(), self.abort.clone(), Arc::clone(&self.failed));
        self.tasks.spawn(async move {
            let ended = tokio::spawn(task);
            let abort_handle = ended.abort_handle();
            let outcome = tokio::select! {
                outcome = ended => outcome,
                () = abort.cancelled() => {
                    abort_handle.abort();
                    return;
                }
            };
            if outcome.is_err() || !stop.is_cancelled() {
                tracing::error!(task = name, "a task ended before it was told to; stopping");
                failed.store(true, Ordering::Release);
                stop.cancel();
            }
        });
    }

    /// Turns signals into tokens: SIGTERM or SIGINT stops, the next one aborts.
    pub(crate) fn listen(&self) -> std::io::Result<()> {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (stop, abort) = (self.stop.clone(), self.abort.clone());
        tokio::spawn(async move {
            for token in [stop, abort] {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
                tracing::info!(at_once = token.is_cancelled(), "told to stop");
                token.cancel();
            }
        });
        Ok(())
    }

    /// Waits until every task has ended, or until the abort.
    pub(crate) async fn ended(&self) -> anyhow::Result<()> {
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = self.abort.cancelled() => {}
        }
        if self.failed.load(Ordering::Acquire) {
            anyhow::bail!("a part of the server failed; see the log");
        }
        Ok(())
    }
}
