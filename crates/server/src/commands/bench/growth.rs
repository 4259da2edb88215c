//! What a tenfold audience costs: ten times the time and no more memory, or something grows with it.

use super::audience::{self, CHANNEL};
use super::broadcast::Broadcast;
use super::report::{Report, ratio};
use super::world::World;
use super::{Setup, progress};

const SCENARIO: &str = "growth";
const TIMES: u32 = 10;

pub(super) async fn measure(setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    let small = start(setup, u64::from(setup.devices) * 3 / u64::from(TIMES)).await?;
    let large = start(setup, small.1 * u64::from(TIMES)).await?;
    for round in 0..setup.rounds {
        progress(SCENARIO, round, setup);
        let mut took = Vec::new();
        for (world, devices) in [&small, &large] {
            let sent = Broadcast::send(world, CHANNEL, *devices).await?;
            let of = |what: &str| format!("{devices} devices: {what}");
            report.add(SCENARIO, &of("time"), "s", sent.took.as_secs_f64());
            for (what, unit, value) in sent.named() {
                report.add(SCENARIO, &of(&what), unit, value);
            }
            took.push(sent.took.as_secs_f64());
        }
        report.add(SCENARIO, "time, large ÷ small", "", ratio(took[1], took[0]));
    }
    let (low, high) = (small.0.server.peak_mib()?, large.0.server.peak_mib()?);
    for (devices, peak) in [(small.1, low), (large.1, high)] {
        report.add(
            SCENARIO,
            &format!("{devices} devices: server's highest memory"),
            "MiB",
            peak,
        );
    }
    report.add(SCENARIO, "memory, large ÷ small", "", ratio(high, low));
    Ok(())
}

/// A world of its own for an audience, and how large that is. Registration has its own peaks: they are left behind with the process.
async fn start(setup: &Setup, devices: u64) -> anyhow::Result<(World, u64)> {
    let mut world = World::start(setup).await?;
    let devices = audience::register(&world, devices).await?.commands;
    world.restart_server(setup).await?;
    Ok((world, devices))
}
