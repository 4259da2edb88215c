//! `device_register`, `device_remove`, `device_list`.

use std::time::Duration;

use insta::assert_json_snapshot;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Api, Backend, names};

#[rstest]
#[tokio::test]
async fn registering_answers_the_whole_device(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    let params = json!({
        "id": "phone", "platform": "apns", "token": "t:1", "user": "u1", "meta": {"b": "2", "a": "1"},
        "timezone": "Europe/Berlin", "locale": "de-DE", "unknown": {"x": 1},
    });
    let answer = api.result("device_register", params).await;
    insta::allow_duplicates! {
    assert_json_snapshot!(answer, @r#"
    {
      "device": {
        "id": "phone",
        "platform": "apns",
        "provider": "fcm",
        "token": "t:1",
        "user": "u1",
        "meta": {
          "a": "1",
          "b": "2"
        },
        "created_at": 1780000000,
        "updated_at": 1780000000,
        "timezone": "Europe/Berlin",
        "locale": "de-DE"
      },
      "id": "phone"
    }
    "#);
    }
}

#[rstest]
#[tokio::test]
async fn an_id_is_made_and_a_known_token_gets_it_back(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    let params = json!({"platform": "android", "token": "t"});
    let first = api.result("device_register", params.clone()).await;
    assert_eq!(first["id"].as_str().unwrap().len(), 36);
    assert_eq!(first["id"], first["device"]["id"]);
    api.clock.advance(Duration::from_secs(5));
    let second = api.result("device_register", params).await;
    assert_eq!(first["id"], second["id"]);
    assert_eq!(second["device"]["created_at"], 1_780_000_000);
    assert_eq!(second["device"]["updated_at"], 1_780_000_005);
}

#[rstest]
#[tokio::test]
async fn registering_declares_the_whole_state(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    let full = json!({"id": "d", "platform": "web", "token": "t", "user": "u", "meta": {"a": "1"}, "locale": "en", "timezone": "UTC"});
    api.result("device_register", full).await;
    let bare = json!({"id": "d", "platform": "web", "token": "t2", "user": null, "meta": null, "locale": ""});
    let device = api.result("device_register", bare).await["device"].take();
    insta::allow_duplicates! {
    assert_json_snapshot!(device, @r#"
    {
      "id": "d",
      "platform": "web",
      "provider": "fcm",
      "token": "t2",
      "user": "",
      "meta": {},
      "created_at": 1780000000,
      "updated_at": 1780000000,
      "timezone": "",
      "locale": ""
    }
    "#);
    }
}

#[rstest]
#[tokio::test]
async fn one_token_is_one_device(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    api.device("old").await;
    let params = json!({"id": "new", "platform": "android", "token": "token-of-old"});
    api.result("device_register", params).await;
    assert_eq!(names(&api.result("device_list", json!({})).await, "id"), ["new"]);
}

fn wrong_fields() -> impl Iterator<Item = (&'static str, Value, &'static str)> {
    [
        (
            "platform",
            json!("symbian"),
            r#"params.platform: expected one of apns, ios, android, web, got "symbian""#,
        ),
        (
            "platform",
            json!(""),
            r#"params.platform: expected one of apns, ios, android, web, got """#,
        ),
        (
            "provider",
            json!("gcm"),
            r#"params.provider: expected one of fcm, apns, webpush, hms, got "gcm""#,
        ),
        ("token", json!(""), "params.token: must not be empty"),
        (
            "token",
            json!("x".repeat(4_097)),
            "params.token: at most 4096 characters, got 4097",
        ),
        (
            "id",
            json!("a b"),
            "params.id: expected 1 to 64 of A-Z, a-z, 0-9, _ and -",
        ),
        (
            "timezone",
            json!("Mars/Olympus"),
            "params.timezone: expected a name of the IANA time zone database, like Europe/Berlin",
        ),
        (
            "locale",
            json!("!"),
            "params.locale: expected a language tag like en or pt-BR",
        ),
        (
            "user",
            json!("x".repeat(257)),
            "params.user: at most 256 bytes, got 257",
        ),
        (
            "user",
            json!("a\nb"),
            "params.user: must not contain control characters",
        ),
        (
            "meta",
            json!({"k": "v".repeat(9_000)}),
            "params.meta: at most 8192 bytes of keys and values, got 9001",
        ),
        ("channels", json!(["a", ""]), "params.channels[1]: must not be empty"),
        (
            "topics",
            json!(vec!["a"; 257]),
            "params.topics: at most 256 values, got 257",
        ),
    ]
    .into_iter()
}

#[rstest]
#[tokio::test]
async fn what_is_wrong_in_a_registration_is_named_and_nothing_is_written(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let api = Api::on(backend).await;
    let good = json!({"platform": "android", "token": "t"});
    for (field, value, problem) in wrong_fields() {
        let mut params = good.clone();
        params[field] = value;
        assert_eq!(
            api.error("device_register", params).await,
            format!("107 bad request: {problem}")
        );
    }
    let quoted = json!({"platform": "android", "token": "se\"cret"});
    let error = api.error("device_register", quoted).await;
    assert!(
        error.starts_with("107 bad request: params.token: ") && !error.contains("cret"),
        "{error}"
    );
    let list = api.result("device_list", json!({"include_total_count": true})).await;
    assert_eq!(list["total_count"], 0);
}

#[rstest]
#[tokio::test]
async fn web_push_subscriptions_are_not_taken_yet(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    let params = json!({"platform": "web", "provider": "webpush", "token": "t"});
    let error = api.error("device_register", params).await;
    assert_eq!(
        error,
        "108 not available: provider: web push subscriptions are not built yet"
    );
}

#[rstest]
#[tokio::test]
async fn channels_and_topics_of_a_registration_are_kept_apart(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let api = Api::on(backend).await;
    let topics_of = async || {
        let list = api.result("device_list", json!({"include_topics": true})).await;
        list["items"][0]["topics"].clone()
    };
    let register = async |more: serde_json::Value| {
        let mut params = json!({"id": "d", "platform": "android", "token": "t"});
        params
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        api.result("device_register", params).await;
    };
    register(json!({"provider": "fcm", "topics": ["news"], "channels": ["chat"]})).await;
    assert_eq!(topics_of().await, json!(["chat", "news"]));
    register(json!({})).await;
    assert_eq!(topics_of().await, json!(["chat", "news"]), "absent leaves them");
    register(json!({"provider": "fcm"})).await;
    assert_eq!(
        topics_of().await,
        json!(["chat"]),
        "with a provider, absent topics are none"
    );
    register(json!({"channels": []})).await;
    assert_eq!(topics_of().await, json!([]), "present, even empty, replaces");
}

#[rstest]
#[tokio::test]
async fn devices_are_removed_by_id_token_and_user(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    for id in ["a", "b", "c", "d"] {
        api.device(id).await;
    }
    api.result(
        "device_register",
        json!({"id": "c", "platform": "web", "token": "tc", "user": "u"}),
    )
    .await;
    let params = json!({"ids": ["a", "unknown"], "tokens": ["token-of-b"], "users": ["u"]});
    assert_eq!(api.result("device_remove", params).await, json!({}));
    assert_eq!(names(&api.result("device_list", json!({})).await, "id"), ["d"]);
}

#[rstest]
#[tokio::test]
async fn removing_nothing_in_particular_removes_nothing(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let api = Api::on(backend).await;
    api.device("a").await;
    for params in [json!({}), json!({"ids": [], "tokens": null, "users": []})] {
        let error = api.error("device_remove", params).await;
        assert_eq!(
            error,
            "107 bad request: params.ids: at least one of ids, tokens, users must name something"
        );
    }
    assert_eq!(names(&api.result("device_list", json!({})).await, "id"), ["a"]);
}

#[rstest]
#[tokio::test]
async fn a_list_is_paged_by_its_last_id(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    for id in ["c", "a", "e", "b", "d"] {
        api.device(id).await;
    }
    let first = api
        .result("device_list", json!({"limit": 2, "include_total_count": true}))
        .await;
    assert_eq!(names(&first, "id"), ["a", "b"]);
    assert_eq!(
        (&first["has_more"], &first["next_cursor"], &first["total_count"]),
        (&json!(true), &json!("b"), &json!(5))
    );
    let second = api.result("device_list", json!({"limit": 2, "since": "b"})).await;
    assert_eq!(names(&second, "id"), ["c", "d"]);
    let last = api
        .result("device_list", json!({"limit": 2, "cursor": second["next_cursor"]}))
        .await;
    insta::allow_duplicates! {
    assert_json_snapshot!(last, @r#"
    {
      "items": [
        {
          "id": "e",
          "platform": "android",
          "provider": "fcm",
          "token": "token-of-e",
          "user": "",
          "created_at": 1780000000,
          "updated_at": 1780000000,
          "timezone": "",
          "locale": ""
        }
      ],
      "has_more": false
    }
    "#);
    }
    let empty = api.result("device_list", json!({"since": "zzz"})).await;
    assert_eq!(empty, json!({"items": [], "has_more": false}));
    assert_eq!(
        api.result("device_list", json!({"limit": 1_000_000})).await["items"]
            .as_array()
            .unwrap()
            .len(),
        5
    );
}

#[rstest]
#[tokio::test]
async fn a_list_without_a_limit_has_a_hundred(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    for n in 0..101 {
        api.device(&format!("d{n:03}")).await;
    }
    let list = api.result("device_list", json!({"limit": 0})).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 100);
    assert_eq!(list["next_cursor"], "d099");
}

#[rstest]
#[tokio::test]
async fn filters_are_anded_across_fields_and_ored_inside(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let api = Api::on(backend).await;
    for (id, platform, user) in [
        ("a", "apns", "u1"),
        ("b", "ios", "u2"),
        ("c", "android", "u1"),
        ("d", "web", "u3"),
    ] {
        let params =
            json!({"id": id, "platform": platform, "token": format!("t-{id}"), "user": user, "channels": [user]});
        api.result("device_register", params).await;
    }
    for (params, expected) in [
        (json!({"platforms": ["ios"]}), &["a", "b"] as &[_]),
        (
            json!({"platforms": ["apns", "web"], "users": ["u1", "u3"]}),
            &["a", "d"],
        ),
        (json!({"ids": ["c", "d", "x"], "tokens": ["t-d"]}), &["d"]),
        (json!({"filter": {"ids": ["c"], "platforms": null}}), &["c"]),
        (
            json!({"filter": {"topics": ["u1"], "providers": ["fcm"]}, "platforms": ["android"]}),
            &["c"],
        ),
        (json!({"filter": {"providers": ["hms"]}}), &[]),
        (json!({"ids": [], "users": null, "filter": {}}), &["a", "b", "c", "d"]),
    ] {
        assert_eq!(
            names(&api.result("device_list", params.clone()).await, "id"),
            expected,
            "{params}"
        );
    }
}

#[rstest]
#[tokio::test]
async fn what_is_wrong_in_a_list_is_named(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let api = Api::on(backend).await;
    for (params, problem) in [
        (
            json!({"limit": -1}),
            "107 bad request: params.limit: must not be negative, got -1",
        ),
        (
            json!({"since": "a", "cursor": "b"}),
            "107 bad request: params.cursor: cannot be combined with another since",
        ),
        (
            json!({"since": "a\0"}),
            "107 bad request: params.since: must not contain NUL",
        ),
        (
            json!({"ids": ["a"], "filter": {"ids": ["b"]}}),
            "107 bad request: params.filter.ids: cannot be combined with ids, which means the same",
        ),
        (
            json!({"filter": {"platforms": ["web", "tv"]}}),
            r#"107 bad request: params.filter.platforms[1]: expected one of apns, ios, android, web, got "tv""#,
        ),
        (
            json!({"users": vec!["u"; 1_001]}),
            "107 bad request: params.users: at most 1000 values, got 1001",
        ),
        (
            json!({"include_webpush_keys": true}),
            "108 not available: include_webpush_keys is not built yet",
        ),
    ] {
        assert_eq!(api.error("device_list", params).await, problem);
    }
}
