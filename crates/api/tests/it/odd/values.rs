//! Requests that can be read and are wrong.

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use super::{Odd, wrap};

pub(super) fn absent_part(rng: &mut SmallRng) -> Odd {
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

pub(super) fn odd_token(rng: &mut SmallRng) -> Odd {
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

pub(super) fn odd_value(rng: &mut SmallRng) -> Odd {
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

pub(super) fn unbuilt(rng: &mut SmallRng) -> Odd {
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
