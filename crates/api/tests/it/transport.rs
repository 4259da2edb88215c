//! What holds for every method: ways in, keys, error modes, limits, and clients that go away.

use axum::body::Body;
use bugle_api::{Config, ErrorMode};
use http::{Request, StatusCode};
use serde_json::json;
use tower::ServiceExt;

use crate::harness::{Api, KEY};

const REGISTER: &str = r#"{"method": "device_register", "params": {"id": "a", "platform": "android", "token": "t"}}"#;

async fn devices(api: &Api) -> u64 {
    let list = api.result("device_list", json!({"include_total_count": true})).await;
    list["total_count"].as_u64().unwrap()
}

#[tokio::test]
async fn one_command_has_one_reply() {
    let api = Api::new();
    let answer = api
        .post("/api", r#"{"id": 7, "method": "device_list", "params": {}}"#)
        .await;
    assert_eq!(answer.text, r#"{"id":7,"result":{"items":[],"has_more":false}}"#);
    let answer = api.post("/api", r#"{"method": "device_list"}"#).await;
    assert_eq!(answer.text, r#"{"result":{"items":[],"has_more":false}}"#);
    let answer = api
        .post(
            "/api",
            r#"{"id": "x", "method": "push_status", "params": {"uid": "u"}}"#,
        )
        .await;
    assert_eq!(
        answer.text,
        r#"{"id":"x","error":{"code":104,"message":"not found: push not found"}}"#
    );
}

#[tokio::test]
async fn several_commands_run_in_order_and_an_error_stops_none() {
    let api = Api::new();
    let body = format!(
        "{REGISTER}\n{}\n\n{} {}\n",
        r#"{"id": 2, "method": "device_list", "params": {"limit": -1}}"#,
        r#"{"id": 3, "method": "no_such_thing", "params": {}}"#,
        r#"{"id": 4, "method": "device_remove", "params": {"ids": ["a"]}}"#,
    );
    let answer = api.post("/api", body).await;
    assert_eq!(answer.status, StatusCode::OK);
    let replies: Vec<_> = answer.text.split('\n').collect();
    assert_eq!(replies.len(), 4);
    assert!(replies[0].starts_with(r#"{"result":{"device":"#));
    assert_eq!(
        replies[1..],
        [
            r#"{"id":2,"error":{"code":107,"message":"bad request: params.limit: must not be negative, got -1"}}"#,
            r#"{"id":3,"error":{"code":104,"message":"not found: method \"no_such_thing\""}}"#,
            r#"{"id":4,"result":{}}"#,
        ]
    );
}

#[tokio::test]
async fn one_malformed_command_stops_all_before_the_first() {
    let api = Api::new();
    for (bad, problem) in [
        ("{", "body: EOF while parsing an object at line 2 column 1"),
        (
            "[]",
            "command 2: body: expected commands, each an object with method and params",
        ),
        ("{}", "command 2: method: must be given"),
        (
            r#"{"method": 5}"#,
            "command 2: method: expected a string, got an integer",
        ),
        (
            r#"{"method": "device_list", "id": []}"#,
            "command 2: id: expected a number or a string",
        ),
        (
            r#"{"method": "device_list", "params": []}"#,
            "command 2: params: expected an object, got an array",
        ),
        (
            r#"{"method": "device_list", "params": {"ids": 5}}"#,
            "command 2: params.ids: expected an array, got an integer",
        ),
        (
            r#"{"method": "no_such_thing", "params": 5}"#,
            "command 2: params: expected an object, got an integer",
        ),
    ] {
        let answer = api.post("/api", format!("{REGISTER}\n{bad}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
        let error = answer.error();
        assert!(
            error.starts_with("107 bad request: ") && error.ends_with(problem),
            "{bad}: {error}"
        );
    }
    for empty in ["", "  \n "] {
        let answer = api.post("/api", empty).await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (StatusCode::BAD_REQUEST, "107 bad request: body: expected a command")
        );
    }
    assert_eq!(devices(&api).await, 0);
}

#[tokio::test]
async fn a_batch_answers_by_method() {
    let api = Api::new();
    let body = json!({"parallel": true, "commands": [
        {"device_register": {"id": "a", "platform": "android", "token": "t"}},
        {"device_list": null},
        {"push_status": {"uid": "u"}},
        {"device_list": {"platforms": ["tv"]}},
        {"no_such_thing": {}},
        {"device_update": {}},
    ]});
    let answer = api.post("/api/batch", body.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let body = answer.json();
    let replies = body["replies"].as_array().unwrap();
    assert_eq!(replies.len(), 6);
    assert_eq!(replies[0]["device_register"]["id"], "a");
    assert_eq!(replies[1]["device_list"]["items"][0]["id"], "a");
    assert_eq!(
        replies[2],
        json!({"error": {"code": 104, "message": "not found: push not found"}})
    );
    let message =
        r#"bad request: commands[3].device_list.platforms[0]: expected one of apns, ios, android, web, got "tv""#;
    assert_eq!(replies[3], json!({"error": {"code": 107, "message": message}}));
    assert_eq!(replies[4]["error"]["code"], 104);
    assert_eq!(
        replies[5],
        json!({"error": {"code": 108, "message": "not available: device_update is not built yet"}})
    );
    assert_eq!(
        api.post("/api/batch", r#"{"commands": []}"#).await.text,
        r#"{"replies":[]}"#
    );
}

#[tokio::test]
async fn a_malformed_batch_runs_nothing() {
    let api = Api::new();
    let register = r#"{"device_register": {"id": "a", "platform": "android", "token": "t"}}"#;
    for (rest, problem) in [
        (
            r#", {}], "parallel": true"#,
            "body.commands[1]: expected exactly one method in a command",
        ),
        (
            r#", {"device_list": {}, "push_status": {}}]"#,
            "body.commands[1]: expected exactly one method in a command",
        ),
        (
            r#", {"device_list": 5}]"#,
            "commands[1].device_list: expected an object, got an integer",
        ),
        (
            r#", {"device_list": {"ids": [1]}}]"#,
            "commands[1].device_list.ids[0]: expected a string, got an integer",
        ),
        (
            r#", 5]"#,
            "body.commands[1]: expected an object of one method, got an integer",
        ),
        (
            r#"], "parallel": 1"#,
            "body.parallel: expected a boolean, got an integer",
        ),
    ] {
        let answer = api
            .post("/api/batch", format!(r#"{{"commands": [{register}{rest}}}"#))
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{rest}");
        assert_eq!(answer.error(), format!("107 bad request: {problem}"));
    }
    assert_eq!(api.post("/api/batch", "{}").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(devices(&api).await, 0);
}

#[tokio::test]
async fn a_methods_own_path_takes_an_object_only() {
    let api = Api::new();
    for body in ["", "null", "[]", "5", r#"["a", "fcm", "android", "t"]"#, "{} {}"] {
        let answer = api.post("/api/device_register", body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(answer.error().starts_with("107 bad request: params: "), "{answer:?}");
    }
    let answer = api.post("/api/no_such_thing", "{}").await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (StatusCode::OK, r#"104 not found: method "no_such_thing""#)
    );
    assert_eq!(devices(&api).await, 0);
}

#[tokio::test]
async fn methods_that_are_not_built_yet_say_so() {
    let api = Api::new();
    for method in [
        "device_update",
        "device_topic_update",
        "device_topic_list",
        "user_topic_update",
        "user_topic_list",
        "update_push_status",
    ] {
        assert_eq!(
            api.error(method, json!({})).await,
            format!("108 not available: {method} is not built yet")
        );
    }
}

#[tokio::test]
async fn without_the_right_key_there_is_nothing_but_401() {
    let api = Api::new();
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
        Config {
            insecure: true,
            ..Config::default()
        },
        &[],
    );
    let request = Request::post("/api/device_list").body(Body::from("{}")).unwrap();
    assert_eq!(open.ask(request).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_error_is_told_as_a_status_where_asked_for() {
    let plain = Api::new();
    let transport = Api::with(
        Config {
            error_mode: ErrorMode::Transport,
            ..Config::default()
        },
        &[],
    );
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
    let answer = Api::new().ask(get("/health")).await;
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
    let answer = Api::new().ask(get()).await;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, "bugle_up 1\n"));
    let closed = Api::with(
        Config {
            metrics_need_key: true,
            ..Config::default()
        },
        &[],
    );
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
        Config {
            max_body_bytes: 2_000,
            max_commands: 3,
            ..Config::default()
        },
        &[],
    );
    let pad = |bytes: usize| format!("{}{}", " ".repeat(bytes - REGISTER.len()), REGISTER);
    let answer = api.post("/api", pad(2_001)).await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (
            StatusCode::PAYLOAD_TOO_LARGE,
            "107 bad request: body: at most 2000 bytes"
        )
    );
    assert_eq!(devices(&api).await, 0);
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
    let api = Api::new();
    let tokens: Vec<_> = (0..10_000).map(|n| format!("{n:0>200}")).collect();
    let params = json!({"recipient": {"fcm_tokens": tokens}, "notification": {"fcm": {"data": {"a": "b"}}}});
    api.result("send_push_notification", params).await;
}

#[tokio::test]
async fn a_request_that_was_read_is_carried_out_though_its_client_is_gone() {
    let api = Api::new();
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
    let api = Api::new();
    let get = Request::get("/api")
        .header("x-api-key", KEY)
        .body(Body::empty())
        .unwrap();
    assert_eq!(api.ask(get).await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(api.post("/elsewhere", "{}").await.status, StatusCode::NOT_FOUND);
}
