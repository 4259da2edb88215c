//! One broadcast, and everything that is said about it.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::audience;
use super::load::per_second;
use super::observed::Observer;
use super::report::Named;
use super::world::World;

/// How often a push is asked whether it has ended.
const ASK: Duration = Duration::from_millis(10);

/// What came of a broadcast.
pub(super) struct Broadcast {
    /// Pushes a second.
    pub(super) per_second: f64,
    /// From the request to the end of the push.
    pub(super) took: Duration,
    /// The server's processor time for one push, in microseconds.
    pub(super) micros: f64,
    /// The simulator's.
    pub(super) sim_micros: f64,
    /// The part of all processors' time that the simulator took.
    pub(super) sim_share: f64,
    /// Those of PostgreSQL and Redis.
    backends: Vec<(&'static str, f64)>,
}

impl Broadcast {
    /// To so many devices of a channel, which must be all. Fails unless the account and what the simulator has seen are exactly the audience.
    pub(super) async fn send(world: &World, channel: &str, devices: u64) -> anyhow::Result<Self> {
        world.reset_sim().await?;
        let mut observer = Observer::of(world).await?;
        let meter = Meter::start(world)?;
        let uid = ask_for(&mut observer, channel).await?;
        let account = observer.ended(&uid, devices, ASK).await?;
        let done = meter.stop(world, devices)?;
        check(&account, devices)?;
        world.check_sim(devices).await?;
        Ok(done)
    }

    /// A thousand a second.
    #[cfg(test)]
    pub(super) fn of(took: Duration, micros: f64, sim_share: f64) -> Self {
        Self {
            per_second: 1_000.0,
            took,
            micros,
            sim_micros: 0.5,
            sim_share,
            backends: Vec::new(),
        }
    }

    /// Its numbers for the report.
    pub(super) fn named(&self) -> Vec<Named> {
        let mut named: Vec<Named> = vec![
            ("pushes".to_owned(), "/s", self.per_second),
            ("server's time each".to_owned(), "µs", self.micros),
            ("simulator's time each".to_owned(), "µs", self.sim_micros),
            (
                "simulator's share of the processors".to_owned(),
                "%",
                self.sim_share * 100.0,
            ),
        ];
        let backends = self.backends.iter();
        named.extend(backends.map(|(name, micros)| ((*name).to_owned(), "µs", *micros)));
        named
    }
}

/// Clocks that were read when something began.
pub(super) struct Meter {
    began: Instant,
    server: Duration,
    sim: Duration,
    backends: Vec<(&'static str, Duration)>,
}

impl Meter {
    pub(super) fn start(world: &World) -> anyhow::Result<Self> {
        Ok(Self {
            server: world.server.cpu()?,
            sim: world.sim.cpu()?,
            backends: world.backends.cpu()?,
            began: Instant::now(),
        })
    }

    /// What it took, for so many pushes.
    pub(super) fn stop(self, world: &World, pushes: u64) -> anyhow::Result<Broadcast> {
        let took = self.began.elapsed();
        let sim = world.sim.cpu()?.saturating_sub(self.sim);
        let each = |cpu: Duration| 1e6 / per_second(pushes, cpu);
        Ok(Broadcast {
            per_second: per_second(pushes, took),
            took,
            micros: each(world.server.cpu()?.saturating_sub(self.server)),
            sim_micros: each(sim),
            sim_share: share(sim, took),
            backends: world.backends.cpu_each(pushes, &self.backends)?,
        })
    }
}

/// The part of all processors' time.
pub(super) fn share(cpu: Duration, of: Duration) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = u32::try_from(cores).map_or(1.0, f64::from);
    cpu.as_secs_f64() / (of.as_secs_f64() * cores)
}

/// Asks for a broadcast. Answers its uid.
pub(super) async fn ask_for(observer: &mut Observer, channel: &str) -> anyhow::Result<String> {
    let push = json!({
        "recipient": {"channels": [channel]},
        "notification": {"fcm": {"notification": {"title": "Hello", "body": audience::words()}}},
    });
    let sent = observer.call("send_push_notification", &push).await?;
    Ok(sent["uid"].as_str().context("the answer has no uid")?.to_owned())
}

/// All were sent, or the rate means nothing.
pub(super) fn check(account: &Value, devices: u64) -> anyhow::Result<()> {
    ensure!(
        account["sent"] == devices && account["targeted"] == devices,
        "not all {devices} pushes were sent: {account}"
    );
    Ok(())
}
