//! Clients that hang up, and stores that cannot write.

use std::time::Duration;

use rstest::rstest;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::world::{Backends, KEY, World, tokens};

/// Sends a push and closes the socket without waiting for the answer.
async fn send_and_hang_up(addr: std::net::SocketAddr, uid: &str) {
    let body = json!({"recipient": {"channels": ["news"]}, "uid": uid, "notification": {"fcm": {"notification": {"title": "t"}}}}).to_string();
    let head = format!(
        "POST /api/send_push_notification HTTP/1.1\r\nHost: b\r\nX-API-Key: {KEY}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_does_not_strand_its_push(
    #[values(Backends::Embedded, Backends::Postgres, Backends::PostgresRedis)] backends: Backends,
) {
    const PUSHES: usize = 50;
    let world = World::start_with(backends, 1, json!({}), &[]).await;
    world.api.register_all(tokens("hangup-", 20)).await;
    for i in 0..PUSHES {
        send_and_hang_up(world.server.addr, &format!("hung-{i}")).await;
    }
    // Whatever was read is delivered to its end. A socket that was closed before the server read it may be lost, and then is unknown.
    let mut known = 0;
    for i in 0..PUSHES {
        let uid = format!("hung-{i}");
        for _ in 0..100 {
            let answer = world.api.answer("push_status", &json!({ "uid": uid })).await;
            if answer.get("result").is_some() {
                let status = world.api.ended(&uid, Duration::from_secs(10)).await;
                assert_eq!(status["sent"], 20, "{status}");
                known += 1;
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert!(known * 10 >= PUSHES * 9, "only {known} of {PUSHES} pushes were read");
    assert_eq!(
        world.sim.stats().outcome(bugle_sim::Outcome::Accepted),
        known as u64 * 20
    );
}

/// A client that never finishes its request is let go, and does not keep others out.
#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_let_go() {
    let world = World::start(
        json!({}),
        &[
            ("http.idle_timeout", "300ms"),
            ("http.body_timeout", "300ms"),
            ("http.max_connections", "4"),
        ],
    )
    .await;
    let mut slow = Vec::new();
    for start in [
        "POST /api HTTP/1.1\r\nHost",
        "POST /api HTTP/1.1\r\nHost: b\r\nX-API-Key: test-key\r\nContent-Length: 100\r\n\r\n{",
    ] {
        for _ in 0..4 {
            let mut stream = TcpStream::connect(world.server.addr).await.unwrap();
            stream.write_all(start.as_bytes()).await.unwrap();
            slow.push(stream);
        }
    }
    let answer = tokio::time::timeout(Duration::from_secs(10), world.api.call("device_list", &json!({}))).await;
    assert!(answer.is_ok(), "eight slow clients keep everybody else out");
}
