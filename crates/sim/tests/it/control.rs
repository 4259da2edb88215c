//! The endpoints below `/sim`.

use bugle_sim::{Fault, Report, SeenMessage, Settings, Stats, TokenCounts, TokenPage};
use http::Request;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::client::{Http2, http1, sim};

#[tokio::test]
async fn settings_are_merged_and_what_is_unknown_is_refused() {
    let sim = sim(Settings::default()).await;
    let client = Http2::authorized(&sim).await;
    let answer = client
        .post("/sim/settings", &json!({ "shares": { "payload": 1000 }, "seed": 5 }))
        .await;
    assert_eq!((answer.status.as_u16(), &answer.json()["seed"]), (200, &json!(5)));
    assert_eq!(client.status("t").await, 400);
    let wrong = client.post("/sim/settings", &json!({ "sharse": {} })).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text.contains("sharse"), "{}", wrong.text);
    assert_eq!(
        client
            .post("/sim/settings", &json!({ "shares": { "payload": null } }))
            .await
            .status,
        200
    );
    assert_eq!(client.status("t").await, 200);
    let settings: Settings = serde_json::from_value(client.get("/sim/settings").await.json()).unwrap();
    assert_eq!(settings, sim.settings());
    assert_eq!(
        settings,
        Settings {
            seed: 5,
            ..Settings::default()
        }
    );
}

#[tokio::test]
async fn statistics_over_http_are_those_in_process_and_reset_clears_them() {
    let sim = sim(Settings::default()).await;
    let client = Http2::authorized(&sim).await;
    for token in ["a", "a", "b", "unregistered-c"] {
        client.push(token).await.unwrap();
    }
    let stats: Stats = serde_json::from_value(client.get("/sim/stats").await.json()).unwrap();
    assert_eq!(
        Stats {
            open_streams: 0,
            ..stats.clone()
        },
        Stats {
            open_streams: 0,
            ..sim.stats()
        }
    );
    assert_eq!(
        (stats.requests, stats.tokens, stats.repeats, stats.requests_repeated),
        (4, 3, 1, 1)
    );
    let after: Stats = serde_json::from_value(client.post("/sim/reset", &json!({})).await.json()).unwrap();
    assert_eq!(
        (after.requests, after.tokens, after.repeats, after.outcomes.len()),
        (0, 0, 0, 0)
    );
    assert_eq!(client.get("/sim/messages").await.json(), json!([]));
    assert_eq!(client.status("a").await, 200);
}

#[tokio::test]
async fn tokens_are_listed_by_class_page_by_page() {
    let sim = sim(Settings::default()).await;
    let client = Http2::authorized(&sim).await;
    for n in 0..30 {
        client
            .push(&format!("{}-{n}", if n % 3 == 0 { "unregistered" } else { "good" }))
            .await
            .unwrap();
    }
    let mut listed = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/sim/tokens?class=accepted&limit=7&after={after}");
        let page: TokenPage = serde_json::from_value(client.get(&path).await.json()).unwrap();
        listed.extend(page.tokens.into_iter().map(|token| token.token));
        let Some(next) = page.next else { break };
        after = next;
    }
    listed.sort_unstable();
    let mut expected: Vec<_> = (0..30).filter(|n| n % 3 != 0).map(|n| format!("good-{n}")).collect();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    for wrong in ["class=good", "limit=0", "limit=x", "limit=10001", "after=here"] {
        assert_eq!(client.get(&format!("/sim/tokens?{wrong}")).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn one_token_is_found_by_its_escaped_name() {
    let sim = sim(Settings::default()).await;
    let client = Http2::authorized(&sim).await;
    client.push("a/b:c?d%20").await.unwrap();
    let answer = client.get("/sim/tokens/a%2Fb:c%3Fd%2520").await;
    assert_eq!(
        answer.json(),
        json!({ "token": "a/b:c?d%20", "class": "accepted", "accepted": 1 })
    );
    serde_json::from_value::<TokenCounts>(answer.json()).unwrap();
    assert_eq!(client.get("/sim/tokens/nobody").await.status, 404);
}

#[tokio::test]
async fn the_newest_messages_can_be_looked_at() {
    let sim = sim(Settings::default()).await;
    let client = Http2::authorized(&sim).await;
    for n in 0..20 {
        client.push(&format!("t{n}")).await.unwrap();
    }
    client.push("unregistered-x").await.unwrap();
    let seen: Vec<SeenMessage> = serde_json::from_value(client.get("/sim/messages").await.json()).unwrap();
    assert_eq!(seen, sim.messages());
    assert_eq!(
        (seen.len(), seen[0].target.as_str(), seen[15].target.as_str()),
        (16, "t4", "t19")
    );
    assert_eq!(
        seen[15].message,
        json!({ "token": "t19", "notification": { "title": "Hello" } })
    );
}

#[tokio::test]
async fn control_works_over_http_1_and_needs_no_bearer() {
    let sim = sim(Settings::default()).await;
    let get = async |path: &str| {
        let request = Request::get(path)
            .header("host", "localhost")
            .body(String::new())
            .unwrap();
        http1(TcpStream::connect(sim.addr()).await.unwrap(), request)
            .await
            .unwrap()
    };
    assert_eq!(get("/sim/stats").await.json()["requests"], 0);
    assert!(get("/sim/help").await.text.contains("/sim/settings"));
    let page = get("/sim").await;
    assert_eq!(page.headers["content-type"], "text/html; charset=UTF-8");
    assert!(page.text.starts_with("<!doctype html>"), "{}", page.text);
    assert_eq!(get("/sim/ca.pem").await.text, sim.ca_pem());
    let account: Value = serde_json::from_str(&sim.service_account_json()).unwrap();
    assert_eq!(get("/sim/service-account.json").await.json(), account);
    assert_eq!(get("/sim/nothing").await.status, 404);
    assert_eq!(get("/").await.status, 404);
}

#[tokio::test]
async fn revoking_over_http_invalidates_the_bearers() {
    let sim = sim(Settings::default()).await;
    let client = Http2::authorized(&sim).await;
    assert_eq!(client.status("t").await, 200);
    assert_eq!(client.post("/sim/revoke", &json!({})).await.status, 200);
    assert_eq!(client.status("t").await, 401);
}

#[tokio::test]
async fn control_requests_are_no_messages() {
    let sim = sim(Settings {
        cut_every: Some(2),
        goaway_every: Some(3),
        ..Settings::default()
    })
    .await;
    let client = Http2::authorized(&sim).await;
    for _ in 0..10 {
        assert_eq!(client.get("/sim/stats").await.status, 200);
    }
    assert_eq!(client.status("t").await, 200);
    assert!(client.push("t").await.is_err());
}

#[tokio::test]
async fn the_statistics_say_what_the_process_has_cost_and_how_fast_it_goes() {
    let sim = sim(Settings::default()).await;
    let client = Http2::authorized(&sim).await;
    for n in 0..50 {
        client.push(&format!("t{n}")).await.unwrap();
    }
    let answer = client.get("/sim/stats").await.json();
    let report: Report = serde_json::from_value(answer.clone()).unwrap();
    assert!(report.rate_1s > 0.0 && report.uptime_s > 0.0, "{report:?}");
    for figure in ["requests", "rate_1s", "cpu_s", "peak_resident_bytes", "resident_bytes"] {
        assert!(answer[figure].as_f64().unwrap() >= 0.0, "{figure}");
    }
    assert_eq!(report.blind, None);
}

#[tokio::test]
async fn the_page_carries_the_figures_of_the_moment() {
    let sim = sim(Settings::default()).await;
    let client = Http2::authorized(&sim).await;
    let message = json!({ "token": "t", "notification": { "title": "</script><b>" } });
    client.message(&message).await.unwrap();
    let page = client.get("/sim").await.text;
    let (_, rest) = page.split_once("const figures = ").unwrap();
    let figures: Value = serde_json::from_str(rest.split_once(";\n").unwrap().0).unwrap();
    assert_eq!(figures["stats"]["requests"], 1);
    assert_eq!(figures["messages"][0]["message"], message);
    assert_eq!(figures["faults"].as_array().unwrap().len(), Fault::ALL.len());
    assert_eq!(page.matches("</script>").count(), 1);
}
