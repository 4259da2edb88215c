//! How fast an app may send to a provider: permits, and throttles that all processes obey.
//!
//! The quota itself is the store's ([`bugle_store::Ledger::draw`]): all processes draw from one row. Here a draw becomes a message's permission without a lock or a
//! call per message:
//!
//! - the **keeper**, a task of the process for each app and provider, draws ahead of need, waits until its permits may be used, and lets them lapse in time;
//! - the **budget** holds what the process has: a few atomic counters;
//! - **permits** are a thread's handful from it: a cell that is counted down.
//!
//! When permits are short, urgent messages go first: bulk leaves a reserve in the budget, which also lets the first push after a quiet time leave without a draw. And bulk keeps
//! a fifth: what was drawn while bulk messages were refused is theirs to that part.
//!
//! A crash loses what a process has drawn: at most a tenth of a second of the rate, and the reserve.

mod budget;
mod keeper;
mod permits;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bugle_model::{AppId, Provider};
use bugle_store::{Pace, Store, Throttle};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::budget::Budget;
pub(crate) use self::permits::Permits;

/// The pace of each app's provider. One that is not named has no limit.
pub type Paces = HashMap<(AppId, Provider), Pace>;

/// What all threads of a process share.
pub(crate) struct Limits {
    quotas: HashMap<(AppId, Provider), Arc<Quota>>,
}

/// One app's quota with one provider, as this process sees it.
pub(crate) struct Quota {
    app: AppId,
    provider: Provider,
    pace: Pace,
    budget: Budget,
    /// What the provider said and nobody else knows yet.
    told: Mutex<Option<Throttle>>,
    /// Something is to be drawn or told.
    wanted: Notify,
}

impl Limits {
    /// For these providers of these apps, and so many threads.
    pub(crate) fn new<'a>(
        providers: impl IntoIterator<Item = &'a (AppId, Provider)>,
        paces: &Paces,
        threads: usize,
    ) -> Arc<Self> {
        let quotas = providers.into_iter().map(|key| {
            let quota = Quota {
                app: key.0.clone(),
                provider: key.1,
                pace: paces.get(key).copied().unwrap_or(Pace::UNLIMITED),
                budget: Budget::new(threads),
                told: Mutex::default(),
                wanted: Notify::new(),
            };
            (key.clone(), Arc::new(quota))
        });
        Arc::new(Self {
            quotas: quotas.collect(),
        })
    }

    /// A thread's handful for messages of this app to this provider. `None` = there is no limit.
    pub(crate) fn permits(&self, app: &AppId, provider: Provider) -> Option<Permits> {
        let quota = self.quotas.get(&(app.clone(), provider))?;
        quota.pace.is_limited().then(|| Permits::new(Arc::clone(quota)))
    }

    /// The provider asked the whole app to wait: tells the other processes. `after` = for so long, if it said so.
    pub(crate) fn throttled(&self, app: &AppId, provider: Provider, after: Option<Duration>) {
        if let Some(quota) = self.quotas.get(&(app.clone(), provider)) {
            quota.tell(Throttle { after });
        }
    }

    /// Starts the keepers, on the thread's `LocalSet` that it is called in; they run until the stop. `obey` is told how long nobody may send, whoever heard of it.
    pub(crate) fn keep(
        &self,
        store: &Arc<dyn Store>,
        stop: &CancellationToken,
        obey: impl Fn(&AppId, Provider, Duration) + Clone + 'static,
    ) {
        for quota in self.quotas.values() {
            let (store, quota, obey) = (Arc::clone(store), Arc::clone(quota), obey.clone());
            let key = Arc::clone(&quota);
            let draw = move |draw| {
                let (store, key) = (Arc::clone(&store), Arc::clone(&key));
                async move { store.draw(&key.app, key.provider, draw).await }
            };
            tokio::task::spawn_local(keeper::run(quota, draw, obey, stop.clone()));
        }
    }
}

impl Quota {
    fn tell(&self, throttle: Throttle) {
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            let after = told.and_then(|before| before.after).max(throttle.after);
            *told = Some(Throttle { after });
        }
        self.wanted.notify_one();
    }

    fn take_told(&self) -> Option<Throttle> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests;
