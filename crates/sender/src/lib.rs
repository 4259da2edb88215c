//! Takes pages, delivers their targets, reports what became of them.
//!
//! Each sender is a thread with a current-thread runtime, its own connections and its own pages; it meets the others in the queue, in the ledger and in `routes` (holds,
//! throttles). Inside a thread every page in work is a task (`work`) that starts its targets one by one as streams become free; those on their way are entries
//! in a slab (`delivery`), so that one silent token holds up nobody. What becomes of them is collected per page (`page`) and written down in batches (`report`), those of all
//! threads together (`desk`).
//!
//! Invariants:
//!
//! - requests open + answers not written down ≤ what the peers' stream limits allow + `sender.max_unsettled` (`gate`);
//! - no request starts that could outlive its page's lease;
//! - a target that was read more than two seconds ago is read again before it leaves;
//! - nothing is started on a route that is on hold, but its probe (`holds`).

mod backoff;
mod bodies;
mod concurrency;
mod config;
mod delivery;
mod desk;
mod evidence;
mod gate;
mod holds;
mod lanes;
mod limits;
mod metrics;
mod page;
mod report;
mod routes;
mod taking;
mod tally;
mod thread;
mod verdict;
mod work;

pub use config::Config;
pub use limits::Paces;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bugle_model::{AppId, Clock, Lane, Provider as ProviderName, Route};
use bugle_provider::Provider;
use bugle_queue::Queue;
use bugle_store::Store;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use crate::limits::Limits;
use crate::routes::Routes;
use crate::thread::{Parts, Thread};

/// The providers of each app.
pub type Providers = Arc<HashMap<(AppId, ProviderName), Arc<dyn Provider>>>;

/// What the senders need.
pub struct Senders {
    /// The registry and the ledger.
    pub store: Arc<dyn Store>,
    /// Where pages come from.
    pub queue: Arc<dyn Queue>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// The section `[sender]`.
    pub config: Config,
    /// Who delivers.
    pub providers: Providers,
    /// How fast each app may send to each provider.
    pub paces: Paces,
    /// The longest that a request of any provider may take.
    pub longest_request: Duration,
}

impl Senders {
    /// Starts the threads. They run until `stop` is cancelled, and then until nothing is open, at most for the grace period; `abort` ends that at once.
    ///
    /// Returns a handle per thread. Errors are the operating system's.
    pub fn start(
        self,
        stop: &CancellationToken,
        abort: &CancellationToken,
    ) -> std::io::Result<Vec<std::thread::JoinHandle<()>>> {
        let routes = Arc::new(Routes::new(Arc::clone(&self.clock)));
        let limits = Limits::new(self.providers.keys(), &self.paces, self.config.thread_count());
        desk::seats(&self.store, self.config.thread_count())
            .into_iter()
            .enumerate()
            .map(|(number, seat)| {
                let parts = Parts {
                    store: Arc::clone(&self.store),
                    queue: Arc::clone(&self.queue),
                    clock: Arc::clone(&self.clock),
                    config: self.config.clone(),
                    routes: Arc::clone(&routes),
                    limits: Arc::clone(&limits),
                    seat,
                    providers: Arc::clone(&self.providers),
                    longest_request: self.longest_request,
                    stop: stop.clone(),
                    abort: abort.child_token(),
                };
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                std::thread::Builder::new()
                    .name(format!("sender-{number}"))
                    .spawn(move || LocalSet::new().block_on(&runtime, run(parts, number == 0)))
            })
            .collect()
    }
}

/// One thread's life.
async fn run(parts: Parts, keeper: bool) {
    let thread = Thread::new(parts);
    while let Err(error) = holds::refresh(&thread).await {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "cannot read the holds, and do not send without them: the store failed"
        );
        tokio::select! {
            () = thread.stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
    if keeper {
        tokio::task::spawn_local(holds::keep(std::rc::Rc::clone(&thread)));
        let routes = Arc::clone(&thread.routes);
        thread
            .limits
            .keep(&thread.store, &thread.stop, move |app, provider, wait| {
                let of_all = Route {
                    provider: Some(provider),
                    platform: None,
                };
                routes.get(app, of_all).throttle(wait);
            });
    }
    tokio::task::spawn_local(report::prolong(std::rc::Rc::clone(&thread)));
    let taking =
        [Lane::Urgent, Lane::Bulk].map(|lane| tokio::task::spawn_local(std::rc::Rc::clone(&thread).take_pages(lane)));
    let grace = thread.config.grace.get();
    let (stop, abort) = (thread.stop.clone(), thread.abort.clone());
    tokio::task::spawn_local(async move {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
        abort.cancel();
    });
    report::run(std::rc::Rc::clone(&thread)).await;
    for task in taking {
        task.abort();
    }
    thread.close();
}
