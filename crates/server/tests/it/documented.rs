//! The request of the documentation, as it stands.

use std::time::Duration;

use bugle_sim::Outcome;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{Api, World};

const BODY: &str = r#"{"method": "send_push_notification", "params": {"recipient": {"channels": ["test"]}, "notification": {"fcm": {"notification": {"title": "Hello", "body": "How are you?"}}}}}"#;

/// What `curl -X POST … -H 'Authorization: apikey KEY' -d …` puts on the wire, form content type included.
async fn curl(addr: std::net::SocketAddr, key: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "POST /api HTTP/1.1\r\nHost: {addr}\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nAuthorization: apikey {key}\r\nContent-Length: {}\r\nContent-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\r\n",
        BODY.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(BODY.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn subscribe(api: &Api, count: usize) {
    for i in 0..count {
        let platform = ["android", "apns", "web"][i % 3];
        let device = api
            .call(
                "device_register",
                &json!({"platform": platform, "token": format!("documented-{i}")}),
            )
            .await;
        api.call(
            "device_subscription_add",
            &json!({"device_id": device["device"]["id"], "channels": ["test"]}),
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_request_reaches_every_device_of_the_channel_once() {
    let world = World::start(json!({}), &[]).await;
    subscribe(&world.api, 150).await;
    world
        .api
        .call("device_register", &json!({"platform": "android", "token": "elsewhere"}))
        .await;
    let answer = curl(world.server.addr, crate::world::KEY).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let reply: Value = serde_json::from_str(body.trim()).unwrap();
    let uid = reply["result"]["uid"].as_str().unwrap();
    let status = world.api.ended(uid, Duration::from_secs(30)).await;
    assert_eq!(status["state"], "done");
    assert_eq!(status["sent"], 150);
    let stats = world.sim.stats();
    assert_eq!(
        (stats.outcome(Outcome::Accepted), stats.tokens, stats.repeats),
        (150, 150, 0)
    );
    world.assert_account_is_the_tally(&status);
    let message = &world.sim.messages()[0].message;
    assert_eq!(
        message["notification"],
        json!({"title": "Hello", "body": "How are you?"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_refused_with_401_and_an_empty_body() {
    let world = World::start(json!({}), &[]).await;
    let answer = curl(world.server.addr, "wrong").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    assert_eq!(body, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_four_kinds_of_recipients_arrive() {
    let world = World::start(json!({}), &[]).await;
    let mut ids = Vec::new();
    for i in 0..250 {
        let device = world
            .api
            .call(
                "device_register",
                &json!({"platform": "android", "token": format!("device-{i}")}),
            )
            .await;
        ids.push(device["device"]["id"].clone());
    }
    let fcm = json!({"fcm": {"data": {"k": "v"}, "notification": {"title": "t"}}});
    let send = async |recipient: Value| {
        world.sim.reset();
        let uid = world
            .api
            .call(
                "send_push_notification",
                &json!({"recipient": recipient, "notification": fcm}),
            )
            .await;
        let status = world
            .api
            .ended(uid["uid"].as_str().unwrap(), Duration::from_secs(30))
            .await;
        assert_eq!(status["state"], "done", "{status}");
        status
    };
    let few = send(json!({"device_ids": [ids[0], ids[1], "unknown-id"]})).await;
    assert_eq!(
        (few["sent"].as_u64(), few["skipped"].as_u64(), world.sim.stats().tokens),
        (Some(2), Some(1), 2)
    );
    ids.push(json!("unknown-id"));
    let many = send(json!({ "device_ids": ids })).await;
    assert_eq!(
        (
            many["sent"].as_u64(),
            many["skipped"].as_u64(),
            world.sim.stats().tokens
        ),
        (Some(250), Some(1), 250)
    );
    let tokens: Vec<String> = (0..10_000).map(|i| format!("raw-{i:05}-{}", "x".repeat(150))).collect();
    let raw = send(json!({ "fcm_tokens": tokens })).await;
    assert_eq!(
        (
            raw["sent"].as_u64(),
            world.sim.stats().tokens,
            world.sim.stats().repeats
        ),
        (Some(10_000), 10_000, 0)
    );
    let topic = send(json!({"fcm_topic": "weather"})).await;
    assert_eq!((topic["targeted"].as_u64(), topic["sent"].as_u64()), (Some(1), Some(1)));
    assert_eq!(world.sim.messages()[0].target, "topic:weather");
}
