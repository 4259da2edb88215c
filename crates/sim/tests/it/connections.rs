//! What happens to streams and connections.

use std::time::{Duration, Instant};

use bugle_sim::{Outcome, Settings};
use futures_util::future::join_all;
use h2::Reason;
use http::{Method, Request};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{Http2, http1, sim};

#[tokio::test]
async fn a_silent_token_holds_up_no_other_and_ends_with_the_clients_patience() {
    let sim = sim(Settings::default()).await;
    let client = Http2::authorized(&sim).await;
    tokio::select! {
        _ = client.push("silent-x") => panic!("a silent token was answered"),
        () = async {
            sim.requests_reached(1).await;
            assert_eq!(client.status("other").await, 200);
            assert_eq!(sim.stats().open_streams, 1);
        } => {}
    }
    // The dropped request resets its stream; a later answer proves that the reset has arrived before.
    assert_eq!(client.status("another").await, 200);
    client.get("/sim/stats").await;
    assert_eq!(sim.token("silent-x").unwrap().class, Some(Outcome::Silent));
    assert_eq!(sim.stats().outcome(Outcome::Lost), 0);
}

#[tokio::test]
async fn a_slow_token_is_accepted_late_and_latency_delays_everything() {
    let sim = sim(Settings {
        slow_ms: 60,
        latency_ms: 20,
        ..Settings::default()
    })
    .await;
    let client = Http2::authorized(&sim).await;
    let begun = Instant::now();
    assert_eq!(client.status("slow-x").await, 200);
    assert!(begun.elapsed() >= Duration::from_millis(60));
    let begun = Instant::now();
    assert_eq!(client.status("x").await, 200);
    assert!(begun.elapsed() >= Duration::from_millis(20));
    assert_eq!(sim.token("slow-x").unwrap().class, Some(Outcome::Accepted));
}

#[tokio::test]
async fn what_the_client_gave_up_before_its_answer_is_lost_and_not_accepted() {
    let sim = sim(Settings {
        slow_ms: 60_000,
        ..Settings::default()
    })
    .await;
    let client = Http2::authorized(&sim).await;
    tokio::select! {
        _ = client.push("slow1-x") => panic!("answered too early"),
        () = sim.requests_reached(1) => {}
    }
    assert_eq!(client.status("slow1-x").await, 200);
    let counts = sim.token("slow1-x").unwrap();
    assert_eq!((counts.count(Outcome::Lost), counts.count(Outcome::Accepted)), (1, 1));
    assert_eq!(sim.stats().repeats, 0);
}

#[tokio::test]
async fn a_cut_takes_the_connection_and_accepts_nothing() {
    let sim = sim(Settings::default()).await;
    let client = Http2::authorized(&sim).await;
    assert_eq!(client.status("first").await, 200);
    let error = client.push("cut-x").await.unwrap_err();
    assert!(error.is_io() || error.is_go_away(), "{error:?}");
    client.driver.await.unwrap().ok();
    let counts = sim.token("cut-x").unwrap();
    assert_eq!((counts.class, counts.count(Outcome::Accepted)), (Some(Outcome::Cut), 0));
    let again = Http2::authorized(&sim).await;
    assert_eq!(again.status("second").await, 200);
}

#[tokio::test]
async fn answers_given_before_a_cut_still_arrive() {
    let sim = sim(Settings {
        cut_every: Some(20),
        ..Settings::default()
    })
    .await;
    let client = Http2::authorized(&sim).await;
    let tokens: Vec<_> = (0..20).map(|n| format!("t{n}")).collect();
    let answers = join_all(tokens.iter().map(|token| client.push(token))).await;
    let answered = answers.iter().filter(|answer| answer.is_ok()).count();
    let stats = sim.stats();
    assert_eq!(stats.outcome(Outcome::Accepted), u64::try_from(answered).unwrap());
    assert_eq!(stats.outcome(Outcome::Cut), 1);
    assert_eq!(answered, 19);
}

#[tokio::test]
async fn a_refused_stream_is_surely_not_processed_and_the_next_try_is() {
    let sim = sim(Settings::default()).await;
    let client = Http2::authorized(&sim).await;
    let error = client.push("refused-x").await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM));
    assert!(error.is_reset() && error.is_remote());
    assert_eq!(client.status("refused-x").await, 200);
    let counts = sim.token("refused-x").unwrap();
    assert_eq!(
        (counts.count(Outcome::Refused), counts.count(Outcome::Accepted)),
        (1, 1)
    );
}

#[tokio::test]
async fn the_stream_limit_is_announced_and_never_passed() {
    let sim = sim(Settings {
        stream_limit: 7,
        latency_ms: 5,
        ..Settings::default()
    })
    .await;
    let client = Http2::authorized(&sim).await;
    assert_eq!(client.requests.current_max_send_streams(), 7);
    let tokens: Vec<_> = (0..50).map(|n| format!("t{n}")).collect();
    for answer in join_all(tokens.iter().map(|token| client.push(token))).await {
        assert_eq!(answer.unwrap().status, 200);
    }
    let stats = sim.stats();
    assert_eq!((stats.peak_streams, stats.outcome(Outcome::Accepted)), (7, 50));
    sim.merge(&json!({ "stream_limit": 9 })).unwrap();
    assert_eq!(client.requests.current_max_send_streams(), 7);
    assert_eq!(Http2::authorized(&sim).await.requests.current_max_send_streams(), 9);
}

#[tokio::test]
async fn goaway_names_the_last_message_and_later_streams_are_not_processed() {
    let sim = sim(Settings {
        goaway_every: Some(5),
        latency_ms: 10,
        ..Settings::default()
    })
    .await;
    let client = Http2::authorized(&sim).await;
    let tokens: Vec<_> = (0..12).map(|n| format!("t{n}")).collect();
    let answers = join_all(tokens.iter().map(|token| client.push(token))).await;
    let (done, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), refused.len()), (5, 7));
    for error in refused {
        let error = error.unwrap_err();
        assert!(error.is_go_away() && error.is_remote(), "{error:?}");
        assert_eq!(error.reason(), Some(Reason::NO_ERROR));
    }
    client.driver.await.unwrap().unwrap();
    let stats = sim.stats();
    assert_eq!(
        (stats.goaways, stats.unprocessed, stats.tokens, stats.requests),
        (1, 7, 5, 5)
    );
    assert_eq!(stats.outcome(Outcome::Accepted), 5);
}

#[tokio::test]
async fn a_drained_connection_is_closed_even_on_a_client_that_stays() {
    let sim = sim(Settings {
        goaway_every: Some(1),
        ..Settings::default()
    })
    .await;
    let mut stream = TcpStream::connect(sim.addr()).await.unwrap();
    // The preface, empty SETTINGS, and HEADERS of stream 1 with END_STREAM: POST http /v1/x.
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(b"\0\0\x09\x01\x05\0\0\0\x01\x83\x86\x04\x05/v1/x");
    stream.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let goaway = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0";
    assert!(answer.windows(goaway.len()).any(|window| window == goaway));
    assert!(answer.windows(9).any(|window| window == b"Not Found"));
    assert_eq!(sim.stats().outcome(Outcome::Malformed), 1);
}

#[tokio::test]
async fn every_connection_has_its_own_count_to_the_goaway() {
    let sim = sim(Settings {
        goaway_every: Some(2),
        ..Settings::default()
    })
    .await;
    for _ in 0..2 {
        let client = Http2::authorized(&sim).await;
        assert_eq!(client.status("t").await, 200);
        assert_eq!(client.status("t").await, 200);
        client.driver.await.unwrap().unwrap();
    }
    assert_eq!(sim.stats().goaways, 2);
}

#[tokio::test]
async fn connections_are_counted_while_they_live() {
    let sim = sim(Settings::default()).await;
    let (one, two) = (Http2::authorized(&sim).await, Http2::authorized(&sim).await);
    assert_eq!((sim.stats().connections_open, sim.stats().connections_opened), (2, 2));
    drop(one.requests);
    one.driver.await.unwrap().unwrap();
    while sim.stats().connections_open > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(two.status("t").await, 200);
    sim.stop().await;
    assert!(two.push("t").await.is_err());
}

#[tokio::test]
async fn messages_and_faults_work_over_http_1_too() {
    let sim = sim(Settings::default()).await;
    let bearer = Http2::authorized(&sim).await.bearer.unwrap();
    let push = async |token: &str| {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/v1/projects/bugle-sim/messages:send")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {bearer}"))
            .body(json!({ "message": { "token": token } }).to_string())
            .unwrap();
        http1(TcpStream::connect(sim.addr()).await.unwrap(), request).await
    };
    assert_eq!(push("t").await.unwrap().status, 200);
    assert_eq!(push("unregistered-t").await.unwrap().status, 404);
    assert!(push("cut-t").await.is_err());
    assert!(push("refused-t").await.is_err());
    tokio::select! {
        _ = push("silent-t") => panic!("a silent token was answered"),
        () = sim.requests_reached(5) => {}
    }
    let stats = sim.stats();
    assert_eq!(stats.requests, 5);
    for outcome in [Outcome::Accepted, Outcome::Unregistered, Outcome::Cut, Outcome::Refused] {
        assert_eq!(stats.outcome(outcome), 1, "{outcome:?}");
    }
}
