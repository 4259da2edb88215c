//! Several processes over one database: what one leaves behind the others take over, and nobody does anything twice.

use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::json;

use crate::world::{Api, Backends, World, tokens};

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

/// Pushes to one raw token each, as fast as they are answered, until the process no longer answers; the tokens of those that were accepted.
async fn push_to_each(api: Api, prefix: String, most: usize) -> Vec<(String, String)> {
    let mut accepted = Vec::new();
    for token in tokens(&prefix, most) {
        let params =
            json!({"recipient": {"fcm_tokens": [token]}, "notification": {"fcm": {"notification": {"title": "t"}}}});
        let Some(answer) = api.answer_if_any("send_push_notification", &params).await else {
            break;
        };
        accepted.push((answer["result"]["uid"].as_str().unwrap().to_owned(), token));
    }
    accepted
}

/// A process leases what it accepts, and has most of it still to send when it is killed or stopped: two connections of ten streams send a tenth of what comes.
#[rstest]
#[case::killed(Backends::Postgres, true)]
#[case::killed(Backends::PostgresRedis, true)]
#[case::stopped(Backends::Postgres, false)]
#[case::stopped(Backends::PostgresRedis, false)]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_had_accepted_and_not_sent_the_others_send(#[case] backends: Backends, #[case] kill: bool) {
    const EACH: usize = 600;
    let mut world = World::start_with(backends, 3, json!({"latency_ms": 200}), &SETTINGS).await;
    let pushing: Vec<_> = (0..3)
        .flat_map(|process| (0..8).map(move |client| (process, client)))
        .map(|(process, client)| {
            let api = world.api_of(process);
            tokio::spawn(push_to_each(api, format!("one-{process}-{client}-"), EACH / 8))
        })
        .collect();
    requests_reached(&world, 60).await;
    let began = Instant::now();
    if kill {
        world.kill(1);
    } else {
        world.stop(1).await;
    }
    let mut accepted = Vec::new();
    for pushes in pushing {
        accepted.extend(pushes.await.unwrap());
    }
    assert!(accepted.len() > 2 * (EACH / 8 * 8), "{} were accepted", accepted.len());
    for (uid, token) in &accepted {
        let status = world.api.ended(uid, Duration::from_secs(60)).await;
        assert_eq!(
            (&status["state"], &status["sent"]),
            (&json!("done"), &json!(1)),
            "{status}"
        );
        assert!(world.sim.token(token).is_some(), "{token} was never sent to");
    }
    let stats = world.sim.stats();
    eprintln!(
        "{} accepted, {} repeats, {:?}",
        accepted.len(),
        stats.repeats,
        began.elapsed()
    );
    // Of a killed process what was open, and answers that no report had written.
    assert!(stats.repeats <= if kill { 20 + 200 } else { 0 }, "{stats:#?}");
}
