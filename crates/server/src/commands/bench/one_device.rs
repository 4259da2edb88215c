//! Pushes to one device each: how long they take to be accepted, and how many are settled.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::audience;
use super::load::{End, Load, per_second, quantile};
use super::observed::{Counters, Observer, uid_in};
use super::report::{Report, ratio};
use super::world::World;
use super::{Setup, progress};

/// Devices that take turns.
const DEVICES: u64 = 10_000;
const CLIENTS: usize = 64;
/// How long accepting is measured in a round, for each number of clients.
const TURN: Duration = Duration::from_secs(3);
/// One of so many pushes is followed until it has ended.
const FOLLOWED: u64 = 101;

/// Time until `send_push_notification` answers, for one client and for many.
pub(super) async fn accept(setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    const SCENARIO: &str = "api-accept";
    let world = World::start(setup).await?;
    audience::register(&world, DEVICES).await?;
    let mut observer = Observer::of(&world).await?;
    for round in 0..setup.rounds {
        progress(SCENARIO, round, setup);
        for (clients, name) in [(1, "1 client"), (CLIENTS, "64 clients")] {
            let cpu = world.server.cpu()?;
            let done = load(&world, clients, TURN, None).run(|_, _, _| {}).await?;
            observer.drained().await?;
            let cpu = world.server.cpu()?.saturating_sub(cpu);
            let measures = [
                ("", "/s", done.rate()),
                (", answered, median", "ms", done.quantile_ms(0.5)),
                (", answered, 99 %", "ms", done.quantile_ms(0.99)),
                (
                    ", server's time each, sent and settled",
                    "µs",
                    1e6 / per_second(done.commands, cpu),
                ),
            ];
            for (what, unit, value) in measures {
                report.add(SCENARIO, &format!("{name}{what}"), unit, value);
            }
        }
    }
    Ok(())
}

/// Accepted to settled, for a long time.
pub(super) async fn settle(setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    const SCENARIO: &str = "one-device";
    for round in 0..setup.rounds {
        progress(SCENARIO, round, setup);
        let world = World::start(setup).await?;
        audience::register(&world, DEVICES).await?;
        for (what, unit, value) in sustained(setup, &world).await? {
            report.add(SCENARIO, what, unit, value);
        }
    }
    Ok(())
}

type Named = (&'static str, &'static str, f64);

async fn sustained(setup: &Setup, world: &World) -> anyhow::Result<Vec<Named>> {
    let (cpu, sim_cpu, backends) = (world.server.cpu()?, world.sim.cpu()?, world.backends.cpu()?);
    let mut observer = Observer::of(world).await?;
    let newest = Newest::default();
    let follower = tokio::spawn(follow(Observer::of(world).await?, newest.clone()));
    let seen = newest.clone();
    let began = Instant::now();
    let running = tokio::spawn(
        load(world, CLIENTS, setup.time, setup.pace).run(move |number, left, answer| {
            if number % FOLLOWED == 0 {
                seen.put(left, answer);
            }
        }),
    );
    // The first tenth is left out: connections and caches are still cold.
    tokio::time::sleep(setup.time / 10).await;
    let first = (observer.counters().await?, began.elapsed());
    let rest = setup.time.saturating_sub(began.elapsed() + Duration::from_millis(200));
    tokio::time::sleep(rest).await;
    let last = (observer.counters().await?, began.elapsed());
    let done = running.await??;
    observer.drained().await?;
    let drained = began.elapsed();
    newest.close();
    let mut followed = follower.await??;
    followed.sort_unstable();
    let cpu = world.server.cpu()?.saturating_sub(cpu);
    let sim_cpu = world.sim.cpu()?.saturating_sub(sim_cpu);
    let backends = world.backends.cpu_each(done.commands, &backends)?;
    let all = observer.counters().await?;
    let written = last.0.since(&first.0);
    let window = last.1.saturating_sub(first.1).as_secs_f64();
    let each = |cpu: Duration| 1e6 / per_second(done.commands, cpu);
    let mut named = vec![
        ("settled", "/s", written.outcomes / window),
        ("accepted", "/s", written.accepted / window),
        ("backlog at the start", "", first.0.backlog()),
        ("backlog at the end", "", last.0.backlog()),
        ("backlog grows (1 = yes)", "", grows(&first.0, &last.0)),
        ("sent more than once", "", world.messages().await? - all.accepted),
        (
            "time to work it off",
            "ms",
            drained.saturating_sub(done.took).as_secs_f64() * 1e3,
        ),
        ("answered, median", "ms", done.quantile_ms(0.5)),
        ("answered, 99 %", "ms", done.quantile_ms(0.99)),
        ("seen as ended, median", "ms", quantile(&followed, 0.5) / 1e3),
        ("seen as ended, 99 %", "ms", quantile(&followed, 0.99) / 1e3),
        ("server's time each", "µs", each(cpu)),
        ("simulator's time each", "µs", each(sim_cpu)),
        ("writes in a commit", "", ratio(written.writes, written.commits)),
        ("a commit", "ms", ratio(written.commit_seconds * 1e3, written.commits)),
        ("of the time in commits", "%", written.commit_seconds / window * 100.0),
        ("server's highest memory", "MiB", world.server.peak_mib()?),
    ];
    named.extend(of_backends(world, backends)?);
    Ok(named)
}

fn of_backends(world: &World, times: Vec<(&'static str, f64)>) -> anyhow::Result<Vec<Named>> {
    let mut named: Vec<Named> = times.into_iter().map(|(name, micros)| (name, "µs", micros)).collect();
    if let Some(peak) = world.backends.redis_peak_mib()? {
        named.push(("Redis' highest memory", "MiB", peak));
    }
    Ok(named)
}

fn load(world: &World, clients: usize, time: Duration, pace: Option<f64>) -> Load {
    Load {
        addr: world.api,
        clients,
        template: audience::push_to_one(),
        wrap: DEVICES,
        next: Arc::new(AtomicU64::new(0)),
        end: End::After(time),
        pace,
    }
}

/// 1 if more than a hundredth of what was accepted between is left over.
fn grows(first: &Counters, last: &Counters) -> f64 {
    let more = last.backlog() - first.backlog();
    f64::from(u8::from(more > 0.01 * (last.accepted - first.accepted)))
}

/// The newest push that is worth following; older ones that nobody had time for are forgotten.
#[derive(Clone, Default)]
struct Newest(Arc<Mutex<Slot>>);

#[derive(Default)]
struct Slot {
    push: Option<(Instant, Vec<u8>)>,
    closed: bool,
}

impl Newest {
    fn put(&self, left: Instant, answer: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push = Some((left, answer.to_vec()));
    }

    fn take(&self) -> Option<(Instant, Vec<u8>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push.take()
    }

    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    }

    fn is_closed(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).closed
    }
}

/// Follows one push after the other to its end, by the API. Answers microseconds from the request on.
async fn follow(mut observer: Observer, newest: Newest) -> anyhow::Result<Vec<u32>> {
    let mut times = Vec::new();
    loop {
        if let Some((left, answer)) = newest.take() {
            observer.ended(&uid_in(&answer)?, 1, Duration::from_millis(5)).await?;
            times.push(u32::try_from(left.elapsed().as_micros()).unwrap_or(u32::MAX));
        } else if newest.is_closed() {
            return Ok(times);
        } else {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
