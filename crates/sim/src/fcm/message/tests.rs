use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn check(message: &Value) -> Option<Violation> {
    let body = json!({ "message": message }).to_string();
    read(body.as_bytes()).violation
}

fn with(part: &str, value: &Value) -> Option<Violation> {
    check(&json!({ "token": "t", part: value }))
}

#[test]
fn messages_that_fcm_takes_are_taken() {
    for message in [
        json!({"token": "dQw4w9:APA91b-_x"}),
        json!({"topic": "news"}),
        json!({"topic": "/topics/news"}),
        json!({"condition": "'a' in topics && 'b' in topics"}),
        json!({"token": "t", "topic": null, "data": null}),
        json!({"token": "t", "data": {"k": "v", "formal": "1"}}),
        json!({"token": "t", "notification": {"title": "Hello", "body": "ü", "image": "https://x/y.png"}}),
        json!({"token": "t", "android": {"priority": "high", "ttl": "3.5s", "collapseKey": "c", "notification": {"icon": "i"}}}),
        json!({"token": "t", "android": {"ttl": "2419200s", "data": {"a": "b"}}}),
        json!({"token": "t", "apns": {"headers": {"apns-priority": "5"}, "payload": {"aps": {"badge": 1}}}}),
        json!({"token": "t", "webpush": {"headers": {"TTL": "1"}, "data": {"a": "b"}, "notification": {"x": 1}}}),
        json!({"token": "t", "fcm_options": {"analytics_label": "spring_sale"}}),
        json!({"token": "t", "fcmOptions": {"analyticsLabel": "x"}}),
    ] {
        assert_eq!(check(&message), None, "{message}");
    }
}

#[test]
fn wrong_messages_are_refused_with_the_field_that_is_wrong() {
    for (message, field) in [
        (json!({}), "message"),
        (json!({"data": {}}), "message"),
        (json!({"token": "t", "topic": "x"}), "message"),
        (json!({"token": 7}), "message.token"),
        (json!({"topic": "a b"}), "message.topic"),
        (json!({"condition": ""}), "message.condition"),
        (json!({"token": "t", "extra": 1}), "message"),
        (json!({"token": "t", "data": {"k": 1}}), "message.data.k"),
        (json!({"token": "t", "data": {"from": "x"}}), "message.data"),
        (json!({"token": "t", "data": {"google.x": "x"}}), "message.data"),
        (json!({"token": "t", "data": {"gcmx": "x"}}), "message.data"),
        (json!({"token": "t", "data": []}), "message.data"),
        (
            json!({"token": "t", "notification": {"title": 1}}),
            "message.notification.title",
        ),
        (
            json!({"token": "t", "notification": {"titel": "x"}}),
            "message.notification",
        ),
        (json!({"token": "t", "android": {"ttl": 5}}), "message.android.ttl"),
        (json!({"token": "t", "android": {"ttl": "5"}}), "message.android.ttl"),
        (
            json!({"token": "t", "android": {"ttl": "2419201s"}}),
            "message.android.ttl",
        ),
        (
            json!({"token": "t", "android": {"ttl": "2419200.5s"}}),
            "message.android.ttl",
        ),
        (json!({"token": "t", "android": {"ttl": "-1s"}}), "message.android.ttl"),
        (
            json!({"token": "t", "android": {"priority": "urgent"}}),
            "message.android.priority",
        ),
        (json!({"token": "t", "android": "x"}), "message.android"),
        (
            json!({"token": "t", "apns": {"headers": {"a": 1}}}),
            "message.apns.headers.a",
        ),
        (json!({"token": "t", "apns": {"payload": "x"}}), "message.apns.payload"),
        (
            json!({"token": "t", "webpush": {"data": {"a": 1}}}),
            "message.webpush.data.a",
        ),
        (
            json!({"token": "t", "fcm_options": {"analytics_label": "a b"}}),
            "message.fcm_options.analytics_label",
        ),
    ] {
        let violation = check(&message).unwrap_or_else(|| panic!("{message} was taken"));
        assert_eq!(violation.field.as_deref(), Some(field), "{message}");
        assert!(violation.bad_request && !violation.token);
    }
}

#[test]
fn a_token_must_be_printable_ascii() {
    for token in ["", "a b", "ü", "a\nb", &"x".repeat(4097)] {
        assert!(
            check(&json!({ "token": token })).is_some_and(|violation| violation.token),
            "{token}"
        );
    }
    assert_eq!(check(&json!({ "token": "x".repeat(4096) })), None);
}

#[test]
fn the_size_is_counted_without_the_target() {
    // {"data":{"k":""}} is 17 bytes.
    let fits = json!({ "k": "x".repeat(4096 - 17) });
    assert_eq!(with("data", &fits), None);
    assert_eq!(
        with("data", &json!({ "k": "x".repeat(4096 - 16) })),
        Some(Violation::too_big())
    );
    assert_eq!(check(&json!({ "token": "t".repeat(4000), "data": fits })), None);
    assert_eq!(
        check(&json!({ "topic": "t", "data": { "k": "x".repeat(2048 - 17) } })),
        None
    );
    assert_eq!(
        check(&json!({ "topic": "t", "data": { "k": "x".repeat(2048 - 16) } })),
        Some(Violation::too_big())
    );
}

#[test]
fn what_is_no_json_object_is_refused() {
    for body in [
        &b""[..],
        b"[]",
        b"{",
        b"\"x\"",
        b"{\"message\":1}",
        b"{}",
        b"{\"message\":{\"token\":\"\xff\"}}",
    ] {
        assert!(read(body).violation.is_some());
    }
    assert!(read(b"{\"message\":{\"token\":\"t\"},\"dry\":1}").violation.is_some());
}

#[test]
fn the_target_is_known_even_of_a_wrong_message() {
    let message = read(b"{\"message\":{\"data\":{\"k\":1},\"token\":\"abc\"},\"validateOnly\":true}");
    assert_eq!(message.target, Some(Target::Token("abc".into())));
    assert!(message.violation.is_some() && message.validate_only);
}

proptest! {
    #[test]
    fn no_bytes_make_the_checks_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        read(&body);
    }

    #[test]
    fn no_duration_makes_the_checks_panic(text in "-?[0-9]{0,25}[.]?[0-9]{0,12}s?") {
        with("android", &json!({ "ttl": text }));
    }
}
