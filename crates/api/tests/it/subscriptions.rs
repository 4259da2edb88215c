//! `device_subscription_add`, `device_subscription_remove`, `device_subscription_list`.

use insta::assert_json_snapshot;
use rstest::rstest;
use serde_json::json;

use crate::harness::{Api, Backend, names};

#[rstest]
#[tokio::test]
async fn a_device_is_subscribed_and_unsubscribed(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    api.device("a").await;
    let add = json!({"device_id": "a", "channels": ["x", "y", "x"]});
    assert_eq!(api.result("device_subscription_add", add.clone()).await, json!({}));
    assert_eq!(
        api.result("device_subscription_add", add).await,
        json!({}),
        "twice is no error"
    );
    let list = api.result("device_subscription_list", json!({})).await;
    assert_eq!(names(&list, "channel"), ["x", "y"]);
    let remove = json!({"device_id": "a", "channels": ["x", "never had"]});
    assert_eq!(api.result("device_subscription_remove", remove).await, json!({}));
    let mut list = api.result("device_subscription_list", json!({})).await;
    assert!(list["items"][0]["id"].take().is_string());
    insta::allow_duplicates! {
    assert_json_snapshot!(list, @r#"
    {
      "items": [
        {
          "id": null,
          "device_id": "a",
          "device_token": "token-of-a",
          "device_platform": "android",
          "device_user": "",
          "channel": "y"
        }
      ],
      "has_more": false
    }
    "#);
    }
}

#[rstest]
#[tokio::test]
async fn an_unknown_device_is_not_found(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    for method in ["device_subscription_add", "device_subscription_remove"] {
        let params = json!({"device_id": "nobody", "channels": ["x"]});
        assert_eq!(api.error(method, params).await, "104 not found: device not found");
    }
}

#[rstest]
#[tokio::test]
async fn what_is_wrong_in_a_change_is_named(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    api.device("a").await;
    for method in ["device_subscription_add", "device_subscription_remove"] {
        for (params, problem) in [
            (
                json!({"channels": ["x"]}),
                "params.device_id: expected 1 to 64 of A-Z, a-z, 0-9, _ and -",
            ),
            (json!({"device_id": "a"}), "params.channels: must not be empty"),
            (
                json!({"device_id": "a", "channels": ["x", "a\u{7}b"]}),
                "params.channels[1]: must not contain control characters",
            ),
            (
                json!({"device_id": "a", "channels": ["x".repeat(256)]}),
                "params.channels[0]: at most 255 bytes, got 256",
            ),
        ] {
            assert_eq!(api.error(method, params).await, format!("107 bad request: {problem}"));
        }
    }
    assert_eq!(
        names(&api.result("device_subscription_list", json!({})).await, "channel"),
        [""; 0]
    );
}

#[rstest]
#[tokio::test]
async fn subscriptions_are_filtered_and_paged(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    for (id, user) in [("a", "u1"), ("b", "u2"), ("c", "u1")] {
        let params =
            json!({"id": id, "platform": "ios", "token": format!("t-{id}"), "user": user, "channels": ["all", id]});
        api.result("device_register", params).await;
    }
    for (params, expected) in [
        (json!({"channels": ["all"]}), &["a", "b", "c"] as &[_]),
        (json!({"channels": ["all", "b"], "device_ids": ["b"]}), &["b", "b"]),
        (json!({"device_users": ["u1"], "channels": ["all"]}), &["a", "c"]),
        (
            json!({"device_tokens": ["t-c"], "device_platforms": ["apns"], "device_providers": ["fcm"]}),
            &["c", "c"],
        ),
        (json!({"device_platforms": ["web"]}), &[]),
    ] {
        let list = api.result("device_subscription_list", params.clone()).await;
        assert_eq!(names(&list, "device_id"), expected, "{params}");
    }
    let mut seen = Vec::new();
    let mut cursor = json!("");
    loop {
        let page = api
            .result("device_subscription_list", json!({"limit": 4, "since": cursor}))
            .await;
        seen.extend(names(&page, "id"));
        if page["has_more"] == json!(false) {
            assert!(page.get("next_cursor").is_none());
            break;
        }
        cursor = page["next_cursor"].clone();
    }
    assert_eq!(seen.len(), 6);
    assert!(seen.is_sorted());
}
