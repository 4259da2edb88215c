//! A broadcast, beside h2load against the same simulator.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::audience::{self, CHANNEL};
use super::h2load::{H2load, Rate};
use super::load::per_second;
use super::observed::Observer;
use super::report::{Report, ratio};
use super::world::World;
use super::{Setup, progress};

const SCENARIO: &str = "send-channel";
/// How often the push is asked whether it has ended.
const ASK: Duration = Duration::from_millis(10);
/// Rounds in which h2load before and after differ more are named.
const STEADY: f64 = 0.15;

pub(super) async fn measure(setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    let world = World::start(setup).await?;
    let registered = audience::register(&world, u64::from(setup.devices)).await?;
    let devices = registered.commands;
    report.add(SCENARIO, "audience registered, batches of 100", "/s", registered.rate());
    let h2load = H2load::find(setup, &world).await?;
    if h2load.is_none() {
        report.note("h2load is not installed, so there is nothing to compare send-channel with (Debian and Ubuntu: apt install nghttp2-client)");
    }
    let mut before = compare(h2load.as_ref(), devices, report).await?;
    for round in 0..setup.rounds {
        progress(SCENARIO, round, setup);
        let (rate, time) = broadcast(&world, devices, report).await?;
        let after = compare(h2load.as_ref(), devices, report).await?;
        if let (Some(before), Some(after)) = (&before, &after) {
            against(&rate_and(rate, time), before, after, round, report);
        }
        before = after;
    }
    report.add(SCENARIO, "server's highest memory", "MiB", world.server.peak_mib()?);
    report.add(SCENARIO, "simulator's highest memory", "MiB", world.sim.peak_mib()?);
    if let Some(peak) = world.backends.redis_peak_mib()? {
        report.add(SCENARIO, "Redis' highest memory", "MiB", peak);
    }
    report.note(if setup.blind {
        "the simulator was blind: it answers at once and checks nothing"
    } else {
        "the simulator checked every request"
    });
    Ok(())
}

fn rate_and(per_second: f64, micros: f64) -> Rate {
    Rate { per_second, micros }
}

/// One broadcast, checked against the simulator. Answers pushes a second and the server's microseconds for one.
async fn broadcast(world: &World, devices: u64, report: &mut Report) -> anyhow::Result<(f64, f64)> {
    world.reset_sim().await?;
    let mut observer = Observer::of(world).await?;
    let (cpu, sim_cpu, backends) = (world.server.cpu()?, world.sim.cpu()?, world.backends.cpu()?);
    let push = json!({
        "recipient": {"channels": [CHANNEL]},
        "notification": {"fcm": {"notification": {"title": "Hello", "body": audience::words()}}},
    });
    let began = Instant::now();
    let sent = observer.call("send_push_notification", &push).await?;
    let uid = sent["uid"].as_str().context("the answer has no uid")?;
    let account = observer.ended(uid, ASK).await?;
    let took = began.elapsed();
    let cpu = world.server.cpu()?.saturating_sub(cpu);
    let sim_cpu = world.sim.cpu()?.saturating_sub(sim_cpu);
    for (name, micros) in world.backends.cpu_each(devices, &backends)? {
        report.add(SCENARIO, name, "µs", micros);
    }
    check(&account, devices)?;
    world.check_sim(devices).await?;
    let rate = per_second(devices, took);
    let micros = 1e6 / per_second(devices, cpu);
    report.add(SCENARIO, "pushes", "/s", rate);
    report.add(SCENARIO, "server's time each", "µs", micros);
    report.add(
        SCENARIO,
        "simulator's time each",
        "µs",
        1e6 / per_second(devices, sim_cpu),
    );
    Ok((rate, micros))
}

/// All were sent, or the rate means nothing.
fn check(account: &Value, devices: u64) -> anyhow::Result<()> {
    ensure!(
        account["sent"] == devices && account["targeted"] == devices,
        "not all {devices} pushes were sent: {account}"
    );
    Ok(())
}

async fn compare(h2load: Option<&H2load>, requests: u64, report: &mut Report) -> anyhow::Result<Option<Rate>> {
    let Some(h2load) = h2load else { return Ok(None) };
    let rate = h2load.run(requests).await?;
    report.add(SCENARIO, &h2load.name(), "/s", rate.per_second);
    report.add(SCENARIO, "h2load's time each", "µs", rate.micros);
    Ok(Some(rate))
}

/// What bugle reaches beside h2load directly before and after it.
fn against(bugle: &Rate, before: &Rate, after: &Rate, round: u32, report: &mut Report) {
    let per_second = f64::midpoint(before.per_second, after.per_second);
    let micros = f64::midpoint(before.micros, after.micros);
    report.add(
        SCENARIO,
        "pushes ÷ h2load's requests",
        "",
        ratio(bugle.per_second, per_second),
    );
    report.add(SCENARIO, "server's time ÷ h2load's", "", ratio(bugle.micros, micros));
    let change = (before.per_second - after.per_second).abs() / per_second;
    if change > STEADY {
        report.note(&format!(
            "send-channel, round {}: h2load before and after differ by {:.0} %, the machine was not quiet",
            round + 1,
            change * 100.0
        ));
    }
}
