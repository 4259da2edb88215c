//! Pushes to one device while a broadcast runs.
//!
//! A device that is urgently pushed to has a marked token: the simulator writes down when it arrives. Its clock is compared with this process's beforehand.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::audience::{self, CHANNEL};
use super::broadcast::{Meter, ask_for, check};
use super::http::{Connection, Template};
use super::load::quantile;
use super::observed::Observer;
use super::report::Report;
use super::together::{self, QUARTER};
use super::world::{Sink, World};
use super::{Setup, progress};

const SCENARIO: &str = "urgent-during-broadcast";
/// Tokens from this number on are marked by the simulator.
const FIRST: u64 = 900_000_000;
/// Devices that are pushed to one after the other, anew in each round.
const DEVICES: u64 = 10_000;
/// Urgent pushes a second, by so many clients in turn.
const PACE: u32 = 40;
const CLIENTS: u32 = 8;
/// How long pushes without a broadcast beside them are measured.
const IDLE: Duration = Duration::from_secs(3);
/// How often the broadcast is asked whether it has ended.
const ASK: Duration = Duration::from_millis(25);
/// All pushes must have arrived after so long.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn measure(setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    if setup.sink != Sink::Numbered {
        report.note("urgent-during-broadcast needs the simulator's --blind-tokens=numbers: not measured");
        return Ok(());
    }
    let world = World::start(setup).await?;
    let large = audience::register_in(&world, CHANNEL, 0, u64::from(setup.devices))
        .await?
        .commands;
    let small = audience::register_in(&world, QUARTER, large, large / 4).await?.commands;
    audience::register_in(&world, "bench-urgent", FIRST, DEVICES).await?;
    world.backends.settle()?;
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    for round in 0..setup.rounds {
        progress(SCENARIO, round, setup);
        idle.extend(alone(&world, report).await?);
        busy.extend(beside_broadcast(&world, large, report).await?);
        together::measure(SCENARIO, &world, large, small, round, report).await?;
    }
    for (what, mut all) in [("idle", idle), ("during a broadcast", busy)] {
        all.sort_unstable();
        let points = all.iter().zip(1_u32..).map(|(micros, at)| {
            let of = u32::try_from(all.len()).map_or(1.0, f64::from);
            (f64::from(*micros) / 1e3, f64::from(at) / of)
        });
        report.add_series(SCENARIO, what, ["ms", "share of the pushes"], points.collect());
        add_times(&format!("{what}, all rounds"), &all, report);
    }
    report.add(SCENARIO, "server's highest memory", "MiB", world.server.peak_mib()?);
    Ok(())
}

/// A push that was asked for: its device's number, and when.
type Asked = (u64, Instant);
/// Clients that ask.
type Asking = JoinSet<anyhow::Result<Vec<Asked>>>;

/// Times of pushes with nothing beside them, in microseconds.
async fn alone(world: &World, report: &mut Report) -> anyhow::Result<Vec<u32>> {
    world.reset_sim().await?;
    let clock = Clock::of(world).await?;
    let (stop, stopped) = watch::channel(false);
    let asking = ask(world, &stopped);
    tokio::time::sleep(IDLE).await;
    stop.send_replace(true);
    let times = clock.arrivals(world, all(asking).await?).await?;
    add_times("idle", &times, report);
    Ok(times)
}

/// Times of pushes while a broadcast runs. Those that arrive after its end count, too.
async fn beside_broadcast(world: &World, devices: u64, report: &mut Report) -> anyhow::Result<Vec<u32>> {
    world.reset_sim().await?;
    let clock = Clock::of(world).await?;
    let mut observer = Observer::of(world).await?;
    let meter = Meter::start(world)?;
    let uid = ask_for(&mut observer, CHANNEL).await?;
    let (stop, stopped) = watch::channel(false);
    let asking = ask(world, &stopped);
    let account = observer.ended(&uid, devices, ASK).await?;
    stop.send_replace(true);
    let sent = meter.stop(world, devices)?;
    let asked = all(asking).await?;
    let urgent = asked.len() as u64;
    let times = clock.arrivals(world, asked).await?;
    check(&account, devices)?;
    let stats = world.sim_stats().await?;
    ensure!(
        stats["tokens"] == devices && stats["requests"] == devices + urgent,
        "the simulator has seen {} tokens in {} requests instead of {devices} and {urgent} urgent ones",
        stats["tokens"],
        stats["requests"]
    );
    add_times("during a broadcast", &times, report);
    for (what, unit, value) in sent.named() {
        report.add(SCENARIO, &format!("the broadcast: {what}"), unit, value);
    }
    Ok(times)
}

/// Starts asking, at [`PACE`], until it is told to stop or every device has had one.
fn ask(world: &World, stopped: &watch::Receiver<bool>) -> Asking {
    let template = audience::push_to_one();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let pushes = Pushes {
            api: world.api,
            template: template.clone(),
            first: FIRST + u64::from(client),
            began: Instant::now() + Duration::from_secs(1) * client / PACE,
        };
        clients.spawn(pushes.until(stopped.clone()));
    }
    clients
}

/// Waits for the clients. Answers what they have asked for.
async fn all(mut asking: Asking) -> anyhow::Result<Vec<Asked>> {
    let mut asked = Vec::new();
    while let Some(client) = asking.join_next().await {
        asked.extend(client??);
    }
    ensure!(
        !asked.is_empty(),
        "the broadcast was over before an urgent push was asked for; take more --devices"
    );
    Ok(asked)
}

/// One client's urgent pushes.
struct Pushes {
    api: std::net::SocketAddr,
    template: Template,
    first: u64,
    began: Instant,
}

impl Pushes {
    async fn until(mut self, mut stopped: watch::Receiver<bool>) -> anyhow::Result<Vec<Asked>> {
        let mut connection = Connection::open(self.api).await?;
        let mut asked = Vec::new();
        for turn in 0.. {
            // Not in step with anything that happens every so many milliseconds.
            let jitter = Duration::from_micros((self.first + u64::from(turn)).wrapping_mul(7_919) % 9_973);
            let at = self.began + Duration::from_secs(1) * CLIENTS * turn / PACE + jitter;
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep_until(at.into()) => {}
            }
            let number = self.first + u64::from(turn * CLIENTS);
            if number >= FIRST + DEVICES {
                break;
            }
            let request = self.template.fill(number, |n| n);
            asked.push((number, Instant::now()));
            connection.ask(request).await?;
        }
        Ok(asked)
    }
}

/// The simulator's clock, read with this one's.
struct Clock {
    /// When the simulator's clock showed 0; a little late, by the time that its answer was under way.
    zero: Instant,
}

impl Clock {
    /// Compares the clocks a few times: the quickest answer is the most exact.
    async fn of(world: &World) -> anyhow::Result<Self> {
        let mut best = (Duration::MAX, Instant::now());
        let mut connection = Connection::open(world.sim_addr()).await?;
        for _ in 0..50 {
            let asked = Instant::now();
            let answer: Value = serde_json::from_slice(connection.get("/sim/marks").await?)?;
            let now = Instant::now();
            let micros = answer["clock_us"].as_u64().context("the simulator has no clock")?;
            let zero = now
                .checked_sub(Duration::from_micros(micros))
                .context("the simulator's clock is wrong")?;
            best = best.min((now - asked, zero));
        }
        Ok(Self { zero: best.1 })
    }

    /// Waits until all have arrived. From the request to the arrival, in microseconds, ascending.
    async fn arrivals(&self, world: &World, asked: Vec<Asked>) -> anyhow::Result<Vec<u32>> {
        let began = Instant::now();
        let mut connection = Connection::open(world.sim_addr()).await?;
        let marks = loop {
            let answer: Value = serde_json::from_slice(connection.get("/sim/marks").await?)?;
            let marks: Vec<(u64, u64)> = serde_json::from_value(answer["marks"].clone())?;
            if marks.len() >= asked.len() {
                break marks;
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "{} of {} urgent pushes have arrived after {PATIENCE:?}",
                marks.len(),
                asked.len()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        ensure!(marks.len() == asked.len(), "an urgent push has arrived twice");
        let mut times = Vec::with_capacity(asked.len());
        for (number, left) in asked {
            let mark = marks.iter().find(|(mark, _)| *mark == number);
            let (_, micros) = mark.with_context(|| format!("the push to device {number} has not arrived"))?;
            let took = (self.zero + Duration::from_micros(*micros)).saturating_duration_since(left);
            times.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        }
        times.sort_unstable();
        Ok(times)
    }
}

fn add_times(what: &str, ascending: &[u32], report: &mut Report) {
    for (name, share) in [("median", 0.5), ("99 %", 0.99), ("longest", 1.0)] {
        report.add(
            SCENARIO,
            &format!("{what}, {name}"),
            "ms",
            quantile(ascending, share) / 1e3,
        );
    }
    let count = u32::try_from(ascending.len()).map_or(0.0, f64::from);
    report.add(SCENARIO, &format!("{what}, pushes"), "", count);
}
