//! Requests as FCM gets them, answers as the sender gets them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bugle_model::{Outcome, TargetKind};
use serde_json::{Value, json};

use crate::support::google::{Google, Reply, Seen, ok, status};
use crate::support::{client, config, credentials, run};

fn fcm_error(code: &str) -> String {
    json!({"error": {"details": [{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}]}})
        .to_string()
}

#[test]
fn a_request_is_what_the_reference_says() {
    run(async {
        let google = Google::start().await;
        let file = credentials(&google.token_uri(), "a");
        let seen = Rc::new(RefCell::new(Vec::<(String, String, String, Value)>::new()));
        let log = Rc::clone(&seen);
        google.on_send(move |request| {
            let content = request.headers["content-type"].to_str().unwrap().to_owned();
            log.borrow_mut().push((
                request.path.clone(),
                request.bearer().to_owned(),
                content,
                request.body.clone(),
            ));
            ok()
        });
        let fcm = client(&config(&google.url(), &file));
        let accepted = Outcome::Accepted;
        assert_eq!(fcm.message_id("abc").await, "projects/test-project/messages/1");
        assert_eq!(fcm.send_to(&TargetKind::Topic("ne\"ws".into())).await, accepted);
        assert_eq!(
            fcm.send_to(&TargetKind::Condition("'a' in topics".into())).await,
            accepted
        );
        let targets = [("token", "abc"), ("topic", "ne\"ws"), ("condition", "'a' in topics")];
        for ((path, bearer, content, body), (key, value)) in seen.borrow().iter().zip(targets) {
            assert_eq!(path, "/v1/projects/test-project/messages:send");
            assert_eq!((bearer.as_str(), content.as_str()), ("at1", "application/json"));
            assert_eq!(body, &json!({"message": {"notification": {"title": "t"}, key: value}}));
        }
        assert_eq!(google.sends.get(), 3);
    });
}

/// The token says what becomes of it.
fn scripted(request: &Seen) -> Reply {
    match request.token() {
        "dead" => status(404, fcm_error("UNREGISTERED")),
        "nowhere" => status(404, "<html>"),
        "bad" => status(400, json!({"error": {"status": "INVALID_ARGUMENT"}}).to_string()),
        "foreign" => status(403, fcm_error("SENDER_ID_MISMATCH")),
        "apns-key" => status(401, fcm_error("THIRD_PARTY_AUTH_ERROR")),
        "quota" => (429, vec![("retry-after", "7".into())], fcm_error("QUOTA_EXCEEDED")),
        "down" => (503, vec![("retry-after", "3".into())], String::new()),
        "past" => (
            503,
            vec![("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT".into())],
            String::new(),
        ),
        "huge" => status(404, "x".repeat(1_000_000)),
        _ => ok(),
    }
}

#[test]
fn every_kind_of_answer_reaches_the_sender() {
    run(async {
        let google = Google::start().await;
        let file = credentials(&google.token_uri(), "a");
        google.on_send(scripted);
        let fcm = client(&config(&google.url(), &file));
        let credential = |reason| Outcome::Credential {
            reason,
            exchange_refused: false,
        };
        let unavailable = |secs| Outcome::Transient {
            reason: "UNAVAILABLE",
            after: Some(Duration::from_secs(secs)),
            connection: None,
        };
        let cases = [
            ("dead", Outcome::Device { reason: "UNREGISTERED" }),
            ("nowhere", credential("NOT_FOUND")),
            (
                "bad",
                Outcome::Payload {
                    reason: "INVALID_ARGUMENT",
                },
            ),
            (
                "foreign",
                Outcome::Mismatch {
                    reason: "SENDER_ID_MISMATCH",
                },
            ),
            ("apns-key", credential("THIRD_PARTY_AUTH_ERROR")),
            (
                "quota",
                Outcome::Throttle {
                    after: Duration::from_secs(7),
                    whole: true,
                },
            ),
            ("down", unavailable(3)),
            ("past", unavailable(0)),
            ("huge", credential("NOT_FOUND")),
        ];
        for (token, outcome) in cases {
            assert_eq!(fcm.send(token).await, outcome, "{token}");
        }
        assert_eq!(google.exchanges.get(), 1);
    });
}

#[test]
fn a_flood_of_answers_exhausts_no_window() {
    run(async {
        let google = Google::start().await;
        let file = credentials(&google.token_uri(), "a");
        google.on_send(|_| status(400, "x".repeat(20_000)));
        let fcm = client(&config(&google.url(), &file));
        for _ in 0..10 {
            for outcome in fcm.send_many(100).await {
                assert_eq!(
                    outcome,
                    Outcome::Payload {
                        reason: "INVALID_ARGUMENT"
                    }
                );
            }
        }
    });
}
