//! From the configuration to running parts, as the process's roles ask for them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bugle_fanout::expand::Expander;
use bugle_fanout::inactive::Cleaner;
use bugle_fanout::refill::Refiller;
use bugle_fanout::sweep::Sweeper;
use bugle_model::{AppId, Clock, PageRef, Period, Provider as ProviderName, SystemClock};
use bugle_provider::Provider;
use bugle_provider::dry_run::DryRun;
use bugle_provider::fcm::Fcm;
use bugle_queue::Queue;
use bugle_sender::{Paces, Providers, Senders};
use bugle_service::Service;
use bugle_store::{Handover, Pace, Store};
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backends::{self, QueueKind};
use crate::config::Settings;
use crate::lifecycle::Lifecycle;
use crate::roles::Role;
use crate::{key, listen, telemetry};

/// Giving references back at the end may take so long.
const CLOSING: Duration = Duration::from_secs(3);

/// What a started server tells.
pub(crate) struct Started {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    /// The API key that was made just now, if one was.
    pub(crate) new_key: Option<SecretString>,
    senders: Vec<std::thread::JoinHandle<()>>,
    store: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
}

/// Tells the queue and the fan-out of work that has become durable.
struct Bell {
    queue: Arc<dyn Queue>,
    legs: Arc<Notify>,
    /// `None` = this process does not send.
    lease: Option<Duration>,
    stop: CancellationToken,
}

impl Handover for Bell {
    fn pages(&self, pages: Vec<PageRef>) {
        self.queue.offer(pages);
    }

    fn kept(&self, pages: Vec<PageRef>) {
        self.queue.keep(pages);
    }

    fn lease(&self) -> Option<Duration> {
        self.lease.filter(|_| !self.stop.is_cancelled())
    }

    fn legs(&self) {
        self.legs.notify_one();
    }
}

/// Starts everything. It runs until the lifecycle's stop. With `dry_run` nothing is sent, and accepted after that time.
pub(crate) async fn start(
    settings: &Settings,
    life: &Lifecycle,
    metrics: PrometheusHandle,
    dry_run: Option<Period>,
) -> anyhow::Result<Started> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    if let Some(problem) = settings.missing_keys() {
        anyhow::bail!("{problem}");
    }
    let providers = providers(settings, &clock, dry_run)?;
    let (store, queue, legs) = open(settings, &clock, &life.stop).await?;
    let (keys, new_key) = keys(settings)?;
    let listener = TcpListener::bind(settings.http.listen)
        .await
        .with_context(|| format!("http.listen: cannot listen on {}", settings.http.listen))?;
    let addr = listener.local_addr().context("http.listen: no address")?;

    life.spawn("metrics", telemetry::upkeep(metrics.clone(), life.stop.clone()));
    if settings.roles.has(Role::Fanout) {
        fan_out(settings, life, &clock, &store, legs);
    }
    if QueueKind::of(settings).is_ok_and(|kind| kind.is_refilled_by(settings.roles)) {
        let refiller = Refiller {
            store: Arc::clone(&store),
            queue: Arc::clone(&queue),
            clock: Arc::clone(&clock),
            every: settings.fanout.refill.get(),
        };
        life.spawn("refill", refiller.run(life.stop.clone()));
    }
    let senders = senders(
        settings,
        life,
        &clock,
        &store,
        &queue,
        &providers,
        paces(settings, dry_run),
    )?;
    let service = Service::new(
        Arc::clone(&store),
        clock,
        settings.push.clone(),
        settings.limits.clone(),
        providers.keys().cloned(),
    );
    let service = if settings.store.registry {
        service
    } else {
        service.without_registry()
    };
    serve_api(settings, life, Arc::new(service), keys, metrics, listener);
    Ok(Started {
        addr,
        new_key,
        senders,
        store,
        queue,
    })
}

/// Opens queue and store, the store telling the queue of its pages.
async fn open(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) -> anyhow::Result<(Arc<dyn Store>, Arc<dyn Queue>, Arc<Notify>)> {
    let queue = backends::queue(settings, clock).await?;
    let legs = Arc::new(Notify::new());
    let bell = Arc::new(Bell {
        queue: Arc::clone(&queue),
        legs: Arc::clone(&legs),
        lease: settings.roles.has(Role::Sender).then(|| settings.sender.lease.get()),
        stop: stop.clone(),
    });
    let store = backends::store(settings, clock, bell).await?;
    Ok((store, queue, legs))
}

/// Starts the sender threads, where this process sends.
fn senders(
    settings: &Settings,
    life: &Lifecycle,
    clock: &Arc<dyn Clock>,
    store: &Arc<dyn Store>,
    queue: &Arc<dyn Queue>,
    providers: &Providers,
    paces: Paces,
) -> anyhow::Result<Vec<std::thread::JoinHandle<()>>> {
    if !settings.roles.has(Role::Sender) {
        return Ok(Vec::new());
    }
    let senders = Senders {
        store: Arc::clone(store),
        queue: Arc::clone(queue),
        clock: Arc::clone(clock),
        config: settings.sender.clone(),
        providers: Arc::clone(providers),
        paces,
        longest_request: settings.fcm.request_timeout.get(),
    };
    senders
        .start(&life.stop, &life.abort)
        .context("cannot start the sender threads")
}

/// How fast each app may send to each provider. What is not sent needs no limit.
fn paces(settings: &Settings, dry_run: Option<Period>) -> Paces {
    if dry_run.is_some() {
        return Paces::new();
    }
    let fcm = Pace::per_minute(u64::from(settings.fcm.quota()), settings.fcm.ramp_up.get());
    Paces::from([((AppId::default_app(), ProviderName::Fcm), fcm)])
}

impl Started {
    /// Waits until everything has ended, after a stop.
    pub(crate) async fn ended(self, life: &Lifecycle) -> anyhow::Result<()> {
        let senders = tokio::task::spawn_blocking(move || self.senders.into_iter().all(|thread| thread.join().is_ok()));
        let senders = tokio::select! {
            ended = senders => ended.unwrap_or(false),
            () = life.abort.cancelled() => true,
        };
        life.ended().await?;
        // What nobody here works on goes to the other processes, unless a server does not answer: then they find it in the ledger.
        let closing = async {
            if let Err(error) = self.store.close().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "pages that were leased here wait for the end of their leases: the store failed"
                );
            }
            self.queue.close().await;
        };
        tokio::select! {
            _ = tokio::time::timeout(CLOSING, closing) => {}
            () = life.abort.cancelled() => {}
        }
        if !senders {
            anyhow::bail!("a sender thread failed; see the log");
        }
        Ok(())
    }
}

fn providers(settings: &Settings, clock: &Arc<dyn Clock>, dry_run: Option<Period>) -> anyhow::Result<Providers> {
    let mut providers: HashMap<(AppId, ProviderName), Arc<dyn Provider>> = HashMap::new();
    if let Some(latency) = dry_run {
        let open = settings.fcm.connections * settings.fcm.streams;
        let instead = DryRun::new(ProviderName::Fcm, latency.get(), open);
        providers.insert((AppId::default_app(), ProviderName::Fcm), instead);
    } else if settings.fcm.is_on() {
        let fcm = Fcm::open(&settings.fcm, &settings.tls, Arc::clone(clock))?;
        providers.insert((AppId::default_app(), ProviderName::Fcm), fcm);
    }
    Ok(Arc::new(providers))
}

fn keys(settings: &Settings) -> anyhow::Result<(bugle_api::Keys, Option<SecretString>)> {
    let app = AppId::default_app();
    let made = if settings.api.insecure || !settings.api.keys.is_empty() || settings.store.url.is_postgres() {
        None
    } else {
        Some(key::load_or_make(&settings.data.dir)?)
    };
    let all = settings.api.keys.iter().chain(made.as_ref().map(|key| &key.secret));
    let keys = bugle_api::Keys::new(all.map(|key| (key.clone(), app.clone())));
    Ok((keys, made.filter(|key| key.new).map(|key| key.secret)))
}

fn fan_out(settings: &Settings, life: &Lifecycle, clock: &Arc<dyn Clock>, store: &Arc<dyn Store>, legs: Arc<Notify>) {
    let expander = Expander {
        store: Arc::clone(store),
        clock: Arc::clone(clock),
        config: settings.fanout.clone(),
        wake: legs,
    };
    let sweeper = Sweeper {
        store: Arc::clone(store),
        clock: Arc::clone(clock),
        config: settings.fanout.clone(),
        history: settings.history.clone(),
    };
    let cleaner = Cleaner {
        store: Arc::clone(store),
        clock: Arc::clone(clock),
        config: settings.devices.clone(),
    };
    if settings.store.registry {
        life.spawn("inactive", cleaner.run(life.stop.clone()));
    }
    life.spawn("expand", expander.run(life.stop.clone()));
    life.spawn("sweep", sweeper.run(life.stop.clone()));
}

/// Serves the API, or what a process without the API still tells; requests that were read are finished after the stop.
fn serve_api(
    settings: &Settings,
    life: &Lifecycle,
    service: Arc<Service>,
    keys: bugle_api::Keys,
    metrics: PrometheusHandle,
    listener: TcpListener,
) {
    let requests = TaskTracker::new();
    let metrics: bugle_api::MetricsText = Arc::new(move || metrics.render());
    let config = settings.api.clone();
    let router = if settings.roles.has(Role::Api) {
        bugle_api::router(service, keys, config, requests.clone(), metrics)
    } else {
        bugle_api::router_without_api(service, keys, config, metrics)
    };
    let (http, stop) = (settings.http.clone(), life.stop.clone());
    life.spawn("api", async move {
        listen::serve(listener, router, &http, stop).await;
        requests.close();
        requests.wait().await;
    });
}
