//! Wrong keys and outages: what is held, what resumes, what is lost (nothing).

use std::time::Duration;

use bugle_sim::Outcome;
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{Backends, World, tokens};

const AUDIENCE: usize = 2_000;
const QUICK: [(&str, &str); 2] = [("sender.probe", "300ms"), ("sender.max_attempts", "3")];

fn held(status: &Value) -> Vec<&str> {
    status["legs"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|leg| leg["held"].as_str())
        .collect()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_exchange_holds_and_sending_resumes_by_itself(
    #[values(Backends::Embedded, Backends::Postgres, Backends::PostgresRedis)] backends: Backends,
) {
    let world = World::start_with(backends, 1, json!({"reject_exchange": true}), &QUICK).await;
    world.api.register_all(tokens("key-", AUDIENCE)).await;
    let uid = world.api.broadcast().await;
    let status = world
        .api
        .wait_for(&uid, Duration::from_secs(30), |status| held(status).len() == 3)
        .await;
    assert_eq!(held(&status), ["credential"; 3]);
    assert_eq!(world.sim.stats().requests, 0, "nothing was sent");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let status = world.api.status(&uid).await;
    assert!(status.get("ended_at").is_none(), "{status}");
    assert_eq!(status["targeted"], status["waiting"], "nothing is lost: {status}");
    world.sim.merge(&json!({"reject_exchange": false})).unwrap();
    let status = world.api.ended(&uid, Duration::from_secs(60)).await;
    assert_eq!(status["sent"], AUDIENCE as u64, "{status}");
    world.assert_account_is_the_tally(&status);
    assert_eq!(world.api.tokens().await.len(), AUDIENCE, "nothing was removed");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn twenty_refused_credentials_hold_the_route(
    #[values(Backends::Embedded, Backends::Postgres, Backends::PostgresRedis)] backends: Backends,
) {
    let world = World::start_with(backends, 1, json!({"all": "forbidden"}), &QUICK).await;
    world.api.register_all(tokens("key-", AUDIENCE)).await;
    let uid = world.api.broadcast().await;
    world
        .api
        .wait_for(&uid, Duration::from_secs(30), |status| held(status).len() == 3)
        .await;
    world.sim.merge(&json!({"all": null})).unwrap();
    let status = world.api.ended(&uid, Duration::from_secs(60)).await;
    assert_eq!(
        (status["sent"].as_u64(), status["failed"].as_u64()),
        (Some(AUDIENCE as u64), Some(0)),
        "{status}"
    );
    assert_eq!(world.api.tokens().await.len(), AUDIENCE);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_key_of_one_platform_and_a_single_foreign_token_hold_nobody_else(
    #[values(Backends::Embedded, Backends::Postgres, Backends::PostgresRedis)] backends: Backends,
) {
    let world = World::start_with(backends, 1, json!({}), &QUICK).await;
    // A foreign token, and one whose platform's key inside Firebase is bad: a single one of each proves nothing.
    world
        .api
        .register_all(["mismatch-foreign".to_owned(), "unauthorized2-one".to_owned()])
        .await;
    world.api.register_all(tokens("fine-", 500)).await;
    let uid = world.api.broadcast().await;
    let status = world.api.ended(&uid, Duration::from_secs(60)).await;
    assert_eq!(held(&status), Vec::<&str>::new(), "{status}");
    assert_eq!(
        (status["sent"].as_u64(), status["failed"].as_u64()),
        (Some(501), Some(1)),
        "{status}"
    );
    assert_eq!(world.api.tokens().await.len(), 502, "a foreign token is not removed");
}

/// Two minutes of nothing but 503 in the middle of a broadcast.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_two_minutes_fails_nobody() {
    let settings = [
        ("sender.probe", "2s"),
        ("sender.max_attempts", "5"),
        ("sender.backoff", "100ms"),
        ("sender.backoff_max", "1s"),
    ];
    let world = World::start(json!({"latency_ms": 20, "stream_limit": 20}), &settings).await;
    world.api.register_all(tokens("outage-", 6_000)).await;
    let uid = world.api.broadcast().await;
    tokio::time::timeout(Duration::from_secs(60), world.sim.requests_reached(1_000))
        .await
        .unwrap();
    world.sim.merge(&json!({"all": "unavailable"})).unwrap();
    let status = world
        .api
        .wait_for(&uid, Duration::from_secs(60), |status| held(status).len() == 3)
        .await;
    assert_eq!(held(&status), ["outage"; 3]);
    tokio::time::sleep(Duration::from_secs(120)).await;
    let during = world.sim.stats().outcome(Outcome::Unavailable);
    assert!(during < 2_000, "on hold only probes leave, but {during} requests did");
    world.sim.merge(&json!({"all": null})).unwrap();
    let status = world.api.ended(&uid, Duration::from_secs(120)).await;
    assert_eq!(
        (status["sent"].as_u64(), status["failed"].as_u64()),
        (Some(6_000), Some(0)),
        "{status}"
    );
    world.assert_account_is_the_tally(&status);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_survives_a_restart(
    #[values(Backends::Embedded, Backends::Postgres, Backends::PostgresRedis)] backends: Backends,
) {
    let mut world = World::start_with(backends, 1, json!({"all": "forbidden"}), &QUICK).await;
    world.api.register_all(tokens("key-", AUDIENCE)).await;
    let uid = world.api.broadcast().await;
    world
        .api
        .wait_for(&uid, Duration::from_secs(30), |status| held(status).len() == 3)
        .await;
    world.kill_and_restart();
    let before = world.sim.stats().requests;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let probes = world.sim.stats().requests - before;
    assert!(
        probes <= 3 * 10 * 2,
        "on hold only probes leave, but {probes} requests did"
    );
    world.sim.merge(&json!({"all": null})).unwrap();
    let status = world.api.ended(&uid, Duration::from_secs(60)).await;
    assert_eq!(status["sent"], AUDIENCE as u64, "{status}");
}
