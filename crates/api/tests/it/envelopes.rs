//! Commands: one, several, in a batch, on their own path; well-formed and not.

use http::StatusCode;
use serde_json::json;

use crate::harness::{Api, REGISTER};

#[tokio::test]
async fn one_command_has_one_reply() {
    let api = Api::new().await;
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
    let api = Api::new().await;
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
    let api = Api::new().await;
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
    assert_eq!(api.devices().await, 0);
}

#[tokio::test]
async fn a_parallel_batch_does_everything_once_and_answers_in_order() {
    let api = Api::new().await;
    let register =
        |i: usize| json!({"device_register": {"id": format!("p{i}"), "platform": "android", "token": format!("t{i}")}});
    let commands: Vec<_> = (0..1_000).map(register).collect();
    let answer = api
        .post(
            "/api/batch",
            json!({"parallel": true, "commands": commands}).to_string(),
        )
        .await;
    let body = answer.json();
    let replies = body["replies"].as_array().unwrap();
    assert_eq!(replies.len(), 1_000);
    for (i, reply) in replies.iter().enumerate() {
        assert_eq!(reply["device_register"]["id"], format!("p{i}"));
    }
    assert_eq!(api.devices().await, 1_000);
}

#[tokio::test]
async fn a_batch_answers_by_method() {
    let api = Api::new().await;
    let body = json!({"commands": [
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
    let api = Api::new().await;
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
            r", 5]",
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
    assert_eq!(api.devices().await, 0);
}

#[tokio::test]
async fn a_methods_own_path_takes_an_object_only() {
    let api = Api::new().await;
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
    assert_eq!(api.devices().await, 0);
}

#[tokio::test]
async fn methods_that_are_not_built_yet_say_so() {
    let api = Api::new().await;
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
