//! Broadcasts, each between two runs of h2load against the same simulator.

use super::audience::{self, CHANNEL};
use super::broadcast::Broadcast;
use super::h2load::{H2load, Rate};
use super::report::{Named, Report, ratio};
use super::world::World;
use super::{Setup, progress};

const SCENARIO: &str = "send-channel";
/// A round in which h2load before and after differ by more, of their mean, is void.
const STEADY: f64 = 0.15;
/// A round in which the simulator takes a larger part of the processors is void.
const SIMULATOR: f64 = 0.4;
/// For each round that is wanted so many are tried.
const TRIES: u32 = 3;

pub(super) async fn measure(setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    let world = World::start(setup).await?;
    let registered = audience::register(&world, u64::from(setup.devices)).await?;
    let devices = registered.commands;
    report.add(SCENARIO, "audience registered, batches of 100", "/s", registered.rate());
    let h2load = H2load::find(&world).await?;
    if h2load.is_none() {
        report.note("h2load is not installed, so there is nothing to compare send-channel with (Debian and Ubuntu: apt install nghttp2-client)");
    }
    let mut before = compare(h2load.as_ref(), &world, devices).await?;
    let (mut tried, mut valid) = (0, 0);
    while valid < setup.rounds && tried < setup.rounds * TRIES {
        progress(SCENARIO, valid, setup);
        tried += 1;
        let sent = Broadcast::send(&world, CHANNEL, devices).await?;
        let after = compare(h2load.as_ref(), &world, devices).await?;
        let why = void(&sent, before.as_ref(), after.as_ref());
        let mut round = sent.named();
        if let (Some(h2load), Some(before), Some(after)) = (&h2load, &before, &after) {
            round.extend(against(&sent, &h2load.name(), before, after));
        }
        if let Some(why) = why.filter(|_| !setup.count_void) {
            report.add_void(SCENARIO, why, round);
        } else {
            valid += 1;
            report.add_all(SCENARIO, round);
        }
        before = after;
    }
    if valid < setup.rounds {
        report.note(&format!(
            "send-channel: {valid} of {tried} rounds count, {} were wanted; the machine was not quiet",
            setup.rounds
        ));
    }
    report.add(SCENARIO, "server's highest memory", "MiB", world.server.peak_mib()?);
    report.add(SCENARIO, "simulator's highest memory", "MiB", world.sim.peak_mib()?);
    if let Some(peak) = world.backends.redis_peak_mib()? {
        report.add(SCENARIO, "Redis' highest memory", "MiB", peak);
    }
    Ok(())
}

async fn compare(h2load: Option<&H2load>, world: &World, requests: u64) -> anyhow::Result<Option<Rate>> {
    match h2load {
        Some(h2load) => Ok(Some(h2load.run(world, requests).await?)),
        None => Ok(None),
    }
}

/// Why a round does not count, if so.
fn void(sent: &Broadcast, before: Option<&Rate>, after: Option<&Rate>) -> Option<String> {
    if let (Some(before), Some(after)) = (before, after) {
        let mean = f64::midpoint(before.per_second, after.per_second);
        let change = (before.per_second - after.per_second).abs() / mean;
        if change > STEADY {
            return Some(format!("h2load before and after differ by {:.1} %", change * 100.0));
        }
    }
    let shares = [before, after].into_iter().flatten().map(|rate| rate.sim_share);
    let share = shares.fold(sent.sim_share, f64::max);
    (share > SIMULATOR).then(|| format!("the simulator took {:.1} % of the processors", share * 100.0))
}

/// What bugle reaches beside h2load directly before and after it.
fn against(sent: &Broadcast, name: &str, before: &Rate, after: &Rate) -> Vec<Named> {
    let mean = |of: fn(&Rate) -> f64| f64::midpoint(of(before), of(after));
    let (per_second, micros) = (mean(|rate| rate.per_second), mean(|rate| rate.micros));
    [
        (name, "/s", per_second),
        ("h2load's time each", "µs", micros),
        ("simulator's time each, for h2load", "µs", mean(|rate| rate.sim_micros)),
        ("pushes ÷ h2load's requests", "", ratio(sent.per_second, per_second)),
        ("server's time ÷ h2load's", "", ratio(sent.micros, micros)),
    ]
    .map(|(what, unit, value)| (what.to_owned(), unit, value))
    .into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rate(per_second: f64, sim_share: f64) -> Rate {
        Rate {
            per_second,
            micros: 2.0,
            sim_micros: 0.5,
            sim_share,
        }
    }

    fn sent(sim_share: f64) -> Broadcast {
        Broadcast::of(Duration::from_secs(1), 4.0, sim_share)
    }

    #[test]
    fn a_round_counts_only_on_a_quiet_machine_and_with_a_cheap_simulator() {
        let check = |sent: f64, before, after| void(&self::sent(sent), Some(&before), Some(&after));
        assert_eq!(check(0.3, rate(100.0, 0.1), rate(115.0, 0.1)), None);
        let why = check(0.3, rate(100.0, 0.1), rate(120.0, 0.1)).unwrap();
        assert_eq!(why, "h2load before and after differ by 18.2 %");
        assert!(
            check(0.41, rate(100.0, 0.1), rate(100.0, 0.1))
                .unwrap()
                .contains("41.0 %")
        );
        assert!(
            check(0.3, rate(100.0, 0.1), rate(100.0, 0.45))
                .unwrap()
                .contains("45.0 %")
        );
        assert_eq!(void(&sent(0.3), None, None), None);
    }

    #[test]
    fn ratios_are_to_the_mean_of_both_runs() {
        let named = against(&sent(0.1), "h2load", &rate(100.0, 0.1), &rate(300.0, 0.1));
        let value = |name: &str| named.iter().find(|(what, ..)| what == name).unwrap().2;
        assert!((value("h2load") - 200.0).abs() < 1e-9);
        assert!((value("pushes ÷ h2load's requests") - 5.0).abs() < 1e-9);
        assert!((value("server's time ÷ h2load's") - 2.0).abs() < 1e-9);
    }
}
