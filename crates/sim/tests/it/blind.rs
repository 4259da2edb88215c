//! The blind sink: any HTTP/2 client is served, nothing is looked at, everything is counted.

use bugle_sim::{BlindTokens, Config, Outcome, Sim};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::{Method, Request};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{Answer, Http2, assertion, grant, http1, tls_to};

async fn blind(config: Config) -> Sim {
    Sim::start(Config { blind: true, ..config }).await.unwrap()
}

async fn plain(sim: &Sim) -> Http2 {
    let address = sim.blind_addr().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    Http2::over(stream, format!("http://{address}")).await
}

async fn send(client: &Http2, n: usize) -> Answer {
    client.push(&format!("token-{n}")).await.unwrap()
}

#[tokio::test]
async fn every_request_is_answered_and_counted_plain_and_over_tls() {
    let sim = blind(Config {
        blind_threads: 2,
        ..Config::default()
    })
    .await;
    let address = sim.blind_addr().unwrap();
    for over_tls in [false, true] {
        sim.reset();
        let client = if over_tls {
            let tls = tls_to(address, sim.ca_pem(), &[b"h2"]).await.unwrap();
            assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            Http2::over(tls, format!("https://{address}")).await
        } else {
            plain(&sim).await
        };
        let answers: Vec<_> = stream::iter(0..3_000)
            .map(|n| send(&client, n))
            .buffer_unordered(90)
            .collect()
            .await;
        for answer in answers {
            assert_eq!(answer.status, 200);
            assert_eq!(answer.headers["content-type"], "application/json; charset=UTF-8");
            assert_eq!(answer.json()["name"], "projects/bugle-sim/messages/fake_message_id");
        }
        let report = sim.report();
        assert_eq!(
            (report.stats.requests, report.stats.outcome(Outcome::Accepted)),
            (3_000, 3_000)
        );
        let blind = report.blind.unwrap();
        assert_eq!(blind.requests, 3_000);
        assert!(blind.writes < 3_000 && blind.bytes_read > 3_000 * 60, "{blind:?}");
        assert_eq!((report.stats.tokens, report.stats.connections_open), (0, 1));
        drop(client);
        while sim.stats().connections_open > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn distinct_tokens_are_counted_when_that_is_asked_for() {
    let sim = blind(Config {
        blind_tokens: BlindTokens::Hashes,
        ..Config::default()
    })
    .await;
    let client = plain(&sim).await;
    for n in (0..500).chain(0..20) {
        send(&client, n).await;
    }
    client.message(&json!({ "topic": "news" })).await.unwrap();
    let report = sim.report();
    assert_eq!(
        (report.stats.requests, report.stats.tokens, report.stats.repeats),
        (521, 500, 20)
    );
    assert_eq!(report.blind.unwrap().without_token, 1);
    sim.reset();
    assert_eq!((sim.stats().requests, sim.stats().tokens), (0, 0));
}

#[tokio::test]
async fn numbered_tokens_are_counted_and_marked_ones_told_with_their_moment() {
    let sim = blind(Config {
        blind_tokens: BlindTokens::Numbers,
        ..Config::default()
    })
    .await;
    let client = plain(&sim).await;
    for n in (0..500).chain(0..20) {
        client.push(&format!("{n:09}:x")).await.unwrap();
    }
    client.push("nothing").await.unwrap();
    client.push("900000007:x").await.unwrap();
    let report = sim.report();
    assert_eq!(
        (report.stats.requests, report.stats.tokens, report.stats.repeats),
        (522, 500, 20)
    );
    assert_eq!(report.blind.unwrap().without_token, 1);
    let marks = Http2::open(&sim).await.get("/sim/marks").await.json();
    let (mark, clock) = (&marks["marks"][0], marks["clock_us"].as_u64().unwrap());
    assert_eq!(
        (marks["marks"].as_array().unwrap().len(), &mark[0]),
        (1, &json!(900_000_007))
    );
    assert!(mark[1].as_u64().unwrap() <= clock, "{marks}");
    sim.reset();
    assert_eq!((sim.stats().requests, sim.stats().tokens), (0, 0));
    assert_eq!(
        Http2::open(&sim).await.get("/sim/marks").await.json()["marks"],
        json!([])
    );
}

#[tokio::test]
async fn answers_take_as_long_as_the_settings_say_and_the_next_ones_do_not_wait_for_them() {
    let sim = blind(Config::default()).await;
    let client = plain(&sim).await;
    sim.merge(&json!({"latency": {"uniform": {"min": 30, "max": 70}}}))
        .unwrap();
    let began = std::time::Instant::now();
    let answers: Vec<_> = stream::iter(0..90)
        .map(|n| send(&client, n))
        .buffer_unordered(90)
        .collect()
        .await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert!(began.elapsed().as_millis() >= 50, "{:?}", began.elapsed());
    let late = sim.report().blind.unwrap();
    assert_eq!((late.requests, late.late), (90, 90));
    // The mean of 90 draws, and no less than is promised; a busy machine may be later.
    assert!(late.late_us / 90 > 40_000, "{late:?}");
    sim.merge(&json!({"latency": {"fixed": 3_600_000 / 6}})).unwrap();
    let waiting = client.push("waits");
    tokio::pin!(waiting);
    let early = tokio::time::timeout(std::time::Duration::from_millis(20), &mut waiting).await;
    assert!(early.is_err());
    sim.merge(&json!({"latency": null})).unwrap();
    assert_eq!(send(&client, 91).await.status, 200);
    assert_eq!(sim.report().blind.unwrap().late, 90);
}

#[tokio::test]
async fn a_body_of_megabytes_arrives_and_the_connection_goes_on() {
    let sim = blind(Config::default()).await;
    let client = plain(&sim).await;
    for _ in 0..3 {
        let request = client.request(Method::POST, "/v1/projects/bugle-sim/messages:send");
        let answer = client.send(request, "x".repeat(5 << 20)).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    assert_eq!(send(&client, 1).await.status, 200);
    assert!(sim.report().blind.unwrap().bytes_read > 15 << 20);
}

#[tokio::test]
async fn more_answers_than_the_clients_window_holds_arrive_all_the_same() {
    let sim = blind(Config::default()).await;
    let stream = TcpStream::connect(sim.blind_addr().unwrap()).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.header_table_size(0).initial_window_size(200);
    let (requests, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    // 5000 answers are more than the 65535 bytes that nobody has to announce.
    let answered = stream::iter(0..5_000)
        .map(|_| {
            let requests = requests.clone();
            async move {
                let request = Request::post("http://localhost/").body(()).unwrap();
                let (response, _) = requests.ready().await.unwrap().send_request(request, true).unwrap();
                let mut body = response.await.unwrap().into_body();
                while let Some(chunk) = body.data().await {
                    let length = chunk.unwrap().len();
                    body.flow_control().release_capacity(length).unwrap();
                }
            }
        })
        .buffer_unordered(80)
        .count()
        .await;
    assert_eq!((answered, sim.stats().requests), (5_000, 5_000));
}

#[tokio::test]
async fn the_port_that_checks_stays_as_it_is() {
    let sim = blind(Config::default()).await;
    let checking = Http2::authorized(&sim).await;
    assert_eq!(checking.status("unregistered-x").await, 404);
    let form = grant(&assertion(&sim, &json!({})));
    let request = Request::post("/token").header("host", sim.addr().to_string());
    let exchange = http1(
        TcpStream::connect(sim.addr()).await.unwrap(),
        request.body(form).unwrap(),
    )
    .await
    .unwrap();
    assert_eq!(exchange.status, 200);
    assert_eq!(plain(&sim).await.status("unregistered-x").await, 200);
    assert!(
        sim.blind_endpoint()
            .unwrap()
            .ends_with(&sim.blind_addr().unwrap().port().to_string())
    );
}

#[tokio::test]
async fn what_is_not_http_2_is_closed_and_stopping_cuts_the_rest() {
    let sim = blind(Config::default()).await;
    let address = sim.blind_addr().unwrap();
    let mut wrong = TcpStream::connect(address).await.unwrap();
    wrong.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    // The greeting may have left before it was noticed; a reset is an end too.
    let _ = wrong.read_to_end(&mut said).await;
    assert!(!said.starts_with(b"HTTP/1"));
    let client = plain(&sim).await;
    assert_eq!(send(&client, 1).await.status, 200);
    sim.stop().await;
    client.driver.await.unwrap().ok();
    assert!(TcpStream::connect(address).await.is_err());
}
