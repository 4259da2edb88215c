//! A large push by many processes of which some are killed, stand still, or do one thing only.

use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::json;

use crate::world::{Backends, CHANNEL, World, insert_devices};

const CONNECTIONS: u64 = 2;
const STREAMS: u64 = 20;
const UNSETTLED: u64 = 200;
/// What a process that is killed or stands still may repeat.
const BOUND: u64 = CONNECTIONS * STREAMS + UNSETTLED;
const SETTINGS: [(&str, &str); 6] = [
    ("fcm.connections", "2"),
    ("fcm.streams", "20"),
    ("fcm.request_timeout", "4s"),
    ("sender.lease", "10s"),
    ("sender.max_unsettled", "200"),
    ("sender.threads", "2"),
];

async fn three(backends: Backends, latency_ms: u64, prefix: &str, audience: usize) -> World {
    let world = World::start_with(backends, 3, json!({"latency_ms": latency_ms}), &SETTINGS).await;
    insert_devices(world.database(), CHANNEL, prefix, audience);
    world
}

async fn requests_reached(world: &World, requests: u64) {
    tokio::time::timeout(Duration::from_secs(120), world.sim.requests_reached(requests))
        .await
        .unwrap_or_else(|_| panic!("not {requests} requests: {:#?}", world.sim.stats()));
}

/// A hundred and twenty streams with thirty milliseconds an answer: the push takes a minute, and a kill every ten seconds hits pages that the last one left.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_thousand_devices_are_reached_though_five_processes_are_killed(
    #[values(Backends::Postgres, Backends::PostgresRedis)] backends: Backends,
) {
    const AUDIENCE: u64 = 200_000;
    const KILLS: u64 = 5;
    let mut world = three(backends, 30, "kill-", AUDIENCE as usize).await;
    let began = Instant::now();
    let uid = world.api.broadcast().await;
    for kill in 0..KILLS {
        let share = AUDIENCE / (KILLS + 1);
        requests_reached(&world, share * kill + share / 2 + rand::random_range(0..share)).await;
        let running = world.running();
        let victim = running[rand::random_range(0..running.len())];
        world.kill(victim);
        let stats = world.sim.stats();
        assert!(stats.tokens < AUDIENCE, "the push is over before the kill");
        eprintln!("killed process {victim} after {} requests, {:?}", stats.requests, began.elapsed());
        world.start_another(&[]);
    }
    let status = world.api.ended(&uid, Duration::from_secs(180)).await;
    let stats = world.sim.stats();
    eprintln!("{} repeats by {KILLS} kills, {:?}", stats.repeats, began.elapsed());
    assert_eq!(status["state"], "done");
    assert_eq!((stats.tokens, &status["targeted"]), (AUDIENCE, &json!(AUDIENCE)), "{status}");
    world.assert_account_is_the_tally(&status);
    assert!(
        stats.repeats <= KILLS * BOUND,
        "{} repeats, at most {BOUND} a kill are allowed",
        stats.repeats
    );
}

/// Stops a process in the middle of a transaction, as often as it takes to hit one. Its rows are locked then, and it cannot let go of them.
async fn freeze_in_a_transaction(world: &mut World, process: usize) {
    const OPEN: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND state = 'idle in transaction' AND state_change < clock_timestamp() - interval '400 ms'";
    for _ in 0..100 {
        world.freeze(process);
        tokio::time::sleep(Duration::from_millis(500)).await;
        if world.database().query(OPEN) != "0" {
            return;
        }
        world.thaw(process);
        tokio::time::sleep(Duration::from_millis(rand::random_range(5..50))).await;
    }
    panic!("process {process} has no transactions");
}

/// The process wakes up while the others are still at work on the push, and on what were its pages.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stood_still_in_a_transaction_for_longer_than_its_lease_changes_nothing_when_it_wakes(
    #[values(Backends::Postgres, Backends::PostgresRedis)] backends: Backends,
) {
    const AUDIENCE: u64 = 60_000;
    let mut world = three(backends, 50, "sleep-", AUDIENCE as usize).await;
    let uid = world.api.broadcast().await;
    requests_reached(&world, AUDIENCE / 10).await;
    freeze_in_a_transaction(&mut world, 0).await;
    let others = world.api_of(1);
    let asleep = world.sim.stats().tokens;
    tokio::time::sleep(Duration::from_secs(14)).await;
    let meanwhile = world.sim.stats().tokens - asleep;
    assert!(meanwhile >= AUDIENCE / 10, "the others stood still, too: {meanwhile} of {AUDIENCE}");
    let status = others.status(&uid).await;
    assert!(status.get("ended_at").is_none(), "it is to wake up during the push: {status}");
    world.thaw(0);
    let status = others.ended(&uid, Duration::from_secs(60)).await;
    let stats = world.sim.stats();
    eprintln!("{meanwhile} sent meanwhile, {} repeats", stats.repeats);
    assert_eq!((stats.tokens, &status["targeted"]), (AUDIENCE, &json!(AUDIENCE)), "{status}");
    world.assert_account_is_the_tally(&status);
    assert!(stats.repeats <= BOUND, "{} repeats, at most {BOUND} are allowed", stats.repeats);
    // It is as good as the others again.
    let woken = world.api_of(0);
    world.stop(1).await;
    world.stop(2).await;
    let raw = json!({"recipient": {"fcm_tokens": ["woken"]}, "notification": {"fcm": {"notification": {"title": "t"}}}});
    let next = woken.call("send_push_notification", &raw).await["uid"].clone();
    let next = woken.ended(next.as_str().unwrap(), Duration::from_secs(10)).await;
    assert_eq!(next["sent"], 1, "{next}");
    assert_eq!(woken.status(&uid).await, status, "what others had settled has not changed");
}

/// One serves the API, one expands, one sends; and a push to one device need not wait for the broadcast.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn three_processes_with_one_role_each_do_a_push_together_and_one_device_is_reached_at_once(
    #[values(Backends::Postgres, Backends::PostgresRedis)] backends: Backends,
) {
    const AUDIENCE: u64 = 12_000;
    let slow = json!({"latency_ms": 30});
    let settings: Vec<_> = [("roles", "api"), ("fanout.refill", "30s")].into_iter().chain(SETTINGS).collect();
    let mut world = World::start_with(backends, 1, slow, &settings).await;
    world.start_another(&[("roles", "fanout")]);
    world.start_another(&[("roles", "sender")]);
    insert_devices(world.database(), CHANNEL, "role-", AUDIENCE as usize);
    let uid = world.api.broadcast().await;
    for round in 1..=4 {
        requests_reached(&world, AUDIENCE * round / 6).await;
        let token = format!("one-{round}");
        let push = json!({"recipient": {"fcm_tokens": [token]}, "notification": {"fcm": {"notification": {"title": "t"}}}});
        world.api.call("send_push_notification", &push).await;
        let answered = Instant::now();
        while world.sim.token(&token).is_none() {
            assert!(answered.elapsed() < Duration::from_secs(2), "round {round}: {:?}", answered.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let status = world.api.ended(&uid, Duration::from_secs(60)).await;
    assert_eq!((&status["sent"], &status["targeted"]), (&json!(AUDIENCE), &json!(AUDIENCE)), "{status}");
    let stats = world.sim.stats();
    assert_eq!((stats.tokens, stats.repeats), (AUDIENCE + 4, 0), "{stats:#?}");
}
