//! A large push by many processes of which some are killed, stand still, or do one thing only.

use std::time::{Duration, Instant};

use bugle_testkit::proxy::Proxy;
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

async fn three(backends: Backends, latency_ms: u64, prefix: &str, audience: u64) -> World {
    let world = World::start_with(backends, 3, json!({"latency_ms": latency_ms}), &SETTINGS).await;
    insert_devices(world.database(), CHANNEL, prefix, usize::try_from(audience).unwrap());
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
    let mut world = three(backends, 30, "kill-", AUDIENCE).await;
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
        eprintln!(
            "killed process {victim} after {} requests, {:?}",
            stats.requests,
            began.elapsed()
        );
        world.start_another(&[]);
    }
    let status = world.api.ended(&uid, Duration::from_secs(180)).await;
    let stats = world.sim.stats();
    eprintln!("{} repeats by {KILLS} kills, {:?}", stats.repeats, began.elapsed());
    assert_eq!(status["state"], "done");
    assert_eq!(
        (stats.tokens, &status["targeted"]),
        (AUDIENCE, &json!(AUDIENCE)),
        "{status}"
    );
    world.assert_account_is_the_tally(&status);
    assert!(
        stats.repeats <= KILLS * BOUND,
        "{} repeats, at most {BOUND} a kill are allowed",
        stats.repeats
    );
}

/// Is there a session that has stood in a transaction for so long, and asked there for the lock of a leg?
fn stands_with_legs(world: &World, milliseconds: u32) -> bool {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
          WHERE datname = current_database() AND relation = 'legs'::regclass AND mode IN ('RowShareLock', 'RowExclusiveLock')
            AND state = 'idle in transaction' AND clock_timestamp() - state_change > interval '{milliseconds} ms')"
    );
    world.database().query(&sql) == "t"
}

/// Stops a process in the middle of a transaction that has locked a leg: the others need that leg, and it cannot let go of it. Such a transaction is waited for, and may be over
/// when the process stands still: then the next one is.
async fn freeze_with_a_leg(world: &mut World, process: usize) {
    const LOCKED: &str = "SELECT (SELECT count(*) FROM legs) > (SELECT count(*) FROM (SELECT 1 FROM legs FOR UPDATE SKIP LOCKED) AS free)";
    let since = Instant::now();
    for freezes in 1.. {
        while !stands_with_legs(world, 10) {
            assert!(
                since.elapsed() < Duration::from_secs(20),
                "process {process} locks no legs: {freezes} tries"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.freeze(process);
        // What it sent before has been done by then.
        tokio::time::sleep(Duration::from_millis(300)).await;
        if stands_with_legs(world, 200) && world.database().query(LOCKED) == "t" {
            eprintln!("frozen with a leg, {freezes} tries, {:?}", since.elapsed());
            return;
        }
        world.thaw(process);
    }
}

/// The process has the push for itself until it stands still, and wakes up while the others are at work on it, and on what were its pages. Its way to PostgreSQL is long, so that its
/// transactions are; little is handed out at a time, so that pages are small and end often, and the transactions that end one lock its leg.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stood_still_in_a_transaction_for_longer_than_its_lease_changes_nothing_when_it_wakes(
    #[values(Backends::Postgres, Backends::PostgresRedis)] backends: Backends,
) {
    // Forty streams with eighty milliseconds an answer send 500 a second at the most, those of two processes 1 000: the push lasts longer than the freeze, which begins within 20 s, on any machine.
    const AUDIENCE: u64 = 40_000;
    const ALL: (&str, &str) = ("roles", "api, fanout, sender");
    let settings: Vec<_> = [("roles", "api"), ("fanout.push_window", "1500")]
        .into_iter()
        .chain(SETTINGS)
        .collect();
    let mut world = World::start_with(backends, 1, json!({"latency_ms": 80}), &settings).await;
    let way = Proxy::start(world.database().address());
    way.delay(Duration::from_millis(40));
    let there = world.database().url_through(way.address());
    let sleeper = world.start_another(&[ALL, ("store.url", &there)]);
    insert_devices(world.database(), CHANNEL, "sleep-", usize::try_from(AUDIENCE).unwrap());
    let uid = world.api.broadcast().await;
    requests_reached(&world, AUDIENCE / 40).await;
    freeze_with_a_leg(&mut world, sleeper).await;
    // They begin while it has the leg.
    let others = [world.start_another(&[ALL]), world.start_another(&[ALL])];
    let since = Instant::now();
    let all = world.sim.stats().tokens;
    tokio::time::sleep(Duration::from_secs(12)).await;
    let before = world.sim.stats().tokens;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let meanwhile = world.sim.stats().tokens - before;
    eprintln!(
        "{} sent in {:?}, {meanwhile} in the last 4 s",
        before + meanwhile - all,
        since.elapsed()
    );
    // Eighty streams with eighty milliseconds an answer could send 4 000, and send a third of it through so small a window on two slow cores; standing still is none.
    assert!(
        meanwhile >= 500,
        "the others stand still, too: they sent {meanwhile} in 4 s"
    );
    let status = world.api.status(&uid).await;
    assert!(
        status.get("ended_at").is_none(),
        "it is to wake up during the push: {status}"
    );
    world.thaw(sleeper);
    let status = world.api.ended(&uid, Duration::from_secs(180)).await;
    let stats = world.sim.stats();
    eprintln!("{} repeats", stats.repeats);
    assert_eq!(
        (stats.tokens, &status["targeted"]),
        (AUDIENCE, &json!(AUDIENCE)),
        "{status}"
    );
    world.assert_account_is_the_tally(&status);
    assert!(
        stats.repeats <= BOUND,
        "{} repeats, at most {BOUND} are allowed",
        stats.repeats
    );
    // It is as good as the others again.
    let woken = world.api_of(sleeper);
    for other in [0].into_iter().chain(others) {
        world.stop(other).await;
    }
    let raw =
        json!({"recipient": {"fcm_tokens": ["woken"]}, "notification": {"fcm": {"notification": {"title": "t"}}}});
    let next = woken.call("send_push_notification", &raw).await["uid"].clone();
    let next = woken.ended(next.as_str().unwrap(), Duration::from_secs(10)).await;
    assert_eq!(next["sent"], 1, "{next}");
    assert_eq!(
        woken.status(&uid).await,
        status,
        "what others had settled has not changed"
    );
}

/// One serves the API, one expands, one sends; and a push to one device need not wait for the broadcast.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn three_processes_with_one_role_each_do_a_push_together_and_one_device_is_reached_at_once(
    #[values(Backends::Postgres, Backends::PostgresRedis)] backends: Backends,
) {
    const AUDIENCE: u64 = 12_000;
    let slow = json!({"latency_ms": 30});
    let settings: Vec<_> = [("roles", "api"), ("fanout.refill", "30s")]
        .into_iter()
        .chain(SETTINGS)
        .collect();
    let mut world = World::start_with(backends, 1, slow, &settings).await;
    world.start_another(&[("roles", "fanout")]);
    world.start_another(&[("roles", "sender")]);
    insert_devices(world.database(), CHANNEL, "role-", usize::try_from(AUDIENCE).unwrap());
    let uid = world.api.broadcast().await;
    for round in 1..=4 {
        requests_reached(&world, AUDIENCE * round / 6).await;
        let token = format!("one-{round}");
        let push =
            json!({"recipient": {"fcm_tokens": [token]}, "notification": {"fcm": {"notification": {"title": "t"}}}});
        world.api.call("send_push_notification", &push).await;
        let answered = Instant::now();
        while world.sim.token(&token).is_none() {
            assert!(
                answered.elapsed() < Duration::from_secs(2),
                "round {round}: {:?}",
                answered.elapsed()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let status = world.api.ended(&uid, Duration::from_secs(60)).await;
    assert_eq!(
        (&status["sent"], &status["targeted"]),
        (&json!(AUDIENCE), &json!(AUDIENCE)),
        "{status}"
    );
    let stats = world.sim.stats();
    assert_eq!((stats.tokens, stats.repeats), (AUDIENCE + 4, 0), "{stats:#?}");
}
