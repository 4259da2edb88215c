//! Ten thousand requests of which none is right.

mod broken;
mod values;

use axum::body::Body;
use bugle_api::Config;
use bugle_model::Provider;
use http::{Request, StatusCode};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, Backend, KEY};

const REQUESTS: usize = 10_000;
const SEED: u64 = 20_260_801;

/// What goes out. None of these may change anything.
struct Odd {
    path: String,
    body: Vec<u8>,
    key: Option<&'static str>,
}

#[rstest]
#[tokio::test]
async fn ten_thousand_odd_requests_change_nothing_and_break_nothing(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let api = Api::with(
        backend,
        Config {
            max_body_bytes: 1_000_000,
            ..Config::default()
        },
        &[Provider::Fcm],
    )
    .await;
    for id in ["a", "b", "c"] {
        api.device(id).await;
        let channels = json!({"device_id": id, "channels": ["x", id]});
        api.result("device_subscription_add", channels).await;
    }
    let before = api.content().await;
    let mut rng = SmallRng::seed_from_u64(SEED);
    for n in 0..REQUESTS {
        let (kind, odd) = draw(&mut rng);
        let mut request = Request::post(&odd.path);
        if let Some(key) = odd.key {
            request = request.header("x-api-key", key);
        }
        let shown = String::from_utf8_lossy(&odd.body[..odd.body.len().min(400)]).into_owned();
        let answer = api.ask(request.body(Body::from(odd.body)).unwrap()).await;
        assert!(is_refusal(&answer), "{n} {kind} {}: {shown}\n{answer:?}", odd.path);
        if n % 500 == 499 {
            assert_eq!(api.content().await, before, "after {n}");
        }
    }
    assert_eq!(api.content().await, before);
}

/// Either HTTP 4xx, or 200 with an error in at least one of its replies.
fn is_refusal(answer: &Answer) -> bool {
    if answer.status.is_client_error() {
        let empty = answer.status == StatusCode::UNAUTHORIZED;
        return empty == answer.text.is_empty() && (empty || answer.json()["error"]["code"] == 107);
    }
    let errs = |reply: &Value| reply["error"]["code"].as_u64().is_some_and(|code| code != 100);
    answer.status == StatusCode::OK
        && answer.text.split('\n').any(|line| {
            let reply: Value = serde_json::from_str(line).unwrap();
            errs(&reply)
                || reply["replies"]
                    .as_array()
                    .is_some_and(|replies| replies.iter().any(errs))
        })
}

fn draw(rng: &mut SmallRng) -> (&'static str, Odd) {
    type Make = fn(&mut SmallRng) -> Odd;
    let kinds: [(&str, Make); 12] = [
        ("broken UTF-8", broken::broken_utf8),
        ("cut off", broken::cut_off),
        ("wrong type", broken::wrong_type),
        ("deep", broken::deep),
        ("huge list", broken::huge_list),
        ("absent part", values::absent_part),
        ("odd token", values::odd_token),
        ("odd value", values::odd_value),
        ("odd envelope", broken::odd_envelope),
        ("garbage", broken::garbage),
        ("unbuilt or unknown", values::unbuilt),
        ("wrong key or too long", broken::not_admitted),
    ];
    let (kind, make) = kinds.choose(rng).unwrap();
    (kind, make(rng))
}

/// A request that would be carried out as it stands, with every typed field that its method knows.
fn valid(rng: &mut SmallRng) -> (&'static str, Value) {
    let calls = [
        (
            "device_register",
            json!({"id": "new", "provider": "fcm", "platform": "ios", "token": "t", "user": "u", "meta": {"k": "v"},
            "topics": ["n"], "channels": ["m"], "timezone": "UTC", "locale": "en"}),
        ),
        (
            "device_remove",
            json!({"ids": ["a"], "tokens": ["token-of-b"], "users": [""]}),
        ),
        (
            "device_list",
            json!({"ids": ["a"], "platforms": ["ios"], "tokens": ["t"], "users": ["u"], "since": "a", "limit": 5,
            "include_meta": true, "include_topics": true, "include_total_count": true, "filter": {"topics": ["x"], "providers": ["fcm"]}}),
        ),
        (
            "device_subscription_add",
            json!({"device_id": "a", "channels": ["new"]}),
        ),
        (
            "device_subscription_remove",
            json!({"device_id": "a", "channels": ["x"]}),
        ),
        (
            "device_subscription_list",
            json!({"device_ids": ["a"], "device_platforms": ["web"], "device_tokens": ["t"],
            "device_users": ["u"], "channels": ["x"], "since": "a", "limit": 5, "device_providers": ["fcm"]}),
        ),
        (
            "send_push_notification",
            json!({"recipient": {"channels": ["x"]}, "uid": "u", "send_at": 1, "expire_at": 1_780_005_000,
            "notification": {"fcm": {"data": {"a": "b"}}, "expire_at": 1_780_005_000}}),
        ),
        (
            "send_push_notification",
            json!({"recipient": {"device_ids": ["a"]}, "notification": {"fcm": {"notification": {"title": "t"}}}}),
        ),
        (
            "send_push_notification",
            json!({"recipient": {"fcm_tokens": ["a"]}, "notification": {"fcm": {"message": {"data": {"a": "b"}}}}}),
        ),
        ("push_status", json!({"uid": "u"})),
        ("cancel_push", json!({"uid": "u"})),
    ];
    calls.choose(rng).unwrap().clone()
}

/// Wraps a call in one of the three ways. Some get a valid change before them, which must not be carried out if the call is malformed;
/// so `first` must be false unless it is.
fn wrap(rng: &mut SmallRng, method: &str, params: &str, first: bool) -> Odd {
    let before = json!({"id": "sneaked", "platform": "web", "token": "sneaked"});
    let first = first && rng.random();
    let (path, body) = match rng.random_range(0..3) {
        0 => (format!("/api/{method}"), params.to_owned()),
        1 => {
            let before = if first {
                format!("{{\"method\":\"device_register\",\"params\":{before}}}\n")
            } else {
                String::new()
            };
            (
                "/api".to_owned(),
                format!(r#"{before}{{"id":1,"method":"{method}","params":{params}}}"#),
            )
        }
        _ => {
            let before = if first {
                format!("{{\"device_register\":{before}}},")
            } else {
                String::new()
            };
            (
                "/api/batch".to_owned(),
                format!(r#"{{"commands":[{before}{{"{method}":{params}}}]}}"#),
            )
        }
    };
    Odd {
        path,
        body: body.into_bytes(),
        key: Some(KEY),
    }
}
