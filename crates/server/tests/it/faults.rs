//! Everything that a provider may answer, at once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bugle_sim::Outcome;
use rstest::rstest;
use serde_json::json;

use crate::world::{Backends, World, tokens};

/// One per cent each of UNREGISTERED, payload error, 429 with Retry-After, 503, cut connection and silence.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn with_every_fault_about_the_account_is_the_tally_and_only_the_dead_are_gone(
    #[values(Backends::Embedded, Backends::Postgres, Backends::PostgresRedis)] backends: Backends,
) {
    const AUDIENCE: usize = 6_000;
    let shares = json!({"unregistered": 10, "payload": 10, "quota": 10, "unavailable": 10, "cut": 10, "silent": 10});
    let settings = [
        ("fcm.request_timeout", "1s"),
        ("sender.max_attempts", "50"),
        ("sender.backoff_max", "1s"),
    ];
    let world = World::start_with(backends, 1, json!({"shares": shares, "retry_after_s": 1}), &settings).await;
    world.api.register_all(tokens("fault-", AUDIENCE)).await;
    let uid = world.api.broadcast().await;
    let status = world.api.ended(&uid, Duration::from_secs(180)).await;
    assert_eq!(
        (status["state"].as_str(), status["targeted"].as_u64()),
        (Some("done"), Some(AUDIENCE as u64)),
        "{status}"
    );
    world.assert_account_is_the_tally(&status);
    let stats = world.sim.stats();
    for fault in [
        Outcome::Unregistered,
        Outcome::Payload,
        Outcome::Quota,
        Outcome::Unavailable,
        Outcome::Cut,
        Outcome::Silent,
    ] {
        assert!(stats.outcome(fault) > 0, "{fault:?} did not happen: {stats:#?}");
    }
    let page = world.sim.tokens(Some(Outcome::Unregistered), None, 10_000).unwrap();
    let dead: BTreeSet<String> = page.tokens.into_iter().map(|token| token.token).collect();
    let left: BTreeSet<String> = world.api.tokens().await.into_iter().collect();
    assert!(left.is_disjoint(&dead), "the dead are gone");
    assert_eq!(left.len() + dead.len(), AUDIENCE, "nobody else is");
    assert_eq!(status["invalid"].as_u64(), Some(dead.len() as u64));
}

/// How long until all but the silent have been accepted.
async fn time_for_the_others(world: &World, others: u64) -> Duration {
    let uid = world.api.broadcast().await;
    let began = Instant::now();
    while world.sim.stats().class(Outcome::Accepted) < others {
        assert!(began.elapsed() < Duration::from_secs(120), "{:#?}", world.sim.stats());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = began.elapsed();
    world.api.ended(&uid, Duration::from_secs(180)).await;
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_silent_tokens_hardly_delay_the_others() {
    const AUDIENCE: usize = 20_000;
    // Answers take long enough for the speed to be that of streams and not of this machine.
    let settings = [
        ("fcm.request_timeout", "4s"),
        ("sender.max_attempts", "2"),
        ("fcm.streams", "100"),
        ("fcm.connections", "4"),
    ];
    let world = World::start(json!({"latency_ms": 50, "stream_limit": 100}), &settings).await;
    world.api.register_all(tokens("plain-", AUDIENCE - 100)).await;
    let without = time_for_the_others(&world, AUDIENCE as u64 - 100).await;
    world.sim.reset();
    world.api.register_all(tokens("silent-", 100)).await;
    let with = time_for_the_others(&world, AUDIENCE as u64 - 100).await;
    eprintln!("without silent tokens {without:?}, with {with:?}");
    assert!(
        with <= without.mul_f64(1.5),
        "without silent tokens {without:?}, with {with:?}"
    );
}
