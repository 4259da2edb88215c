//! Ten thousand requests of which none is right.

use axum::body::Body;
use bugle_api::Config;
use bugle_model::Provider;
use http::{Method, Request, StatusCode};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use crate::harness::{Answer, Api, KEY};

const REQUESTS: usize = 10_000;
const SEED: u64 = 20_260_801;

/// What goes out. None of these may change anything.
struct Odd {
    path: String,
    body: Vec<u8>,
    key: Option<&'static str>,
}

#[tokio::test]
async fn ten_thousand_odd_requests_change_nothing_and_break_nothing() {
    let api = Api::with(
        Config {
            max_body_bytes: 1_000_000,
            ..Config::default()
        },
        &[Provider::Fcm],
    );
    for id in ["a", "b", "c"] {
        api.device(id).await;
        let channels = json!({"device_id": id, "channels": ["x", id]});
        api.result("device_subscription_add", channels).await;
    }
    let before = api.content().await;
    let mut rng = SmallRng::seed_from_u64(SEED);
    for n in 0..REQUESTS {
        let (kind, odd) = draw(&mut rng);
        let mut request = Request::builder().method(Method::POST).uri(&odd.path);
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
    let kinds: [(&str, fn(&mut SmallRng) -> Odd); 12] = [
        ("broken UTF-8", broken_utf8),
        ("cut off", cut_off),
        ("wrong type", wrong_type),
        ("deep", deep),
        ("huge list", huge_list),
        ("absent part", absent_part),
        ("odd token", odd_token),
        ("odd value", odd_value),
        ("odd envelope", odd_envelope),
        ("garbage", garbage),
        ("unbuilt or unknown", unbuilt),
        ("wrong key or too long", not_admitted),
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

fn broken_utf8(rng: &mut SmallRng) -> Odd {
    let (method, params) = valid(rng);
    let mut odd = wrap(rng, method, &params.to_string(), true);
    let at = rng.random_range(0..=odd.body.len());
    let bad: &[u8] = [
        &[0xff] as &[u8],
        &[0x80],
        &[0xc3],
        &[0xed, 0xa0, 0x80],
        &[0xf5, 0x80, 0x80, 0x80],
        &[0xc0, 0xaf],
    ]
    .choose(rng)
    .unwrap();
    odd.body.splice(at..at, bad.iter().copied());
    odd
}

fn cut_off(rng: &mut SmallRng) -> Odd {
    let (method, params) = valid(rng);
    let mut odd = wrap(rng, method, &params.to_string(), false);
    odd.body.truncate(rng.random_range(0..odd.body.len()));
    odd
}

/// Replaces one value by one of another type. What stands inside FCM's payload is left to FCM's own tests.
fn wrong_type(rng: &mut SmallRng) -> Odd {
    let (method, mut params) = valid(rng);
    let mut places = Vec::new();
    collect(&params, String::new(), &mut places);
    let place = places.choose(rng).unwrap();
    let target = params.pointer_mut(place).unwrap();
    let others = [json!(true), json!(1.5), json!("text"), json!([[]]), json!({"k": {}})];
    let kind = std::mem::discriminant(&*target);
    let others: Vec<_> = others
        .into_iter()
        .filter(|other| std::mem::discriminant(other) != kind || target.is_i64())
        .collect();
    *target = others.choose(rng).unwrap().clone();
    wrap(rng, method, &params.to_string(), true)
}

fn collect(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(members) if !at.ends_with("/fcm") => {
            for (key, value) in members {
                collect(value, format!("{at}/{key}"), places);
            }
        }
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                collect(item, format!("{at}/{n}"), places);
            }
        }
        _ => {}
    }
    places.push(at);
}

fn deep(rng: &mut SmallRng) -> Odd {
    let depth = rng.random_range(130..20_000);
    let (open, close) = [("[", "]"), (r#"{"a":"#, "}")].choose(rng).copied().unwrap();
    let nested = format!("{}1{}", open.repeat(depth), close.repeat(depth));
    if rng.random_ratio(1, 4) {
        return Odd {
            path: "/api".to_owned(),
            body: nested.into_bytes(),
            key: Some(KEY),
        };
    }
    let field = ["data", "android", "message", "x"].choose(rng).unwrap();
    let params = format!(r#"{{"recipient":{{"channels":["x"]}},"notification":{{"fcm":{{"{field}":{nested}}}}}}}"#);
    wrap(rng, "send_push_notification", &params, true)
}

fn huge_list(rng: &mut SmallRng) -> Odd {
    let list = |length: usize| json!(vec!["x"; length]);
    let more = rng.random_range(1..100);
    let push = |recipient: Value| json!({"recipient": recipient, "notification": {"fcm": {"data": {"a": "b"}}}});
    let pairs = || -> Map<String, Value> { (0..64 + more).map(|n| (format!("k{n}"), json!("v"))).collect() };
    let (method, params) = match rng.random_range(0..9) {
        0 => ("device_remove", json!({"ids": list(1_000 + more)})),
        1 => ("device_list", json!({"tokens": list(1_000 + more)})),
        2 => (
            "device_subscription_add",
            json!({"device_id": "a", "channels": list(256 + more)}),
        ),
        3 => ("device_subscription_list", json!({"channels": list(1_000 + more)})),
        4 => (
            "device_register",
            json!({"platform": "web", "token": "t", "channels": list(256 + more)}),
        ),
        5 => (
            "device_register",
            json!({"platform": "web", "token": "t", "meta": pairs()}),
        ),
        6 => ("send_push_notification", push(json!({"channels": list(100 + more)}))),
        7 => (
            "send_push_notification",
            push(json!({"device_ids": list(10_000 + more)})),
        ),
        _ => (
            "send_push_notification",
            push(json!({"fcm_tokens": list(10_000 + more)})),
        ),
    };
    wrap(rng, method, &params.to_string(), false)
}

fn absent_part(rng: &mut SmallRng) -> Odd {
    let calls = [
        ("device_register", json!({"token": "t"})),
        ("device_register", json!({"platform": "web"})),
        ("device_register", json!({"platform": "web", "token": null})),
        ("device_remove", json!({})),
        ("device_remove", json!({"ids": [], "users": null})),
        ("device_subscription_add", json!({"channels": ["x"]})),
        ("device_subscription_add", json!({"device_id": "a"})),
        ("device_subscription_remove", json!({"device_id": "a", "channels": []})),
        ("send_push_notification", json!({"recipient": {"channels": ["x"]}})),
        (
            "send_push_notification",
            json!({"recipient": {"channels": ["x"]}, "notification": {"fcm": null}}),
        ),
        (
            "send_push_notification",
            json!({"notification": {"fcm": {"data": {"a": "b"}}}}),
        ),
        (
            "send_push_notification",
            json!({"recipient": {"channels": []}, "notification": {"fcm": {"data": {"a": "b"}}}}),
        ),
        ("push_status", json!({})),
        ("cancel_push", json!({"uid": ""})),
    ];
    let (method, params) = calls.choose(rng).unwrap();
    wrap(rng, method, &params.to_string(), false)
}

fn odd_token(rng: &mut SmallRng) -> Odd {
    let odd = [
        "\"",
        "\\",
        "\n",
        "\r\nHost: x",
        " ",
        "\0",
        "ü",
        "\u{202e}",
        "\u{7f}",
        "💥",
        "\t",
    ]
    .choose(rng)
    .unwrap();
    let mut token = "tok:en".to_owned();
    token.insert_str(rng.random_range(0..=token.len()), odd);
    if rng.random_ratio(1, 10) {
        token = "x".repeat(4_097);
    }
    let (method, params) = if rng.random() {
        (
            "device_register",
            json!({"id": "a", "platform": "android", "token": token}),
        )
    } else {
        let push = json!({"recipient": {"fcm_tokens": ["fine", token]}, "notification": {"fcm": {"data": {"a": "b"}}}});
        ("send_push_notification", push)
    };
    wrap(rng, method, &params.to_string(), false)
}

fn odd_value(rng: &mut SmallRng) -> Odd {
    let register = |field: &str, value: Value| {
        let mut params = json!({"id": "a", "platform": "android", "token": "changed"});
        params[field] = value;
        ("device_register", params)
    };
    let push = |field: &str, value: Value| {
        let mut params = json!({"recipient": {"channels": ["x"]}, "notification": {"fcm": {"data": {"a": "b"}}}});
        params[field] = value;
        ("send_push_notification", params)
    };
    let long = "x".repeat(5_000);
    let calls = [
        register("id", json!("a/b")),
        register("id", json!(long)),
        register("platform", json!("ANDROID")),
        register("provider", json!("fcm ")),
        register("timezone", json!("../../etc/passwd")),
        register("locale", json!("en\n")),
        register("user", json!(long)),
        register("user", json!("a\0b")),
        register("meta", json!({"": "v"})),
        register("meta", json!({"k": "\0"})),
        register("meta", json!({"k": "x".repeat(9_000)})),
        register("channels", json!(["x", "\u{1}"])),
        register("topics", json!(["x", long])),
        push("recipient", json!({"channels": ["x"], "fcm_topic": "t"})),
        push("recipient", json!({"fcm_topic": "'a' in topics"})),
        push("recipient", json!({"fcm_topic": "x".repeat(901)})),
        push("recipient", json!({"device_ids": ["a", "../b"]})),
        push("uid", json!("a b")),
        push("uid", json!(long)),
        push("expire_at", json!(1)),
        push("expire_at", json!(i64::MIN)),
        push("send_at", json!(i64::MAX)),
        ("device_list", json!({"limit": i64::MIN})),
        ("device_list", json!({"since": "a", "cursor": "b"})),
        ("device_list", json!({"platforms": ["a", "\u{0}"]})),
        ("device_list", json!({"users": ["\u{0}"]})),
        (
            "device_subscription_add",
            json!({"device_id": "nobody", "channels": ["x"]}),
        ),
        ("device_subscription_list", json!({"device_providers": [long]})),
        ("push_status", json!({"uid": "' or 1=1 --"})),
        ("push_status", json!({"uid": "unknown"})),
        ("cancel_push", json!({"uid": "unknown"})),
    ];
    let (method, params) = calls.choose(rng).unwrap();
    wrap(rng, method, &params.to_string(), false)
}

fn odd_envelope(rng: &mut SmallRng) -> Odd {
    let register = json!({"platform": "web", "token": "enveloped"});
    let command = json!({"method": "device_register", "params": register});
    let one = json!({"device_register": register});
    let (path, body) = match rng.random_range(0..12) {
        0 => ("/api", json!([command]).to_string()),
        1 => ("/api", json!(["1", "device_register", register]).to_string()),
        2 => (
            "/api",
            json!({"method": "device_register", "params": [null, null, "web", "enveloped"]}).to_string(),
        ),
        3 => (
            "/api",
            json!({"method": ["device_register"], "params": register}).to_string(),
        ),
        4 => (
            "/api",
            json!({"method": "device_register", "params": register, "id": {}}).to_string(),
        ),
        5 => ("/api", format!("{command}\n{command}\n]")),
        6 => ("/api", format!("{command},{command}")),
        7 => (
            "/api",
            format!(r#"{{"method":"device_register","method":"device_register","params":{register}}}"#),
        ),
        8 => ("/api/batch", json!({"commands": one}).to_string()),
        9 => ("/api/batch", json!({"commands": [one, [one]]}).to_string()),
        10 => ("/api/batch", json!({"commands": [one, {}]}).to_string()),
        _ => ("/api/batch", json!([[one]]).to_string()),
    };
    Odd {
        path: path.to_owned(),
        body: body.into_bytes(),
        key: Some(KEY),
    }
}

fn garbage(rng: &mut SmallRng) -> Odd {
    let path = [
        "/api",
        "/api/batch",
        "/api/device_register",
        "/api/send_push_notification",
    ]
    .choose(rng)
    .unwrap();
    let length = rng.random_range(0..300);
    let alphabet = br#"{}[]",:0123456789.eE+-truefalsnu \/"#;
    let body = if rng.random() {
        (0..length).map(|_| rng.random()).collect()
    } else {
        (0..length).map(|_| *alphabet.choose(rng).unwrap()).collect()
    };
    Odd {
        path: (*path).to_owned(),
        body,
        key: Some(KEY),
    }
}

fn unbuilt(rng: &mut SmallRng) -> Odd {
    let push = |field: &str, value: Value| {
        let mut params = json!({"recipient": {"channels": ["x"]}, "notification": {"fcm": {"data": {"a": "b"}}}});
        *params.pointer_mut(field).unwrap_or(&mut Value::Null) = value.clone();
        if let Some(name) = field.strip_prefix('/').filter(|name| !name.contains('/')) {
            params[name] = value;
        }
        ("send_push_notification", params)
    };
    let calls = [
        push("/use_templating", json!(true)),
        push("/use_meta", json!([0])),
        push("/limit_strategy", json!({"time_limit": {"no_tz_send_now": true}})),
        push("/recipient", json!({"filter": {"users": ["u"]}})),
        push("/recipient", json!({"apns_tokens": ["t"], "channels": ["x"]})),
        push("/notification", json!({"hms": {"message": {"data": "x"}}})),
        ("device_update", json!({"ids": ["a"], "user_update": {}})),
        ("user_topic_update", json!({"op": "set", "topics": []})),
        ("publish", json!({"channel": "x", "data": {}})),
        ("DEVICE_REMOVE", json!({"ids": ["a"]})),
        ("device_list", json!({"include_webpush_keys": true})),
    ];
    let (method, params) = calls.choose(rng).unwrap();
    wrap(rng, method, &params.to_string(), false)
}

fn not_admitted(rng: &mut SmallRng) -> Odd {
    let (method, params) = valid(rng);
    let mut odd = wrap(rng, method, &params.to_string(), false);
    if rng.random_ratio(1, 20) {
        odd.body.resize(1_000_001, b' ');
    } else {
        odd.key = [
            None,
            Some(""),
            Some("the-kez"),
            Some("the-key ignored"),
            Some("THE-KEY"),
        ]
        .choose(rng)
        .copied()
        .unwrap();
    }
    odd
}
