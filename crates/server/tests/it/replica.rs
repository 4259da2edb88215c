//! Processes that read lists and audiences on a replica, which dies in the middle of a broadcast and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bugle_testkit::postgres::{Database, Server};
use rstest::rstest;
use serde_json::json;

use crate::world::{Api, Backends, CHANNEL, World, insert_devices};

const AUDIENCE: usize = 24_000;
/// Each is one request.
const REQUESTS: u64 = AUDIENCE as u64;
/// Forty streams with twenty milliseconds an answer, and small windows, so that pages are handed out and read all the time.
const SETTINGS: [(&str, &str); 4] = [
    ("fcm.connections", "2"),
    ("fcm.streams", "10"),
    ("sender.threads", "1"),
    ("fanout.push_window", "2000"),
];

async fn requests_reached(world: &World, requests: u64) {
    tokio::time::timeout(Duration::from_secs(60), world.sim.requests_reached(requests))
        .await
        .unwrap_or_else(|_| panic!("not {requests} requests: {:#?}", world.sim.stats()));
}

/// Waits until somebody has read bugle's tables there. A server counts a moment later, and from nought after a crash.
async fn is_read(database: &Database, replica: &Server) {
    const READS: &str = "SELECT coalesce(sum(idx_scan), 0) > 0 FROM pg_stat_user_tables";
    let began = Instant::now();
    while database.query_on(replica, READS) != "t" {
        assert!(began.elapsed() < Duration::from_secs(30), "nobody reads the replica");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Lists devices until it is told to stop; every list must be there, and none may take long.
fn list(api: Api, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<Duration> {
    tokio::spawn(async move {
        let mut slowest = Duration::ZERO;
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let list = api.call("device_list", &json!({"limit": 10})).await;
            assert_eq!(list["items"].as_array().unwrap().len(), 10, "{list}");
            slowest = slowest.max(began.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        slowest
    })
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_reaches_everybody_once_though_its_replica_is_killed_in_the_middle(
    #[values(Backends::Postgres, Backends::PostgresRedis)] backends: Backends,
) {
    let primary = Server::new();
    let database = primary.database();
    let mut replica = primary.replica();
    let (url, replica_url) = (database.url(), database.url_through(replica.address()));
    let settings: Vec<_> = SETTINGS
        .into_iter()
        .chain([("store.url", url.as_str()), ("store.replica_url", replica_url.as_str())])
        .collect();
    let mut world = World::start_with(backends, 2, json!({"latency_ms": 20}), &settings).await;
    insert_devices(&database, CHANNEL, "replica-", AUDIENCE);
    primary.wait_for_replica(&replica);

    let stop = Arc::new(AtomicBool::new(false));
    let listing: Vec<_> = (0..2)
        .map(|process| list(world.api_of(process), Arc::clone(&stop)))
        .collect();
    let uid = world.api.broadcast().await;
    requests_reached(&world, REQUESTS / 5).await;
    is_read(&database, &replica).await;
    replica.kill9();
    requests_reached(&world, REQUESTS / 2).await;
    assert!(
        world.sim.stats().tokens < REQUESTS,
        "the push was over before the replica came back"
    );
    replica.start();
    let status = world.api.ended(&uid, Duration::from_secs(60)).await;
    is_read(&database, &replica).await;
    stop.store(true, Ordering::Relaxed);
    for lists in listing {
        let slowest = lists.await.unwrap();
        assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    }

    let stats = world.sim.stats();
    assert_eq!((stats.tokens, stats.repeats), (REQUESTS, 0), "{stats:#?}");
    assert_eq!(
        (&status["state"], &status["targeted"]),
        (&json!("done"), &json!(REQUESTS)),
        "{status}"
    );
    world.assert_account_is_the_tally(&status);
}
