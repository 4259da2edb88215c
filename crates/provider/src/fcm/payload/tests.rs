use proptest::prelude::*;
use serde_json::json;

use super::super::request::Rendered;
use super::*;

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other}"),
    }
}

fn built(fcm: Value) -> Value {
    let text = build(&object(fcm), Addressee::Token).unwrap_or_else(|e| panic!("{e}"));
    serde_json::from_slice(&text).unwrap()
}

/// The path of the field that is refused, without its common start.
fn refused(fcm: impl Into<Value>) -> String {
    let fcm = fcm.into();
    let problem = build(&object(fcm.clone()), Addressee::Token).expect_err(&fcm.to_string());
    problem.field.strip_prefix(ROOT).unwrap().to_owned()
}

#[test]
fn the_documented_request_becomes_fcms_message() {
    let text = build(
        &object(json!({"notification": {"title": "Hello", "body": "How are you?"}})),
        Addressee::Token,
    )
    .unwrap();
    assert_eq!(text, br#"{"notification":{"title":"Hello","body":"How are you?"}}"#);
}

#[test]
fn every_typed_field_finds_its_place() {
    insta::assert_json_snapshot!(built(json!({
        "data": {"k": "v"},
        "notification": {"title": "t", "body": "b"},
        "android": {
            "collapse_key": "c", "ttl": "3.5s", "data": {"a": "1"}, "priority": "high",
            "notification": {"title": "t", "body": "b", "icon": "i", "color": "#fff000", "sound": "s", "tag": "g",
                "click_action": "x", "image": "u", "sticky": true, "channel_id": "news"},
            "fcm_options": {"analytics_label": "l"},
        },
        "apns": {
            "headers": {"apns-priority": "5"},
            "payload": {
                "aps": {"alert": {"title": "t", "subtitle": "s", "body": "b"}, "badge": 3, "sound": "default", "thread_id": "th",
                    "category": "cat", "content-available": 1},
                "data": {"x": "1", "data": "2"},
                "custom": [1, 2],
            },
            "fcm_options": {"analytics_label": "l", "image": "u"},
        },
        "web": {
            "headers": {"TTL": "60"}, "data": {"w": "1"},
            "notification": {"title": "t", "body": "b", "icon": "i", "tag": "g", "actions": []},
            "fcm_options": {"link": "https://example.com"},
        },
        "fcm_options": {"analytics_label": "l"},
        "future_field": {"a": [null, 1.5]},
    })));
}

#[test]
fn a_raw_message_passes_untouched() {
    let raw = json!({"webpush": {"fcm_options": {"link": "l"}}, "apns": {"payload": {"aps": {"thread_id": "stays"}, "data": {"a": 1}}}, "x": null});
    assert_eq!(built(json!({"message": raw})), raw);
    assert_eq!(built(json!({"message": raw, "data": null})), raw);
}

#[test]
fn nothing_stands_beside_a_raw_message() {
    assert_eq!(refused(json!({"message": {"data": {}}, "data": {}})), ".data");
    assert_eq!(refused(json!({"message": {"data": {}}, "other": 1})), ".other");
    assert_eq!(refused(json!({"message": "text"})), ".message");
}

#[test]
fn a_message_that_says_nothing_is_refused() {
    assert_eq!(refused(json!({})), "");
    assert_eq!(refused(json!({"data": null})), "");
    assert_eq!(refused(json!({"message": {}})), ".message");
    assert_eq!(refused(json!({"message": null})), "");
}

#[test]
fn the_recipient_alone_names_the_target() {
    for target in TARGETS {
        assert_eq!(refused(json!({"data": {}, target: "x"})), format!(".{target}"));
        assert_eq!(refused(json!({"message": {target: "x"}})), format!(".message.{target}"));
    }
}

/// The path that is named, and the notification.
const WRONG_TYPES: &str = r#"
.data                        {"data": []}
.data.k                      {"data": {"k": 1}}
.data.k                      {"data": {"k": null}}
.notification                {"notification": "x"}
.notification.title          {"notification": {"title": 1}}
.android                     {"android": []}
.android.ttl                 {"android": {"ttl": 3}}
.android.data.k              {"android": {"data": {"k": {}}}}
.android.notification.sticky {"android": {"notification": {"sticky": "yes"}}}
.android.collapse_key        {"android": {"collapse_key": 1}}
.apns.headers.apns-priority  {"apns": {"headers": {"apns-priority": 5}}}
.apns.payload                {"apns": {"payload": 1}}
.apns.payload.aps            {"apns": {"payload": {"aps": 1}}}
.apns.payload.aps.badge      {"apns": {"payload": {"aps": {"badge": "3"}}}}
.apns.payload.aps.badge      {"apns": {"payload": {"aps": {"badge": 1.5}}}}
.apns.payload.aps.alert      {"apns": {"payload": {"aps": {"alert": 1}}}}
.apns.payload.aps.alert.body {"apns": {"payload": {"aps": {"alert": {"body": 1}}}}}
.apns.payload.data.k         {"apns": {"payload": {"data": {"k": 1}}}}
.apns.payload.data.aps       {"apns": {"payload": {"data": {"aps": "x"}}}}
.apns.payload.data.x         {"apns": {"payload": {"x": 1, "data": {"x": "1"}}}}
.apns.payload.aps.thread_id  {"apns": {"payload": {"aps": {"thread_id": "a", "thread-id": "b"}}}}
.web                         {"web": 1}
.web.data.k                  {"web": {"data": {"k": 1}}}
.web.fcm_options.link        {"web": {"fcm_options": {"link": 1}}}
.webpush                     {"web": {}, "webpush": {}}
.webpush.headers             {"webpush": {"headers": 1}}
.fcm_options.analytics_label {"fcm_options": {"analytics_label": "a b"}}
.message.android.ttl         {"message": {"android": {"ttl": "-1s"}}}
.message.data.google.x       {"message": {"data": {"google.x": "1"}}}
.message.webpush.data        {"message": {"webpush": {"data": 1}}}
"#;

#[test]
fn wrong_types_are_named_by_their_path() {
    for line in WRONG_TYPES.trim().lines() {
        let (path, fcm) = line.split_once(' ').unwrap();
        assert_eq!(refused(serde_json::from_str::<Value>(fcm).unwrap()), path);
    }
}

#[test]
fn names_that_fcm_keeps_for_itself_are_refused() {
    for key in [
        "from",
        "message_type",
        "google",
        "google.sent_time",
        "googlemaps",
        "gcm",
        "gcm.notification.title",
    ] {
        assert_eq!(refused(json!({"data": {key: "x"}})), format!(".data.{key}"));
        assert_eq!(
            refused(json!({"android": {"data": {key: "x"}}})),
            format!(".android.data.{key}")
        );
        assert_eq!(
            refused(json!({"web": {"data": {key: "x"}}})),
            format!(".web.data.{key}")
        );
    }
    for key in ["From", "fromage", "collapse_key", "my.google", ""] {
        built(json!({"data": {key: "x"}}));
    }
}

#[test]
fn a_ttl_is_seconds_within_four_weeks() {
    for good in ["0s", "3.5s", "2419200s", "2419200.0s", "0.000000001s", "-0s", "007s"] {
        built(json!({"android": {"ttl": good}}));
    }
    for bad in [
        "",
        "s",
        "3",
        "3.5",
        "3 s",
        "-1s",
        "-0.1s",
        "2419201s",
        "2419200.1s",
        "1e3s",
        ".5s",
        "5.s",
        "1.0000000000s",
        "99999999999999999999s",
        "3m",
        "+3s",
        "٣s",
    ] {
        assert_eq!(refused(json!({"android": {"ttl": bad}})), ".android.ttl", "{bad}");
    }
}

#[test]
fn a_badge_may_be_boxed() {
    let boxed = built(json!({"apns": {"payload": {"aps": {"badge": {"value": 3}}}}}));
    assert_eq!(boxed, json!({"apns": {"payload": {"aps": {"badge": 3}}}}));
    let zero = built(json!({"apns": {"payload": {"aps": {"badge": 0}}}}));
    assert_eq!(zero, json!({"apns": {"payload": {"aps": {"badge": 0}}}}));
}

#[test]
fn the_size_limit_is_exact_and_smaller_for_topics() {
    let sized = |bytes: usize| {
        let empty = br#"{"data":{"k":""}}"#.len();
        object(json!({"data": {"k": "x".repeat(bytes - empty)}}))
    };
    for (to, max) in [
        (Addressee::Token, 4_096),
        (Addressee::Topic, 2_048),
        (Addressee::Condition, 2_048),
    ] {
        assert_eq!(build(&sized(max), to).unwrap().len(), max);
        let problem = build(&sized(max + 1), to).unwrap_err();
        assert_eq!(problem.field, ROOT);
        assert!(problem.problem.contains(&max.to_string()), "{problem}");
    }
}

#[test]
fn no_problem_quotes_a_value() {
    for fcm in [
        json!({"android": {"ttl": "SECRET"}}),
        json!({"data": {"k": ["SECRET"]}}),
        json!({"fcm_options": {"analytics_label": "SECRET!"}}),
    ] {
        let problem = build(&object(fcm), Addressee::Token).unwrap_err();
        assert!(!problem.to_string().contains("SECRET"), "{problem}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        ".{0,8}".prop_map(Value::from),
        "[0-9]{1,8}s".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(name(), inner, 0..5).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "message",
        "data",
        "notification",
        "android",
        "apns",
        "web",
        "webpush",
        "fcm_options",
        "payload",
        "aps",
        "alert",
        "badge",
        "thread_id",
        "thread-id",
        "ttl",
        "headers",
        "title",
        "token",
        "topic",
        "analytics_label",
        "sticky",
    ];
    prop_oneof![4 => prop::sample::select(KNOWN).prop_map(str::to_owned), 1 => ".{0,6}".prop_map(String::from)]
}

fn any_fcm() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::hash_map(name(), any_json(), 0..6).prop_map(|map| map.into_iter().collect())
}

proptest! {
    #[test]
    fn whatever_comes_in_a_message_or_a_path_comes_out(fcm in any_fcm()) {
        match build(&fcm, Addressee::Token) {
            Err(problem) => prop_assert!(problem.field.starts_with(ROOT)),
            Ok(text) => {
                prop_assert!(text.len() <= MAX_BYTES);
                let message: Map<String, Value> = serde_json::from_slice(&text).unwrap();
                prop_assert!(TARGETS.iter().all(|target| !message.contains_key(*target)));
                let raw = serde_json::value::RawValue::from_string(String::from_utf8(text).unwrap()).unwrap();
                prop_assert!(Rendered::new(&raw).is_ok(), "what was accepted can be sent");
                prop_assert!(!message.contains_key("web") || fcm.contains_key("message"));
            }
        }
    }

    #[test]
    fn what_was_built_is_a_raw_message_of_the_same_meaning(fcm in any_fcm()) {
        if let Ok(text) = build(&fcm, Addressee::Token) {
            let message: Value = serde_json::from_slice(&text).unwrap();
            let again = build(&object(json!({"message": message})), Addressee::Token);
            prop_assert_eq!(again.unwrap(), text);
        }
    }

    #[test]
    fn every_duration_in_range_is_a_ttl_and_no_other(seconds in 0_u64..5_000_000, nanos in 0_u32..1_000_000_000) {
        let ttl = format!("{seconds}.{nanos:09}s");
        let fits = seconds < 2_419_200 || (seconds == 2_419_200 && nanos == 0);
        let result = build(&object(json!({"android": {"ttl": ttl}})), Addressee::Token);
        prop_assert_eq!(result.is_ok(), fits);
    }

    #[test]
    fn a_dictionary_of_harmless_names_passes(data in prop::collection::hash_map("[a-eh-z]{1,8}", ".{0,20}", 1..8)) {
        let fcm = object(json!({"data": data}));
        let message: Value = serde_json::from_slice(&build(&fcm, Addressee::Token).unwrap()).unwrap();
        prop_assert_eq!(message, Value::Object(fcm));
    }
}
