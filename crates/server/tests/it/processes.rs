//! Several processes over one database: what one leaves behind the others take over, and nobody does anything twice.

use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::json;

use crate::world::{Backends, World, tokens};

const SETTINGS: [(&str, &str); 3] = [("fcm.connections", "2"), ("fcm.streams", "10"), ("sender.threads", "1")];

async fn three(backends: Backends, prefix: &str, audience: usize) -> World {
    let world = World::start_with(backends, 3, json!({"latency_ms": 20}), &SETTINGS).await;
    world.api.register_all(tokens(prefix, audience)).await;
    world
}

async fn requests_reached(world: &World, requests: u64) {
    tokio::time::timeout(Duration::from_secs(60), world.sim.requests_reached(requests))
        .await
        .unwrap_or_else(|_| panic!("not {requests} requests: {:#?}", world.sim.stats()));
}

/// The sum over one metric's lines of a process.
async fn metric(world: &mut World, process: usize, name: &str) -> u64 {
    let (_, text) = world.api_of(process).get("/metrics").await;
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_process_sends_its_share_and_nothing_leaves_twice(
    #[values(Backends::Postgres, Backends::PostgresRedis)] backends: Backends,
) {
    const AUDIENCE: usize = 12_000;
    let mut world = three(backends, "share-", AUDIENCE).await;
    let uid = world.api.broadcast().await;
    let status = world.api.ended(&uid, Duration::from_secs(60)).await;
    world.assert_account_is_the_tally(&status);
    let stats = world.sim.stats();
    assert_eq!((stats.tokens, stats.repeats), (AUDIENCE as u64, 0), "{stats:#?}");
    for process in 0..3 {
        let sent = metric(&mut world, process, "bugle_sender_outcomes_total").await;
        assert!(sent >= 1_000, "process {process} sent only {sent}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_repeats_nothing_and_does_not_stop_the_others(
    #[values(Backends::Postgres, Backends::PostgresRedis)] backends: Backends,
) {
    const AUDIENCE: usize = 15_000;
    let mut world = three(backends, "roll-", AUDIENCE).await;
    let uid = world.api.broadcast().await;
    for process in 0..3 {
        let before = world.sim.stats().requests;
        requests_reached(&world, before + AUDIENCE as u64 / 8).await;
        let began = Instant::now();
        world.stop(process).await;
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        world.restart(process);
    }
    let began = Instant::now();
    let status = world.api.ended(&uid, Duration::from_secs(60)).await;
    world.assert_account_is_the_tally(&status);
    let stats = world.sim.stats();
    assert_eq!((stats.tokens, stats.repeats), (AUDIENCE as u64, 0), "{stats:#?}");
    // What was given back need not wait for a lease to run out.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
