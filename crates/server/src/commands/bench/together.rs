//! Two broadcasts of different size beside each other.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::audience::CHANNEL;
use super::broadcast::{ask_for, check};
use super::observed::Observer;
use super::report::{Report, ratio};
use super::world::World;

/// The channel of the smaller broadcast: a quarter of the larger one.
pub(super) const QUARTER: &str = "bench-quarter";
/// How often both are asked how far they are.
const ASK: Duration = Duration::from_millis(25);
/// Broadcasts that were asked less often than this while both ran say nothing about each other.
const SEEN: usize = 4;

/// Two broadcasts at once, and how far each is while both run.
pub(super) async fn measure(
    scenario: &str,
    world: &World,
    large: u64,
    small: u64,
    round: u32,
    report: &mut Report,
) -> anyhow::Result<()> {
    world.reset_sim().await?;
    let mut observer = Observer::of(world).await?;
    let uids = [
        ask_for(&mut observer, CHANNEL).await?,
        ask_for(&mut observer, QUARTER).await?,
    ];
    let began = Instant::now();
    let mut points = [Vec::new(), Vec::new()];
    loop {
        let mut ended = 0;
        for (uid, points) in uids.iter().zip(&mut points) {
            let (sent, is_over) = observer.sent(uid).await?;
            points.push((began.elapsed().as_secs_f64(), sent));
            ended += u32::from(is_over);
        }
        if ended == 2 {
            break;
        }
        ensure!(
            began.elapsed() < Duration::from_mins(10),
            "two broadcasts have not ended"
        );
        tokio::time::sleep(ASK).await;
    }
    for (uid, devices) in uids.iter().zip([large, small]) {
        check(&observer.ended(uid, devices, ASK).await?, devices)?;
    }
    world.check_sim(large + small).await?;
    compare(scenario, &points, report);
    if round == 0 {
        for (what, points) in ["larger of two broadcasts", "smaller of two broadcasts"]
            .iter()
            .zip(points)
        {
            report.add_series(scenario, what, ["s", "pushes"], points);
        }
    }
    Ok(())
}

/// Reports how far each has come beside the other, if that was seen often enough.
fn compare(scenario: &str, progress: &Progress, report: &mut Report) {
    if seen_between(progress, 0.1, 0.9) < SEEN {
        report.note(
            "two broadcasts: the smaller one was over too soon to be compared with the larger one; take more --devices",
        );
        return;
    }
    let measures = [
        ("rates", rates(progress)),
        ("half of the smaller sent", progress_at(progress, 0.5)),
        ("nine tenths of it sent", progress_at(progress, 0.9)),
    ];
    for (what, value) in measures {
        report.add(scenario, &format!("two broadcasts: {what}, slower ÷ faster"), "", value);
    }
}

/// How many were sent of the larger and of the smaller broadcast, over time in seconds.
type Progress = [Vec<(f64, f64)>; 2];

/// How often both were asked while the smaller went from one part to another.
fn seen_between([_, small]: &Progress, from: f64, to: f64) -> usize {
    let all = small.last().map_or(0.0, |(_, sent)| *sent);
    let is_between = |sent: f64| sent >= all * from && sent <= all * to;
    small.iter().filter(|(_, sent)| is_between(*sent)).count()
}

/// What both have sent when the smaller has done this part of all.
fn sent_at([large, small]: &Progress, part: f64) -> (f64, f64) {
    let all = small.last().map_or(0.0, |(_, sent)| *sent);
    let at = small.iter().position(|(_, sent)| *sent >= all * part).unwrap_or(0);
    (large[at].1, small[at].1)
}

/// How far the slower one is, of the faster one, when the smaller has done this part of all.
fn progress_at(progress: &Progress, part: f64) -> f64 {
    let (large, small) = sent_at(progress, part);
    ratio(large.min(small), large.max(small))
}

/// The slower one's rate, of the faster one's, while the smaller goes from a tenth to nine tenths.
fn rates(progress: &Progress) -> f64 {
    let ((large, small), (large_then, small_then)) = (sent_at(progress, 0.9), sent_at(progress, 0.1));
    let (large, small) = (large - large_then, small - small_then);
    ratio(large.min(small), large.max(small))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broadcast_that_was_over_at_once_is_not_compared() {
        let small = vec![(0.1, 0.0), (0.2, 40.0), (0.3, 60.0), (0.4, 80.0)];
        let points = [small.clone(), small];
        assert_eq!(seen_between(&points, 0.1, 0.9), 2);
    }

    #[test]
    fn two_broadcasts_are_compared_while_both_run() {
        let large = vec![(0.1, 10.0), (0.2, 30.0), (0.3, 60.0), (0.4, 400.0)];
        let small = vec![(0.1, 20.0), (0.2, 40.0), (0.3, 75.0), (0.4, 80.0)];
        let points = [large, small];
        assert!((progress_at(&points, 0.5) - 0.75).abs() < 1e-9);
        assert!((progress_at(&points, 0.9) - 0.8).abs() < 1e-9);
        // From (10, 20) to (60, 75).
        assert!((rates(&points) - 50.0 / 55.0).abs() < 1e-9);
    }
}
