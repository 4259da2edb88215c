//! Stopping: nothing that was answered within the grace period is repeated.

use std::time::{Duration, Instant};

use bugle_sim::Outcome;
use rstest::rstest;
use serde_json::json;

use crate::world::{Backends, World, tokens};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_in_the_middle_repeats_nothing(
    #[values(Backends::Embedded, Backends::Postgres, Backends::PostgresRedis)] backends: Backends,
) {
    const AUDIENCE: usize = 6_000;
    let mut world = World::start_with(backends, 1, json!({"latency_ms": 30, "stream_limit": 20}), &[]).await;
    world.api.register_all(tokens("stop-", AUDIENCE)).await;
    let uid = world.api.broadcast().await;
    for share in 1..=3 {
        tokio::time::timeout(
            Duration::from_secs(60),
            world.sim.requests_reached(share * AUDIENCE as u64 / 5),
        )
        .await
        .unwrap();
        world.stop(0).await;
        assert_eq!(world.sim.stats().open_streams, 0, "what was open has ended");
        world.restart(0);
    }
    let status = world.api.ended(&uid, Duration::from_secs(60)).await;
    world.assert_account_is_the_tally(&status);
    let stats = world.sim.stats();
    assert_eq!((stats.tokens, stats.repeats), (AUDIENCE as u64, 0), "{stats:#?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_answers_no_longer_than_the_grace_and_a_second_signal_not_at_all(
    #[values(Backends::Embedded, Backends::PostgresRedis)] backends: Backends,
) {
    let settings = [
        ("sender.grace", "3s"),
        ("fcm.request_timeout", "2900ms"),
        ("sender.lease", "10s"),
    ];
    let mut world = World::start_with(backends, 1, json!({}), &settings).await;
    world.api.register_all(tokens("silent-", 10)).await;
    let uid = world.api.broadcast().await;
    while world.sim.stats().outcome(Outcome::Silent) < 10 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = Instant::now();
    assert!(world.server.stop().await.success());
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());

    world.restart(0);
    let seen = world.sim.stats().outcome(Outcome::Silent);
    while world.sim.stats().outcome(Outcome::Silent) < seen + 10 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.server.signal("TERM");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    world.server.signal("TERM");
    world.server.ended(Duration::from_secs(10)).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    world.restart(0);
    assert_eq!(
        world.api.status(&uid).await["targeted"],
        10,
        "what was accepted is still there"
    );
}
