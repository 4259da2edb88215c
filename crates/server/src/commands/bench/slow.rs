//! Broadcasts to a provider that takes its time: what then counts is how many requests are open at once.

use anyhow::Context;
use serde_json::json;

use super::audience::{self, CHANNEL};
use super::broadcast::Broadcast;
use super::h2load::{H2load, Rate};
use super::report::{Named, Report, ratio};
use super::world::{Wants, World};
use super::{Setup, progress};

const SCENARIO: &str = "slow-provider";
/// Every answer takes so long, in milliseconds, each as likely as the other.
const LATENCY: (u32, u32) = (30, 70);
const CONNECTIONS: usize = 4;
const STREAMS: u32 = 1_000;

pub(super) async fn measure(setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    let wants = Wants {
        streams: STREAMS,
        connections: Some(CONNECTIONS),
    };
    let world = World::start_with(setup, wants).await?;
    let devices = audience::register(&world, u64::from(setup.devices)).await?.commands;
    let h2load = H2load::find(&world).await?;
    for round in 0..setup.rounds {
        progress(SCENARIO, round, setup);
        world.set_sim(&json!({"latency": null})).await?;
        let quick = Broadcast::send(&world, CHANNEL, devices).await?;
        let at_once = match &h2load {
            Some(h2load) => Some(h2load.run(&world, devices).await?),
            None => None,
        };
        let uniform = json!({"uniform": {"min": LATENCY.0, "max": LATENCY.1}});
        world.set_sim(&json!({ "latency": uniform })).await?;
        let slow = Broadcast::send(&world, CHANNEL, devices).await?;
        let late = mean_late(&world, devices).await?;
        report.add_all(SCENARIO, named(&quick, &slow, late));
        if let (Some(h2load), Some(at_once)) = (&h2load, at_once) {
            let late = h2load.run(&world, devices).await?;
            report.add_all(SCENARIO, beside(&h2load.name(), &slow, &at_once, &late));
        }
    }
    report.add(SCENARIO, "server's highest memory", "MiB", world.server.peak_mib()?);
    Ok(())
}

/// What the simulator really waited before it answered, in milliseconds. A sink that checks does not tell.
async fn mean_late(world: &World, devices: u64) -> anyhow::Result<Option<f64>> {
    let stats = world.sim_stats().await?;
    let blind = &stats["blind"];
    if blind.is_null() {
        return Ok(None);
    }
    let late = blind["late"]
        .as_u64()
        .context("the simulator's blind port knows no latency")?;
    anyhow::ensure!(late == devices, "{late} of {devices} answers were late");
    let micros = blind["late_us"]
        .as_f64()
        .context("the simulator does not tell how late")?;
    Ok(Some(late_ms(micros, late)))
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn late_ms(micros: f64, late: u64) -> f64 {
    micros / 1e3 / late as f64
}

fn named(quick: &Broadcast, slow: &Broadcast, late: Option<f64>) -> Vec<Named> {
    let possible = f64::from(STREAMS) * 4.0 / (f64::from(LATENCY.0 + LATENCY.1) / 2.0 / 1e3);
    let mut named: Vec<Named> = [
        ("pushes, answers at once", "/s", quick.per_second),
        ("pushes, slow answers", "/s", slow.per_second),
        ("slow ÷ what the streams allow", "", ratio(slow.per_second, possible)),
        ("server's time each, answers at once", "µs", quick.micros),
        ("server's time each, slow answers", "µs", slow.micros),
        ("server's time, slow ÷ at once", "", ratio(slow.micros, quick.micros)),
        ("simulator's time each, answers at once", "µs", quick.sim_micros),
        ("simulator's time each, slow answers", "µs", slow.sim_micros),
        (
            "simulator's share of the processors, slow answers",
            "%",
            slow.sim_share * 100.0,
        ),
    ]
    .map(|(what, unit, value)| (what.to_owned(), unit, value))
    .into();
    named.extend(late.map(|ms| ("simulator answered after, mean".to_owned(), "ms", ms)));
    named
}

/// What h2load makes of the same answers: what waiting for them costs by itself.
fn beside(name: &str, slow: &Broadcast, at_once: &Rate, late: &Rate) -> Vec<Named> {
    [
        (format!("{name}, slow answers"), "/s", late.per_second),
        (
            "pushes ÷ h2load's requests, slow answers".to_owned(),
            "",
            ratio(slow.per_second, late.per_second),
        ),
        (
            "server's time ÷ h2load's, slow answers".to_owned(),
            "",
            ratio(slow.micros, late.micros),
        ),
        (
            "h2load's time, slow ÷ at once".to_owned(),
            "",
            ratio(late.micros, at_once.micros),
        ),
    ]
    .into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_possible_follows_from_streams_and_latency() {
        let quick = Broadcast::of(Duration::from_secs(1), 4.0, 0.1);
        let slow = Broadcast::of(Duration::from_secs(1), 5.0, 0.1);
        let named = named(&quick, &slow, Some(late_ms(51_000_000.0, 1_000)));
        let value = |name: &str| named.iter().find(|(what, ..)| what == name).unwrap().2;
        // 4 connections × 1000 streams, a mean of 50 ms: 80 000 a second.
        assert!((value("slow ÷ what the streams allow") - 1_000.0 / 80_000.0).abs() < 1e-9);
        assert!((value("server's time, slow ÷ at once") - 1.25).abs() < 1e-9);
        assert!((value("simulator answered after, mean") - 51.0).abs() < 1e-9);
    }
}
