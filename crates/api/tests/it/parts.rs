//! Servers that have only a part: no registry, no API.

use axum::body::Body;
use bugle_api::{Config, router_without_api};
use bugle_model::{AppId, Provider};
use bugle_service::{Limits, PushConfig, Service};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use rstest::rstest;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::harness::{Api, Backend, keys};

const OFF: &str = "108 not available: the device registry is switched off (store.registry = false)";

fn push(recipient: &Value) -> Value {
    json!({"recipient": recipient, "notification": {"fcm": {"data": {"a": "b"}}}})
}

#[tokio::test]
async fn without_a_registry_everything_that_needs_one_is_not_available() {
    let api = Api::without_registry().await;
    for (method, params) in [
        ("device_register", json!({"platform": "android", "token": "t"})),
        ("device_remove", json!({"ids": ["a"]})),
        ("device_restore", json!({"since": 1})),
        ("device_list", json!({})),
        ("device_subscription_add", json!({"device_id": "a", "channels": ["x"]})),
        (
            "device_subscription_remove",
            json!({"device_id": "a", "channels": ["x"]}),
        ),
        ("device_subscription_list", json!({})),
        ("send_push_notification", push(&json!({"channels": ["x"]}))),
        ("send_push_notification", push(&json!({"device_ids": ["a"]}))),
    ] {
        assert_eq!(api.error(method, params).await, OFF, "{method}");
    }
    let now = bugle_model::Clock::now(&*api.clock);
    assert!(
        api.store.open_legs(now, 10).await.unwrap().is_empty(),
        "nothing was written"
    );
}

#[tokio::test]
async fn without_a_registry_raw_tokens_and_topics_are_accepted_and_accounted_for() {
    let api = Api::without_registry().await;
    for (uid, recipient) in [
        ("raw", json!({"fcm_tokens": ["a", "b"]})),
        ("topic", json!({"fcm_topic": "x"})),
    ] {
        let mut asked = push(&recipient);
        asked["uid"] = json!(uid);
        assert_eq!(api.result("send_push_notification", asked).await["uid"], uid);
        let status = api.result("push_status", json!({"uid": uid})).await;
        assert_eq!(status["state"], "running", "{status}");
        api.result("cancel_push", json!({"uid": uid})).await;
    }
}

#[tokio::test]
async fn a_server_without_the_api_tells_its_health_and_metrics_and_sends_callers_elsewhere() {
    let whole = Api::new().await;
    let service = Service::new(
        whole.store,
        whole.clock,
        PushConfig::default(),
        Limits::default(),
        [(AppId::default_app(), Provider::Fcm)],
    );
    let metrics = std::sync::Arc::new(|| "bugle_up 1\n".to_owned());
    let router = router_without_api(std::sync::Arc::new(service), keys(), Config::default(), metrics);
    let ask = async |request: Request<Body>| {
        let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, String::from_utf8(bytes.to_vec()).unwrap())
    };
    for path in ["/api", "/api/device_list", "/api/batch", "/api/a/b"] {
        let (status, body) = ask(Request::post(path).body(Body::from("{}")).unwrap()).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, &body["error"]["code"]),
            (StatusCode::SERVICE_UNAVAILABLE, &json!(108)),
            "{path}: {body}"
        );
        assert!(body["error"]["message"].as_str().unwrap().contains("role"), "{body}");
    }
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(ask(get("/health")).await.0, StatusCode::OK);
    assert_eq!(ask(get("/metrics")).await, (StatusCode::OK, "bugle_up 1\n".to_owned()));
}

/// PostgreSQL takes no NUL in a text: wherever one may come in, it is the caller who is told, not the log.
#[rstest]
#[tokio::test]
async fn a_nul_in_any_text_is_refused_or_carried(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    let nul = "a\0b";
    let register = |field: &str, value: Value| {
        let mut params = json!({"id": "a", "platform": "android", "token": "t"});
        params[field] = value;
        ("device_register", params)
    };
    let mut calls = vec![
        register("id", json!(nul)),
        register("provider", json!(nul)),
        register("platform", json!(nul)),
        register("token", json!(nul)),
        register("user", json!(nul)),
        register("timezone", json!(nul)),
        register("locale", json!(nul)),
        register("meta", json!({"k": nul})),
        register("meta", json!({nul: "v"})),
        register("channels", json!([nul])),
        register("topics", json!([nul])),
        ("push_status", json!({"uid": nul})),
        ("cancel_push", json!({"uid": nul})),
        ("device_subscription_add", json!({"device_id": nul, "channels": ["x"]})),
        ("device_subscription_add", json!({"device_id": "a", "channels": [nul]})),
        (
            "device_subscription_remove",
            json!({"device_id": "a", "channels": [nul]}),
        ),
        ("send_push_notification", push(&json!({"channels": [nul]}))),
        ("send_push_notification", push(&json!({"device_ids": [nul]}))),
        ("send_push_notification", push(&json!({"fcm_tokens": [nul]}))),
        ("send_push_notification", push(&json!({"fcm_topic": nul}))),
    ];
    let fields = |method: &'static str, names: &'static [&'static str]| {
        names.iter().map(move |name| (method, json!({*name: [nul]})))
    };
    calls.extend(fields("device_remove", &["ids", "tokens", "users"]));
    calls.extend(fields("device_list", &["ids", "platforms", "tokens", "users"]));
    calls.extend(fields(
        "device_subscription_list",
        &[
            "device_ids",
            "device_platforms",
            "device_tokens",
            "device_users",
            "channels",
            "device_providers",
        ],
    ));
    for name in ["ids", "providers", "platforms", "users", "topics"] {
        calls.push(("device_list", json!({"filter": {name: [nul]}})));
    }
    for name in ["since", "cursor"] {
        calls.push(("device_list", json!({name: nul})));
        calls.push(("device_subscription_list", json!({name: nul})));
    }
    for (method, params) in calls {
        let error = api.error(method, params.clone()).await;
        assert!(error.starts_with("107 "), "{method} {params}: {error}");
    }
    // A payload is its sender's business: JSON escapes it, and it is stored as bytes.
    let data = json!({"recipient": {"fcm_tokens": ["t"]}, "notification": {"fcm": {"data": {"k": nul}}}, "uid": "nul"});
    api.result("send_push_notification", data).await;
    assert_eq!(api.devices().await, 0);
}
