//! How fast an audience is walked and read, through the store and without anything around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bugle_model::{AppId, Channel, Clock, Lane, NewPush, PageId, Provider, PushUid, Recipient, Route, SystemClock};
use bugle_store::{DatabaseUrl, Expansion, Store};
use tokio::task::JoinSet;

use super::backends::Servers;
use super::load::per_second;
use super::process::cpu_of_this;
use super::register::{Deaf, registration};
use super::report::Report;
use super::world::scratch;
use super::{Setup, progress};

const SCENARIO: &str = "audience-scan";
/// The channel of everybody.
const DENSE: &str = "dense";
/// That of one device in [`RARE`], spread over all.
const SPARSE: &str = "sparse";
const RARE: u64 = 1_000;
/// A round scans a channel with one push after the other until it has read so many tokens: a scan of a thousand is over before a clock tells much of it.
const SAMPLE: u64 = 50_000;
/// But with no more pushes than these: what they leave behind makes the next ones slower.
const PUSHES: u64 = 50;
/// Callers that fill the database.
const CALLERS: u64 = 256;
/// Devices of a walk.
const WALK: u32 = 16_000;
/// Pages that are taken at once.
const PAGES: usize = 8;

pub(super) async fn measure(setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    let dir = scratch(setup)?;
    let servers = Servers::start(setup.backends, dir.path())?;
    let mut config = setup.settings.store.clone();
    config.url = DatabaseUrl::new(servers.store_url());
    let store = bugle_store::open(&config, dir.path(), Arc::new(SystemClock), Arc::new(Deaf)).await?;
    let devices = u64::from(setup.devices);
    fill(&store, devices).await?;
    servers.settle()?;
    for round in 0..setup.rounds {
        progress(SCENARIO, round, setup);
        for (channel, audience) in [(DENSE, devices), (SPARSE, devices.div_ceil(RARE))] {
            let mut scan = Scan::default();
            for number in 0..SAMPLE.div_ceil(audience).min(PUSHES) {
                let uid = format!("{channel}-{round}-{number}");
                let tokens = scan.push(&store, &servers, channel, &uid).await?;
                ensure!(
                    tokens == audience,
                    "{tokens} tokens of {audience} were read from the channel {channel}"
                );
            }
            scan.add(&format!("channel of {audience}"), report);
        }
    }
    Ok(())
}

/// Registers everybody, for the dense channel, and every so-manieth for the sparse one, too.
async fn fill(store: &Arc<dyn Store>, devices: u64) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (store, next) = (Arc::clone(store), Arc::clone(&next));
        callers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= devices {
                    return anyhow::Ok(());
                }
                let mut device = registration(number)?;
                let mut channels = vec![channel(DENSE)?];
                if number % RARE == 0 {
                    channels.push(channel(SPARSE)?);
                }
                device.channels = Some(channels);
                store.register(&AppId::default_app(), device, SystemClock.now()).await?;
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    Ok(())
}

fn channel(name: &str) -> anyhow::Result<Channel> {
    Channel::parse(name).ok().context("the channel is none")
}

/// What scans took, and of how many.
#[derive(Default)]
struct Scan {
    tokens: u64,
    walking: Duration,
    expanding: Duration,
    taking: Duration,
    reading: Duration,
    /// This process's time while it read.
    cpu: Duration,
    /// PostgreSQL's, each, while it read for the last push.
    backends: Vec<(&'static str, f64)>,
}

impl Scan {
    /// Scans a channel by a push to it. Answers how many tokens were read.
    async fn push(
        &mut self,
        store: &Arc<dyn Store>,
        servers: &Servers,
        channel: &str,
        uid: &str,
    ) -> anyhow::Result<u64> {
        let uid = accept(store, channel, uid).await?;
        let pages = self.expand(store).await?;
        // As a sender takes them: under a lease, and with their tokens.
        let began = Instant::now();
        let mut taken = 0;
        for some in pages.chunks(PAGES) {
            let pages = store.take(some, Duration::from_hours(1)).await?;
            taken += pages.iter().map(|page| page.targets.len() as u64).sum::<u64>();
        }
        self.taking += began.elapsed();
        let read = self.read(store, servers, &pages).await?;
        ensure!(taken == read, "taken {taken} and read again {read}");
        // Its pages are in our hands, so that it never ends; but they are not met again.
        store.cancel(&AppId::default_app(), &uid, SystemClock.now()).await?;
        Ok(read)
    }

    async fn read(&mut self, store: &Arc<dyn Store>, servers: &Servers, pages: &[PageId]) -> anyhow::Result<u64> {
        let (before, backends, began) = (cpu_of_this()?, servers.cpu()?, Instant::now());
        let mut tokens = 0;
        for page in pages {
            tokens += store.reread(*page, 0).await?.len() as u64;
        }
        self.reading += began.elapsed();
        self.cpu += cpu_of_this()?.saturating_sub(before);
        self.backends = servers.cpu_each(tokens, &backends)?;
        self.tokens += tokens;
        Ok(tokens)
    }

    /// Walks and expands what is open. Answers its pages.
    async fn expand(&mut self, store: &Arc<dyn Store>) -> anyhow::Result<Vec<PageId>> {
        loop {
            let legs = store.open_legs(SystemClock.now(), 100).await?;
            if legs.is_empty() {
                let due = store.due_pages(Lane::Bulk, SystemClock.now(), 1_000_000).await?;
                return Ok(due.into_iter().map(|page| page.id).collect());
            }
            let routes: Vec<(Route, u32)> = legs.iter().map(|leg| (leg.route, WALK)).collect();
            let began = Instant::now();
            let walks = store.walk(legs[0].push, &routes).await?;
            ensure!(walks.len() == legs.len(), "a leg has closed by itself");
            self.walking += began.elapsed();
            let began = Instant::now();
            let done = store.expand(walks, SystemClock.now()).await?;
            ensure!(
                done.iter().all(|done| *done == Expansion::Done),
                "somebody else expands this push"
            );
            self.expanding += began.elapsed();
        }
    }

    fn add(&self, name: &str, report: &mut Report) {
        let each = |time: Duration| 1e6 / per_second(self.tokens, time);
        let mut add = |what: &str, unit: &str, value: f64| {
            report.add(SCENARIO, &format!("{name}: {what}"), unit, value);
        };
        add(
            "walked and read",
            "tokens/s",
            per_second(self.tokens, self.walking + self.reading),
        );
        add("walking, each", "µs", each(self.walking));
        add("reading, each", "µs", each(self.reading));
        add("writing its pages down, each", "µs", each(self.expanding));
        add("taking and reading them, each", "µs", each(self.taking));
        // The kernel counts in hundredths of a second.
        if self.reading >= Duration::from_millis(100) {
            add("processor time of reading, each", "µs", each(self.cpu));
            for (what, micros) in &self.backends {
                add(&format!("{what}, reading"), "µs", *micros);
            }
        }
    }
}

async fn accept(store: &Arc<dyn Store>, name: &str, uid: &str) -> anyhow::Result<PushUid> {
    let now = SystemClock.now();
    let uid = PushUid::parse(uid.to_owned()).ok().context("the uid is none")?;
    let push = NewPush {
        app: AppId::default_app(),
        uid: uid.clone(),
        hash: [0; 32],
        recipient: Recipient::Channels(vec![channel(name)?]),
        body: b"{}".to_vec(),
        providers: vec![Provider::Fcm],
        lane: Lane::Bulk,
        created_at: now,
        due: now,
        expires_at: now.plus(Duration::from_hours(24)),
    };
    store.accept(push).await?;
    Ok(uid)
}
