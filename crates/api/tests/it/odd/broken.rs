//! Requests that cannot be read, or may not be.

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use serde_json::{Map, Value, json};

use super::{Odd, valid, wrap};
use crate::harness::KEY;

pub(super) fn broken_utf8(rng: &mut SmallRng) -> Odd {
    let (method, params) = valid(rng);
    let mut odd = wrap(rng, method, &params.to_string(), true);
    let at = rng.random_range(0..=odd.body.len());
    let bad = [
        b"\xff" as &[u8],
        b"\x80",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xf5\x80\x80\x80",
        b"\xc0\xaf",
    ];
    let bad = bad.choose(rng).unwrap();
    odd.body.splice(at..at, bad.iter().copied());
    odd
}

pub(super) fn cut_off(rng: &mut SmallRng) -> Odd {
    let (method, params) = valid(rng);
    let mut odd = wrap(rng, method, &params.to_string(), false);
    odd.body.truncate(rng.random_range(0..odd.body.len()));
    odd
}

/// Replaces one value by one of another type. What stands inside FCM's payload is left to FCM's own tests.
pub(super) fn wrong_type(rng: &mut SmallRng) -> Odd {
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

pub(super) fn deep(rng: &mut SmallRng) -> Odd {
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

pub(super) fn huge_list(rng: &mut SmallRng) -> Odd {
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

pub(super) fn odd_envelope(rng: &mut SmallRng) -> Odd {
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

pub(super) fn garbage(rng: &mut SmallRng) -> Odd {
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

pub(super) fn not_admitted(rng: &mut SmallRng) -> Odd {
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
