//! kill -9 in the middle of a broadcast.

use std::time::Duration;

use rstest::rstest;
use serde_json::json;

use crate::world::{Backends, World, tokens};

const CONNECTIONS: u64 = 2;
const STREAMS: u64 = 20;
const UNSETTLED: u64 = 200;
/// What a kill may repeat.
const BOUND: u64 = CONNECTIONS * STREAMS + UNSETTLED;
const AUDIENCE: usize = 6_000;
const _: () = assert!(AUDIENCE as u64 >= 20 * BOUND);

/// Broadcasts, each killed once at a random moment. With forty streams and ten milliseconds an answer each takes about a second and a half, and where leases are in
/// rows the time of one more.
#[rstest]
#[case::embedded(Backends::Embedded, 10)]
#[case::postgres(Backends::Postgres, 4)]
#[case::postgres_and_redis(Backends::PostgresRedis, 4)]
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_9_loses_nothing_and_repeats_hardly_anything(#[case] backends: Backends, #[case] kills: u64) {
    let settings = [
        ("fcm.connections", "2"),
        ("fcm.streams", "20"),
        ("sender.max_unsettled", "200"),
        ("sender.threads", "2"),
    ];
    let mut world = World::start_with(backends, 1, json!({"latency_ms": 10}), &settings).await;
    world.api.register_all(tokens("kill-", AUDIENCE)).await;
    let mut while_sending = 0;
    for kill in 0..kills {
        world.sim.reset();
        let uid = world.api.broadcast().await;
        // The moment is random in how far the broadcast is, from the first hundred requests to nine tenths of it.
        let moment = 100 + rand::random_range(0..AUDIENCE as u64 * 9 / 10);
        tokio::time::timeout(Duration::from_secs(60), world.sim.requests_reached(moment))
            .await
            .unwrap();
        world.kill(0);
        let before = world.sim.stats();
        while_sending += u64::from(before.tokens < AUDIENCE as u64);
        world.restart(0);
        let status = world.api.ended(&uid, Duration::from_secs(120)).await;
        let stats = world.sim.stats();
        eprintln!(
            "kill {kill} after {} requests: {} repeats",
            before.requests, stats.repeats
        );
        assert_eq!(status["state"], "done");
        assert_eq!(stats.tokens, AUDIENCE as u64, "every device is reached");
        assert_eq!(status["targeted"], AUDIENCE as u64);
        world.assert_account_is_the_tally(&status);
        assert!(
            stats.repeats <= BOUND,
            "{} repeats, at most {BOUND} are allowed",
            stats.repeats
        );
    }
    assert!(
        while_sending * 5 >= kills * 4 - 1,
        "only {while_sending} kills hit a broadcast that was being sent"
    );
}

/// The same with every kind of failure about, so that left-overs, dead tokens and progress have to survive too.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_9_amid_failures_keeps_the_account_exact(
    #[values(Backends::Embedded, Backends::Postgres, Backends::PostgresRedis)] backends: Backends,
) {
    let shares = json!({"unregistered": 30, "payload": 30, "unavailable": 100});
    let settings = [
        ("fcm.connections", "2"),
        ("fcm.streams", "20"),
        ("sender.max_unsettled", "200"),
        ("sender.threads", "2"),
        ("sender.max_attempts", "30"),
    ];
    let mut world = World::start_with(backends, 1, json!({"latency_ms": 10, "shares": shares}), &settings).await;
    world.api.register_all(tokens("amid-", AUDIENCE)).await;
    let uid = world.api.broadcast().await;
    for kill in 1..=3 {
        tokio::time::timeout(
            Duration::from_secs(60),
            world.sim.requests_reached(kill * AUDIENCE as u64 / 4),
        )
        .await
        .unwrap();
        world.kill_and_restart();
    }
    let status = world.api.ended(&uid, Duration::from_secs(120)).await;
    let stats = world.sim.stats();
    assert_eq!(stats.tokens, AUDIENCE as u64);
    world.assert_account_is_the_tally(&status);
    // A device whose removal was not written down before the kill is met again and removed then: the audience shrinks by none of them.
    assert_eq!(status["targeted"], AUDIENCE as u64, "{status}\n{stats:#?}");
    let left = world.api.tokens().await.len() as u64;
    assert_eq!(left + status["invalid"].as_u64().unwrap(), AUDIENCE as u64);
}
