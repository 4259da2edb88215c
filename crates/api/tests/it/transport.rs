//! What holds for every request: keys, error modes, limits, and clients that go away.

use axum::body::Body;
use bugle_api::{Config, ErrorMode};
use http::{Request, StatusCode};
use serde_json::json;
use tower::ServiceExt;

use crate::harness::{Api, Backend, KEY, REGISTER};

#[tokio::test]
async fn without_the_right_key_there_is_nothing_but_401() {
    let api = Api::new().await;
    for path in ["/api", "/api/device_list", "/api/batch", "/api/no_such_thing"] {
        for key in [None, Some("wrong")] {
            let mut request = Request::post(path);
            if let Some(key) = key {
                request = request.header("authorization", format!("apikey {key}"));
            }
            let answer = api.ask(request.body(Body::from("not even JSON")).unwrap()).await;
            assert_eq!(
                (answer.status, answer.text.as_str()),
                (StatusCode::UNAUTHORIZED, ""),
                "{path} {key:?}"
            );
        }
    }
    for request in [
        Request::post("/api/device_list").header("authorization", format!("ApiKey {KEY}")),
        Request::post("/api/device_list").header("x-api-key", "another-key"),
        Request::post(format!("/api/device_list?api_key={KEY}")),
    ] {
        assert_eq!(
            api.ask(request.body(Body::from("{}")).unwrap()).await.status,
            StatusCode::OK
        );
    }
    let open = Api::with(
        Backend::Sqlite,
        Config {
            insecure: true,
            ..Config::default()
        },
        &[],
    )
    .await;
    let request = Request::post("/api/device_list").body(Body::from("{}")).unwrap();
    assert_eq!(open.ask(request).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_key_sees_its_own_app_only() {
    let api = Api::new().await;
    api.device("a").await;
    let ask = async |method: &str, key: &str, params: serde_json::Value| {
        let request = Request::post(format!("/api/{method}")).header("x-api-key", key);
        api.ask(request.body(Body::from(params.to_string())).unwrap())
            .await
            .json()
    };
    let push = json!({"uid": "p", "recipient": {"fcm_topic": "t"}, "notification": {"fcm": {"data": {"a": "b"}}}});
    assert_eq!(
        ask("send_push_notification", "another-key", push.clone()).await["result"]["uid"],
        "p"
    );
    let list = ask("device_list", "another-app", json!({})).await;
    assert_eq!(list["result"]["items"], json!([]));
    ask("device_remove", "another-app", json!({"ids": ["a"]})).await;
    assert_eq!(
        ask("push_status", "another-app", json!({"uid": "p"})).await["error"]["code"],
        104
    );
    let denied = ask("send_push_notification", "another-app", push).await;
    assert_eq!(denied["error"]["code"], 108, "that app has no credentials");
    assert_eq!(api.devices().await, 1);
}

#[tokio::test]
async fn an_error_is_told_as_a_status_where_asked_for() {
    let plain = Api::new().await;
    let transport = Api::with(
        Backend::Sqlite,
        Config {
            error_mode: ErrorMode::Transport,
            ..Config::default()
        },
        &[],
    )
    .await;
    let broken = Api::broken(Config {
        error_mode: ErrorMode::Transport,
        ..Config::default()
    });
    let uid = json!({"uid": "u"}).to_string();
    let asked = |path: &str, body: &str| {
        let request = Request::post(path)
            .header("x-api-key", KEY)
            .header("x-centrifugo-error-mode", "transport");
        request.body(Body::from(body.to_owned())).unwrap()
    };
    let answer = plain.ask(asked("/api/push_status", &uid)).await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (StatusCode::NOT_FOUND, "104 not found: push not found")
    );
    let one = r#"{"method": "push_status", "params": {"uid": "u"}}"#;
    assert_eq!(plain.ask(asked("/api", one)).await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        plain.ask(asked("/api", &format!("{one}{one}"))).await.status,
        StatusCode::OK
    );
    for (method, params, status) in [
        ("push_status", json!({"uid": "u"}), StatusCode::NOT_FOUND),
        ("device_remove", json!({}), StatusCode::BAD_REQUEST),
        ("device_update", json!({}), StatusCode::BAD_REQUEST),
        ("device_list", json!({}), StatusCode::OK),
    ] {
        assert_eq!(transport.call(method, &params).await.status, status, "{method}");
    }
    assert_eq!(
        broken.call("device_list", &json!({})).await.status,
        StatusCode::INTERNAL_SERVER_ERROR
    );
}

#[tokio::test]
async fn a_broken_database_is_an_error_object_without_details() {
    let api = Api::broken(Config::default());
    let channels = json!({"device_id": "a", "channels": ["x"]});
    for (method, params) in [
        ("device_register", json!({"platform": "web", "token": "t"})),
        ("device_remove", json!({"ids": ["a"]})),
        ("device_list", json!({})),
        ("device_subscription_add", channels.clone()),
        ("device_subscription_list", json!({})),
        ("push_status", json!({"uid": "u"})),
        ("cancel_push", json!({"uid": "u"})),
        (
            "send_push_notification",
            json!({"recipient": {"fcm_topic": "t"}, "notification": {"fcm": {"data": {"a": "b"}}}}),
        ),
    ] {
        assert_eq!(api.error(method, params).await, "100 internal server error", "{method}");
    }
    let panics = api.error("device_subscription_remove", channels).await;
    assert_eq!(panics, "100 internal server error");
}

#[tokio::test]
async fn health_tells_whether_the_database_answers() {
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let answer = Api::new().await.ask(get("/health")).await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (StatusCode::OK, r#"{"status":"ok"}"#)
    );
    let answer = Api::broken(Config::default()).ask(get("/health")).await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"unavailable"}"#)
    );
}

#[tokio::test]
async fn metrics_need_a_key_only_where_told() {
    let get = || Request::get("/metrics").body(Body::empty()).unwrap();
    let answer = Api::new().await.ask(get()).await;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, "bugle_up 1\n"));
    let closed = Api::with(
        Backend::Sqlite,
        Config {
            metrics_need_key: true,
            ..Config::default()
        },
        &[],
    )
    .await;
    assert_eq!(closed.ask(get()).await.status, StatusCode::UNAUTHORIZED);
    let request = Request::get("/metrics")
        .header("x-api-key", KEY)
        .body(Body::empty())
        .unwrap();
    assert_eq!(closed.ask(request).await.status, StatusCode::OK);
}

#[tokio::test]
async fn bodies_and_commands_have_limits() {
    let api = Api::with(
        Backend::Sqlite,
        Config {
            max_body_bytes: 2_000,
            max_commands: 3,
            ..Config::default()
        },
        &[],
    )
    .await;
    let pad = |bytes: usize| format!("{}{}", " ".repeat(bytes - REGISTER.len()), REGISTER);
    let answer = api.post("/api", pad(2_001)).await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (
            StatusCode::PAYLOAD_TOO_LARGE,
            "107 bad request: body: at most 2000 bytes"
        )
    );
    assert_eq!(api.devices().await, 0);
    assert_eq!(api.post("/api", pad(2_000)).await.status, StatusCode::OK);

    let list = r#"{"method":"device_list"}"#;
    assert_eq!(api.post("/api", list.repeat(3)).await.status, StatusCode::OK);
    let answer = api.post("/api", list.repeat(4)).await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (StatusCode::BAD_REQUEST, "107 bad request: body: at most 3 commands")
    );
    let batch = json!({"commands": vec![json!({"device_list": {}}); 4]});
    let answer = api.post("/api/batch", batch.to_string()).await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (StatusCode::BAD_REQUEST, "107 bad request: commands: at most 3")
    );
}

#[tokio::test]
async fn ten_thousand_raw_tokens_fit_into_a_request() {
    let api = Api::new().await;
    let tokens: Vec<_> = (0..10_000).map(|n| format!("{n:0>200}")).collect();
    let params = json!({"recipient": {"fcm_tokens": tokens}, "notification": {"fcm": {"data": {"a": "b"}}}});
    api.result("send_push_notification", params).await;
}

#[tokio::test]
async fn a_request_that_was_read_is_carried_out_though_its_client_is_gone() {
    let api = Api::new().await;
    let body = json!({"uid": "p", "recipient": {"fcm_topic": "t"}, "notification": {"fcm": {"data": {"a": "b"}}}});
    let request = Request::post("/api/send_push_notification").header("x-api-key", KEY);
    let request = request.body(Body::from(body.to_string())).unwrap();
    let mut client = Box::pin(api.router.clone().oneshot(request));
    // Polled until its task has been spawned; on one thread that task has not begun then.
    while api.tasks.is_empty() {
        let poll = std::future::poll_fn(|cx| std::task::Poll::Ready(client.as_mut().poll(cx).is_ready())).await;
        assert!(!poll, "it cannot have been answered yet");
    }
    drop(client);
    api.tasks.close();
    api.tasks.wait().await;
    assert_eq!(api.result("push_status", json!({"uid": "p"})).await["uid"], "p");
}

#[tokio::test]
async fn other_paths_and_verbs_are_refused() {
    let api = Api::new().await;
    let get = Request::get("/api")
        .header("x-api-key", KEY)
        .body(Body::empty())
        .unwrap();
    assert_eq!(api.ask(get).await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(api.post("/elsewhere", "{}").await.status, StatusCode::NOT_FOUND);
}
