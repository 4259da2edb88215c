//! `send_push_notification`, `push_status`, `cancel_push`.

use std::time::Duration;

use bugle_api::Config;
use bugle_model::Lane;
use insta::assert_json_snapshot;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Api, Backend};

const SEND: &str = "send_push_notification";

/// A push to channels has one leg for each platform.
const LEGS: usize = 3;

fn hello(recipient: &Value) -> Value {
    json!({"recipient": recipient, "notification": {"fcm": {"notification": {"title": "Hello", "body": "How are you?"}}}})
}

fn with(mut params: Value, path: &str, value: Value) -> Value {
    *params.pointer_mut(path).unwrap() = value;
    params
}

fn and(mut params: Value, field: &str, value: Value) -> Value {
    params[field] = value;
    params
}

#[rstest]
#[tokio::test]
async fn every_kind_of_recipient_is_accepted(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    api.device("a").await;
    for recipient in [
        json!({"device_ids": ["a", "unknown"]}),
        json!({"channels": ["test", "other"]}),
        json!({"fcm_tokens": ["t1", "t2"]}),
        json!({"fcm_topic": "news"}),
        json!({"fcm_topic": "news", "channels": [], "device_ids": null, "filter": {"ids": []}, "hms_topic": ""}),
    ] {
        let result = api.result(SEND, hello(&recipient)).await;
        assert_eq!(result["uid"].as_str().unwrap().len(), 36, "{recipient}");
    }
}

#[rstest]
#[tokio::test]
async fn exactly_one_kind_of_recipient_is_demanded(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    let expected =
        "107 bad request: params.recipient: expected exactly one of device_ids, channels, fcm_tokens, fcm_topic, got";
    for (recipient, got) in [
        (json!({}), "none"),
        (json!(null), "none"),
        (json!({"channels": []}), "none"),
        (json!({"channels": ["a"], "fcm_topic": "t"}), "channels, fcm_topic"),
    ] {
        assert_eq!(api.error(SEND, hello(&recipient)).await, format!("{expected} {got}"));
    }
}

#[rstest]
#[tokio::test]
async fn what_is_wrong_in_a_push_is_named(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    let good = hello(&json!({"channels": ["a"]}));
    for (params, problem) in [
        (
            hello(&json!({"device_ids": ["a", "b c"]})),
            "params.recipient.device_ids[1]: expected 1 to 64 of A-Z, a-z, 0-9, _ and -",
        ),
        (
            hello(&json!({"channels": [""]})),
            "params.recipient.channels[0]: must not be empty",
        ),
        (
            hello(&json!({"fcm_topic": "a/b"})),
            "params.recipient.fcm_topic: expected 1 to 900 of A-Z, a-z, 0-9, -, _, ., ~ and %",
        ),
        (
            hello(&json!({"fcm_tokens": vec!["t"; 10_001]})),
            "params.recipient.fcm_tokens: at most 10000 values, got 10001",
        ),
        (
            with(good.clone(), "/notification", json!({})),
            "params.notification.fcm: must be given",
        ),
        (
            with(good.clone(), "/notification", json!({"fcm": {}})),
            "params.notification.fcm: must not be empty",
        ),
        (
            and(good.clone(), "uid", json!("a b")),
            "params.uid: expected 1 to 128 printable ASCII characters without spaces",
        ),
        (
            and(good.clone(), "expire_at", json!(1_779_999_999)),
            "params.expire_at: must be later than the present",
        ),
        (
            and(good.clone(), "expire_at", json!(-1)),
            "params.expire_at: must be later than the present",
        ),
        (
            and(good.clone(), "send_at", json!(1_890_000_000)),
            "params.send_at: at most 28d ahead",
        ),
        (
            and(good.clone(), "priority", json!("high")),
            "params.priority: expected urgent or bulk, got \"high\"",
        ),
    ] {
        assert_eq!(api.error(SEND, params).await, format!("107 bad request: {problem}"));
    }
    assert_eq!(api.content().await["open legs"], 0);
}

#[rstest]
#[tokio::test]
async fn payloads_are_checked_before_anything_is_accepted(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let api = Api::on(backend).await;
    let fcm = |fcm: Value| with(hello(&json!({"channels": ["a"]})), "/notification/fcm", fcm);
    for wrong in [
        json!({"data": {"from": "x"}}),
        json!({"data": {"google.x": "x"}}),
        json!({"data": {"a": 1}}),
        json!({"android": {"ttl": "2419201s"}, "data": {"a": "b"}}),
        json!({"data": {"a": "x".repeat(4_100)}}),
        json!({"message": {"data": {"a": "b"}}, "data": {"a": "b"}}),
        json!({"message": {"data": {"a": "b"}, "token": "t"}}),
    ] {
        let error = api.error(SEND, fcm(wrong.clone())).await;
        assert!(
            error.starts_with("107 bad request: params.notification.fcm"),
            "{wrong}: {error}"
        );
    }
    let large = json!({"data": {"a": "x".repeat(3_000)}});
    api.result(SEND, fcm(large.clone())).await;
    let to_topic = with(hello(&json!({"fcm_topic": "t"})), "/notification/fcm", large);
    assert!(
        api.error(SEND, to_topic).await.starts_with("107 "),
        "a topic takes half as much"
    );
    assert_eq!(
        api.content().await["open legs"],
        LEGS,
        "only the large one was accepted"
    );
}

#[rstest]
#[tokio::test]
async fn what_is_not_built_yet_is_never_ignored(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    let good = hello(&json!({"channels": ["a"]}));
    for (params, field) in [
        (hello(&json!({"filter": {"users": ["u"]}})), "recipient.filter"),
        (
            hello(&json!({"fcm_condition": "'a' in topics"})),
            "recipient.fcm_condition",
        ),
        (hello(&json!({"hms_tokens": ["t"]})), "recipient.hms_tokens"),
        (hello(&json!({"hms_topic": "t"})), "recipient.hms_topic"),
        (hello(&json!({"hms_condition": "t"})), "recipient.hms_condition"),
        (hello(&json!({"apns_tokens": ["t"]})), "recipient.apns_tokens"),
        (hello(&json!({"webpush_tokens": ["t"]})), "recipient.webpush_tokens"),
        (and(good.clone(), "use_templating", json!(true)), "use_templating"),
        (and(good.clone(), "use_meta", json!(true)), "use_meta"),
        (and(good.clone(), "analytics_uid", json!("a")), "analytics_uid"),
        (
            and(good.clone(), "optimize_for_reliability", json!(true)),
            "optimize_for_reliability",
        ),
        (
            and(
                good.clone(),
                "localizations",
                json!({"de": {"translations": {"a": "b"}}}),
            ),
            "localizations",
        ),
        (
            and(good.clone(), "limit_strategy", json!({"rate_limit": {"key": "k"}})),
            "limit_strategy",
        ),
        (
            with(
                good.clone(),
                "/notification",
                json!({"apns": {"payload": {"aps": {"alert": "x"}}}}),
            ),
            "notification.apns",
        ),
        (
            with(good.clone(), "/notification", json!({"hms": {"message": {"x": 1}}})),
            "notification.hms",
        ),
        (
            with(good.clone(), "/notification", json!({"webpush": {"payload": {"x": 1}}})),
            "notification.webpush",
        ),
    ] {
        assert_eq!(
            api.error(SEND, params).await,
            format!("108 not available: {field} is not built yet")
        );
    }
}

#[rstest]
#[tokio::test]
async fn zero_values_are_not_set(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    let mut zeros = hello(&json!({"channels": ["a"]}));
    for field in ["use_templating", "use_meta", "optimize_for_reliability"] {
        zeros[field] = json!(false);
    }
    zeros["analytics_uid"] = json!("");
    zeros["localizations"] = json!({});
    zeros["limit_strategy"] = json!({"rate_limit": {"policies": []}});
    zeros["notification"]["apns"] = json!({"payload": {}});
    api.result(SEND, zeros).await;
}

#[rstest]
#[tokio::test]
async fn without_credentials_a_push_is_not_available(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::with(backend, Config::default(), &[]).await;
    let error = api.error(SEND, hello(&json!({"channels": ["a"]}))).await;
    assert_eq!(
        error,
        "108 not available: no credentials for the provider fcm are configured"
    );
    assert_eq!(api.content().await["open legs"], 0);
}

#[rstest]
#[tokio::test]
async fn the_priority_that_is_asked_for_overrides_the_lane(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let api = Api::on(backend).await;
    api.device("a").await;
    for (recipient, priority, urgent) in [
        (json!({"fcm_tokens": ["t1"]}), json!(null), true),
        (json!({"fcm_tokens": ["t1"]}), json!(""), true),
        (json!({"fcm_tokens": ["t1"]}), json!("bulk"), false),
        (json!({"device_ids": ["a"]}), json!("bulk"), false),
        (json!({"fcm_topic": "news"}), json!("bulk"), false),
        (json!({"device_ids": ["a"]}), json!("urgent"), true),
        (
            json!({"fcm_tokens": (0..101).map(|n| format!("t{n}")).collect::<Vec<_>>()}),
            json!(null),
            false,
        ),
        (
            json!({"fcm_tokens": (0..101).map(|n| format!("t{n}")).collect::<Vec<_>>()}),
            json!("urgent"),
            true,
        ),
    ] {
        let before = (api.waiting(Lane::Urgent).await, api.waiting(Lane::Bulk).await);
        api.result(SEND, and(hello(&recipient), "priority", priority.clone()))
            .await;
        let after = (api.waiting(Lane::Urgent).await, api.waiting(Lane::Bulk).await);
        let became_urgent = after.0 > before.0;
        assert_ne!(became_urgent, after.1 > before.1, "{recipient}, {priority}");
        assert_eq!(became_urgent, urgent, "{recipient}, {priority}");
    }
}

#[rstest]
#[tokio::test]
async fn a_uid_sends_once_and_belongs_to_one_request(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    let first = and(hello(&json!({"channels": ["a", "b", "a"]})), "uid", json!("order-1"));
    assert_eq!(api.result(SEND, first.clone()).await, json!({"uid": "order-1"}));
    api.clock.advance(Duration::from_mins(1));
    let same = json!({
        "uid": "order-1",
        "send_at": 1_780_000_500,
        "expire_at": 1_780_001_000,
        "notification": {"expire_at": 1_780_002_000, "fcm": {"notification": {"body": "How are you?", "title": "Hello"}}},
        "recipient": {"channels": ["a", "b"]},
        "unknown": 1,
    });
    assert_eq!(api.result(SEND, same).await, json!({"uid": "order-1"}));
    assert_eq!(api.content().await["open legs"], LEGS, "it was sent once");
    for other in [
        with(first.clone(), "/notification/fcm/notification/title", json!("Bye")),
        with(first.clone(), "/recipient", json!({"channels": ["a"]})),
        and(first.clone(), "priority", json!("bulk")),
        with(first, "/recipient", json!({"fcm_topic": "a"})),
    ] {
        assert_eq!(api.error(SEND, other).await, "113 conflict: another push has this uid");
    }
    assert_eq!(api.content().await["open legs"], LEGS);
}

#[rstest]
#[tokio::test]
async fn the_account_of_a_push_can_be_looked_at(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    let params = and(hello(&json!({"fcm_tokens": ["t"]})), "uid", json!("p"));
    api.result(SEND, params).await;
    let answer = api.result("push_status", json!({"uid": "p"})).await;
    insta::allow_duplicates! {
    assert_json_snapshot!(answer, @r#"
    {
      "uid": "p",
      "state": "running",
      "created_at": 1780000000,
      "targeted": 1,
      "sent": 0,
      "failed": 0,
      "invalid": 0,
      "skipped": 0,
      "expired": 0,
      "cancelled": 0,
      "waiting": 1,
      "legs": [
        {
          "provider": "fcm",
          "platform": "",
          "targeted": 1,
          "sent": 0,
          "failed": 0,
          "invalid": 0,
          "skipped": 0,
          "expired": 0,
          "cancelled": 0,
          "waiting": 1
        }
      ]
    }
    "#);
    }
    assert_eq!(
        api.error("push_status", json!({"uid": "nobody"})).await,
        "104 not found: push not found"
    );
    let error = api.error("push_status", json!({})).await;
    assert_eq!(
        error,
        "107 bad request: params.uid: expected 1 to 128 printable ASCII characters without spaces"
    );
}

#[rstest]
#[tokio::test]
async fn a_push_can_wait_and_be_called_off(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    let params = and(hello(&json!({"fcm_tokens": ["t"]})), "uid", json!("p"));
    api.result(SEND, and(params, "send_at", json!(1_780_003_600))).await;
    assert_eq!(
        api.result("push_status", json!({"uid": "p"})).await["state"],
        "scheduled"
    );
    assert_eq!(api.result("cancel_push", json!({"uid": "p"})).await, json!({}));
    assert_eq!(
        api.result("push_status", json!({"uid": "p"})).await["state"],
        "cancelled"
    );
    assert_eq!(
        api.error("cancel_push", json!({"uid": "q"})).await,
        "104 not found: push not found"
    );
}
