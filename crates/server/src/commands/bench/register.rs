//! How fast devices are registered, beside what the database's writer can do alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use bugle_model::{AppId, Clock, PageRef, Platform, Provider, Registration, SystemClock, Token};
use bugle_store::{DatabaseUrl, Handover, Store};

use super::audience::{self, BATCH, BATCH_CLIENTS};
use super::backends::Servers;
use super::http::Template;
use super::load::{End, Load, per_second};
use super::observed::Observer;
use super::report::{Report, ratio};
use super::world::{World, scratch};
use super::{Setup, progress};

const SCENARIO: &str = "register";
const CLIENTS: usize = 64;
/// How long each way is measured in a round.
const TURN: Duration = Duration::from_secs(3);

pub(super) async fn measure(setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    let world = World::start(setup).await?;
    let bare = Bare::open(setup).await?;
    let next = Arc::new(AtomicU64::new(0));
    let single = Template::new("/api/device_register", &audience::registration(), 1);
    let batch = audience::batch((0..BATCH).map(|_| audience::registration()));
    for round in 0..setup.rounds {
        progress(SCENARIO, round, setup);
        let alone = over_http(&world, "single, 64 clients", CLIENTS, &single, &next, report).await?;
        let tasks = bare.rate(false).await?;
        report.add(SCENARIO, "bare writer, 64 tasks", "/s", tasks);
        over_http(
            &world,
            "batches of 100, parallel, 8 clients",
            BATCH_CLIENTS,
            &batch,
            &next,
            report,
        )
        .await?;
        let threads = bare.rate(true).await?;
        report.add(SCENARIO, "bare writer, 64 threads", "/s", threads);
        report.add(SCENARIO, "single ÷ bare writer, tasks", "", ratio(alone, tasks));
        report.add(SCENARIO, "single ÷ bare writer, threads", "", ratio(alone, threads));
    }
    report.add(SCENARIO, "server's highest memory", "MiB", world.server.peak_mib()?);
    Ok(())
}

/// Registers new devices for a turn. Returns registrations a second.
async fn over_http(
    world: &World,
    name: &str,
    clients: usize,
    template: &Template,
    next: &Arc<AtomicU64>,
    report: &mut Report,
) -> anyhow::Result<f64> {
    let mut observer = Observer::of(world).await?;
    let (cpu, before) = (world.server.cpu()?, observer.counters().await?);
    let load = Load {
        addr: world.api,
        clients,
        template: template.clone(),
        wrap: u64::MAX,
        next: Arc::clone(next),
        end: End::After(TURN),
        pace: None,
    };
    let done = load.run(|_, _, _| {}).await?;
    let cpu = world.server.cpu()?.saturating_sub(cpu);
    let written = observer.counters().await?.since(&before);
    let measures = [
        ("", "/s", done.rate()),
        (", server's time each", "µs", 1e6 / per_second(done.commands, cpu)),
        (", answered, median", "ms", done.quantile_ms(0.5)),
        (", answered, 99 %", "ms", done.quantile_ms(0.99)),
        (", writes in a commit", "", ratio(written.writes, written.commits)),
        (", a commit", "ms", ratio(written.commit_seconds * 1e3, written.commits)),
        (
            ", of the time in commits",
            "%",
            written.commit_seconds / done.took.as_secs_f64() * 100.0,
        ),
    ];
    for (what, unit, value) in measures {
        report.add(SCENARIO, &format!("{name}{what}"), unit, value);
    }
    Ok(done.rate())
}

/// A store in this process, without a server around it.
struct Bare {
    store: Arc<dyn Store>,
    next: Arc<AtomicU64>,
    _servers: Servers,
    _dir: tempfile::TempDir,
}

/// Nobody listens: nothing is sent.
pub(super) struct Deaf;

impl Handover for Deaf {
    fn pages(&self, _: Vec<PageRef>) {}
    fn legs(&self) {}
}

impl Bare {
    async fn open(setup: &Setup) -> anyhow::Result<Self> {
        let dir = scratch(setup)?;
        let servers = Servers::start(setup.backends, dir.path())?;
        let mut config = setup.settings.store.clone();
        config.url = DatabaseUrl::new(servers.store_url());
        let store = bugle_store::open(&config, dir.path(), Arc::new(SystemClock), Arc::new(Deaf)).await?;
        Ok(Self {
            store,
            next: Arc::default(),
            _servers: servers,
            _dir: dir,
        })
    }

    /// Registrations a second with as many callers as there are HTTP clients, as tasks or as threads that block.
    async fn rate(&self, threads: bool) -> anyhow::Result<f64> {
        let began = Instant::now();
        let before = self.next.load(Ordering::Relaxed);
        let mut callers = Vec::with_capacity(CLIENTS);
        for _ in 0..CLIENTS {
            let caller = register_for(Arc::clone(&self.store), Arc::clone(&self.next), began);
            callers.push(if threads {
                let runtime = tokio::runtime::Handle::current();
                tokio::task::spawn_blocking(move || runtime.block_on(caller))
            } else {
                tokio::spawn(caller)
            });
        }
        for caller in callers {
            caller.await??;
        }
        let count = self.next.load(Ordering::Relaxed) - before;
        Ok(per_second(count, began.elapsed()))
    }
}

async fn register_for(store: Arc<dyn Store>, next: Arc<AtomicU64>, began: Instant) -> anyhow::Result<()> {
    let app = AppId::default_app();
    while began.elapsed() < TURN {
        let number = next.fetch_add(1, Ordering::Relaxed);
        store.register(&app, registration(number)?, SystemClock.now()).await?;
    }
    Ok(())
}

/// The same device as [`audience::registration`]'s.
pub(super) fn registration(number: u64) -> anyhow::Result<Registration> {
    let number = format!("{number:09}");
    Ok(Registration {
        id: None,
        provider: Provider::Fcm,
        platform: Platform::Android,
        platform_word: "android",
        token: Token::parse(&audience::token(&number))
            .ok()
            .context("the token is none")?,
        user: format!("user-{number}"),
        meta: BTreeMap::new(),
        timezone: None,
        locale: None,
        channels: None,
        topics: None,
    })
}
