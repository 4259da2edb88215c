//! Processes that do a part of the work, and installations without a registry.

use std::time::Duration;

use hyper::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{Backends, World, bugle, tokens};

fn refused(settings: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let output = bugle(dir.path())
        .arg("serve")
        .env("BUGLE__HTTP__LISTEN", "127.0.0.1:0")
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    assert!(!output.status.success(), "{settings:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_does_not_go_together_is_refused_by_its_key() {
    let postgres = ("BUGLE__STORE__URL", "postgres://u:SECRET@127.0.0.1:1/bugle");
    for (settings, named) in [
        (
            vec![("BUGLE__ROLES", "api,worker")],
            "roles: expected some of api, fanout and sender, got \"worker\"",
        ),
        (vec![("BUGLE__ROLES", "")], "roles: expected at least one"),
        (
            vec![("BUGLE__ROLES", "api,sender")],
            "roles: with SQLite one process does everything",
        ),
        (vec![postgres, ("BUGLE__API__KEYS", "k")], "store.url"),
        (
            vec![
                postgres,
                ("BUGLE__QUEUE__URL", "memory"),
                ("BUGLE__ROLES", "api,fanout"),
            ],
            "queue.url: a queue in memory",
        ),
        (
            vec![("BUGLE__QUEUE__URL", "redis://:SECRET@127.0.0.1:1")],
            "queue.url: Redis without PostgreSQL is no mode",
        ),
        (
            vec![("BUGLE__QUEUE__URL", "postgres")],
            "queue.url: a queue in PostgreSQL",
        ),
    ] {
        let said = refused(&settings);
        assert!(said.contains(named), "{settings:?} gave {said}");
        assert!(!said.contains("SECRET"), "{said}");
    }
}

#[test]
fn processes_that_share_a_database_need_keys_that_they_all_know() {
    let database = bugle_testkit::postgres::database();
    let url = database.url();
    let said = refused(&[("BUGLE__STORE__URL", &url)]);
    assert!(said.contains("api.keys: ") && said.contains("openssl rand"), "{said}");
}

/// The API, the fan-out and the senders each in a process of their own.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_have_its_own_process(#[values(Backends::Postgres, Backends::PostgresRedis)] backends: Backends) {
    let mut world = World::start_with(backends, 1, json!({}), &[("roles", "api")]).await;
    world.api.register_all(tokens("role-", 2_500)).await;
    let uid = world.api.broadcast().await;
    let raw = json!({"recipient": {"fcm_tokens": ["one-raw-token"]}, "notification": {"fcm": {"notification": {"title": "t"}}}});
    let urgent = world.api.call("send_push_notification", &raw).await["uid"].clone();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let status = world.api.status(&uid).await;
    assert_eq!(
        (&status["targeted"], &status["sent"]),
        (&json!(0), &json!(0)),
        "nobody expands: {status}"
    );

    world.start_another(&[("roles", "fanout")]);
    let status = world
        .api
        .wait_for(&uid, Duration::from_secs(20), |status| status["targeted"] == 2_500)
        .await;
    assert_eq!(status["waiting"], 2_500, "nobody sends: {status}");
    assert_eq!(world.sim.stats().requests, 0);

    world.start_another(&[("roles", "sender")]);
    let status = world.api.ended(&uid, Duration::from_secs(60)).await;
    assert_eq!(status["sent"], 2_500, "{status}");
    let status = world.api.ended(urgent.as_str().unwrap(), Duration::from_secs(60)).await;
    assert_eq!(status["sent"], 1, "{status}");
    assert_eq!((world.sim.stats().tokens, world.sim.stats().repeats), (2_501, 0));

    for number in [1, 2] {
        let api = world.api_of(number);
        let (status, body) = api.raw("/api/device_list", "{}").await;
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (status, &body["error"]["code"]),
            (StatusCode::SERVICE_UNAVAILABLE, &json!(108)),
            "{body}"
        );
        assert!(api.get("/health").await.0.is_success());
        assert!(api.get("/metrics").await.1.contains("bugle_"));
    }
    for number in world.running() {
        world.stop(number).await;
    }
}

/// A push to one device leaves at once, whoever has accepted it.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_only_serves_the_api_hands_urgent_pushes_over_at_once(
    #[values(Backends::Postgres, Backends::PostgresRedis)] backends: Backends,
) {
    let refill = ("fanout.refill", "60s");
    let mut world = World::start_with(backends, 1, json!({}), &[("roles", "api"), refill]).await;
    world.start_another(&[("roles", "fanout,sender")]);
    let raw = json!({"recipient": {"fcm_tokens": ["raw"]}, "notification": {"fcm": {"notification": {"title": "t"}}}});
    for round in 0..5 {
        let uid = world.api.call("send_push_notification", &raw).await["uid"].clone();
        let status = world.api.ended(uid.as_str().unwrap(), Duration::from_secs(5)).await;
        assert_eq!(status["sent"], 1, "round {round}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_registry_raw_tokens_and_topics_arrive_and_the_rest_is_not_available() {
    let world = World::start(json!({}), &[("store.registry", "false")]).await;
    let push =
        |recipient: Value| json!({"recipient": recipient, "notification": {"fcm": {"notification": {"title": "t"}}}});
    for (method, params) in [
        ("device_register", json!({"platform": "web", "token": "t"})),
        ("device_list", json!({})),
        ("send_push_notification", push(json!({"channels": ["news"]}))),
        ("send_push_notification", push(json!({"device_ids": ["a"]}))),
    ] {
        let answer = world.api.answer(method, &params).await;
        assert_eq!(answer["error"]["code"], 108, "{method}: {answer}");
    }
    let raw: Vec<String> = tokens("raw-", 1_500).collect();
    for (recipient, sent) in [
        (json!({"fcm_tokens": raw}), 1_500),
        (json!({"fcm_topic": "weather"}), 1),
    ] {
        let uid = world.api.call("send_push_notification", &push(recipient)).await["uid"].clone();
        let status = world.api.ended(uid.as_str().unwrap(), Duration::from_secs(30)).await;
        assert_eq!(status["sent"], sent, "{status}");
    }
}
