//! What FCM answers, token by token.

use bugle_sim::{Fault, Outcome, Settings};
use http::Method;
use serde_json::json;

use crate::client::{Answer, Http2, sim};

#[tokio::test]
async fn a_good_message_is_accepted_under_a_unique_name() {
    let sim = sim(Settings::default()).await;
    let client = Http2::authorized(&sim).await;
    let first = client.push("dQw4:APA91b").await.unwrap();
    let second = client.push("dQw4:APA91b").await.unwrap();
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200));
    let name = first.json()["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("projects/bugle-sim/messages/"), "{name}");
    assert_ne!(second.json()["name"], name.as_str());
    let stats = sim.stats();
    assert_eq!(
        (stats.requests, stats.outcome(Outcome::Accepted), stats.tokens),
        (2, 2, 1)
    );
    assert_eq!((stats.class(Outcome::Accepted), stats.repeats), (1, 1));
}

#[tokio::test]
async fn every_prefix_that_is_an_answer_is_answered_and_tallied_as_its_word() {
    let sim = sim(Settings::default()).await;
    let client = Http2::authorized(&sim).await;
    for (fault, status, canonical, code) in [
        (Fault::Unregistered, 404, "NOT_FOUND", Some("UNREGISTERED")),
        (Fault::NotFound, 404, "NOT_FOUND", None),
        (Fault::BadToken, 400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT")),
        (Fault::Payload, 400, "INVALID_ARGUMENT", None),
        (Fault::Mismatch, 403, "PERMISSION_DENIED", Some("SENDER_ID_MISMATCH")),
        (
            Fault::ThirdParty,
            401,
            "UNAUTHENTICATED",
            Some("THIRD_PARTY_AUTH_ERROR"),
        ),
        (Fault::Unauthorized, 401, "UNAUTHENTICATED", None),
        (Fault::Forbidden, 403, "PERMISSION_DENIED", None),
        (Fault::Quota, 429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED")),
        (Fault::DeviceQuota, 429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED")),
        (Fault::RateLimit, 429, "RESOURCE_EXHAUSTED", None),
        (Fault::Internal, 500, "INTERNAL", Some("INTERNAL")),
        (Fault::Unavailable, 503, "UNAVAILABLE", Some("UNAVAILABLE")),
    ] {
        let token = format!("{}-x", fault.name());
        let answer = client.push(&token).await.unwrap();
        assert_eq!(answer.status, status, "{token}");
        let body = answer.json();
        assert_eq!(body["error"]["code"], status, "{token}");
        assert_eq!(body["error"]["status"], canonical, "{token}");
        assert_eq!(answer.fcm_code().as_deref(), code, "{token}");
        let counts = sim.token(&token).unwrap();
        assert_eq!(
            (counts.class, counts.count(fault.outcome())),
            (Some(fault.outcome()), 1),
            "{token}"
        );
        assert_eq!(sim.stats().outcome(fault.outcome()), 1, "{token}");
    }
    assert_eq!(sim.stats().outcome(Outcome::Accepted), 0);
}

#[tokio::test]
async fn every_fault_can_be_asked_for_by_its_share_while_it_runs() {
    let sim = sim(Settings {
        slow_ms: 0,
        ..Settings::default()
    })
    .await;
    for fault in Fault::ALL {
        sim.merge(&json!({ "shares": null })).unwrap();
        sim.merge(&json!({ "shares": { fault.name(): 1000 } })).unwrap();
        let before = sim.stats();
        let client = Http2::authorized(&sim).await;
        tokio::select! {
            // An answer, a reset, the end of the connection: the statistics say which it was.
            _ = client.push("any-token") => {}
            () = sim.requests_reached(before.requests + 1), if fault == Fault::Silent => {}
        }
        while sim.stats().outcome(fault.outcome()) == before.outcome(fault.outcome()) {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn the_answers_that_are_told_apart_by_their_details_have_them() {
    let sim = sim(Settings {
        retry_after_s: Some(7),
        unavailable_retry_after_s: Some(9),
        ..Settings::default()
    })
    .await;
    let client = Http2::authorized(&sim).await;
    let push = async |token| client.push(token).await.unwrap();
    let retry_after = |answer: &Answer| {
        answer
            .headers
            .get("retry-after")
            .map(|value| value.to_str().unwrap().to_owned())
    };

    let payload = push("payload-x").await;
    assert!(payload.detail("google.rpc.BadRequest").unwrap()["fieldViolations"][0]["field"].is_string());
    let bad = push("badtoken-x").await;
    assert!(bad.detail("google.rpc.BadRequest").is_none());
    let text = "The registration token is not a valid FCM registration token";
    assert_eq!(bad.json()["error"]["message"], text);
    assert!(push("notfound-x").await.json()["error"]["details"].is_null());

    let subject = |answer: &Answer| {
        let quota = answer.detail("google.rpc.QuotaFailure").unwrap();
        quota["violations"][0]["subject"].as_str().unwrap().to_owned()
    };
    let (quota, device) = (push("quota-x").await, push("devicequota-x").await);
    assert_eq!(subject(&quota), "project:bugle-sim");
    assert_eq!(subject(&device), "device:devicequota-x");
    assert_eq!(retry_after(&quota).as_deref(), Some("7"));
    assert_eq!(retry_after(&device).as_deref(), Some("7"));
    assert_eq!(retry_after(&push("unavailable-x").await).as_deref(), Some("9"));
    sim.merge(&json!({ "retry_after_s": null, "unavailable_retry_after_s": null }))
        .unwrap();
    assert_eq!(retry_after(&push("unavailable-x").await), None);
    assert_eq!(retry_after(&push("ratelimit-x").await).as_deref(), Some("1"));
}

#[tokio::test]
async fn a_number_behind_the_word_says_how_often() {
    let sim = sim(Settings {
        slow_ms: 0,
        ..Settings::default()
    })
    .await;
    let client = Http2::authorized(&sim).await;
    for (token, expected) in [
        ("unavailable2-x", [503, 503, 200]),
        ("quota1-x", [429, 200, 200]),
        ("internal-x", [500, 500, 500]),
        ("unregistered1-x", [404, 200, 200]),
        ("slow-x", [200, 200, 200]),
    ] {
        for status in expected {
            assert_eq!(client.status(token).await, status, "{token}");
        }
    }
    sim.merge(&json!({ "faults_per_token": 1 })).unwrap();
    assert_eq!(client.status("internal-y").await, 500);
    assert_eq!(client.status("internal-y").await, 200);
    assert_eq!(sim.token("unavailable2-x").unwrap().class, Some(Outcome::Accepted));
}

#[tokio::test]
async fn a_wrong_message_is_malformed_and_not_a_payload_fault() {
    let sim = sim(Settings::default()).await;
    let client = Http2::authorized(&sim).await;
    let answer = client
        .message(&json!({ "token": "a", "data": { "from": "x" } }))
        .await
        .unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.detail("google.rpc.BadRequest").is_some());
    let answer = client.message(&json!({ "token": "a b" })).await.unwrap();
    assert!(answer.detail("google.rpc.BadRequest").is_none());
    assert_eq!(answer.fcm_code().as_deref(), Some("INVALID_ARGUMENT"));
    let answer = client
        .message(&json!({ "token": "a", "data": { "k": "x".repeat(5000) } }))
        .await
        .unwrap();
    assert_eq!(answer.json()["error"]["message"], "Android message is too big");
    let answer = client
        .message(&json!({ "token": "a", "data": { "k": "x".repeat(70_000) } }))
        .await
        .unwrap();
    assert_eq!(answer.status, 413);
    assert_eq!(sim.stats().outcome(Outcome::Malformed), 4);
    assert_eq!(sim.token("a").unwrap().class, Some(Outcome::Malformed));
    assert_eq!(sim.stats().outcome(Outcome::Payload), 0);
}

#[tokio::test]
async fn path_method_and_project_are_checked() {
    let sim = sim(Settings::default()).await;
    let client = Http2::authorized(&sim).await;
    let body = json!({ "message": { "token": "t" } });
    assert_eq!(client.post("/v1/projects/other/messages:send", &body).await.status, 403);
    assert_eq!(client.post("/v1/projects/bugle-sim/messages", &body).await.status, 404);
    assert_eq!(client.post("/v1/projects//messages:send", &body).await.status, 404);
    assert_eq!(client.get("/v1/projects/bugle-sim/messages:send").await.status, 404);
    assert_eq!(client.post("/fcm/send", &body).await.status, 404);
    let stats = sim.stats();
    assert_eq!(
        (
            stats.requests,
            stats.outcome(Outcome::Forbidden),
            stats.outcome(Outcome::Malformed)
        ),
        (4, 1, 3)
    );
}

#[tokio::test]
async fn topics_and_conditions_are_targets_too_and_validate_only_delivers_nothing() {
    let sim = sim(Settings::default()).await;
    let client = Http2::authorized(&sim).await;
    client.message(&json!({ "topic": "news" })).await.unwrap();
    client.message(&json!({ "condition": "'a' in topics" })).await.unwrap();
    assert_eq!(sim.token("topic:news").unwrap().count(Outcome::Accepted), 1);
    assert_eq!(
        sim.token("condition:'a' in topics").unwrap().count(Outcome::Accepted),
        1
    );
    let body = json!({ "message": { "token": "t" }, "validate_only": true });
    let answer = client.post("/v1/projects/bugle-sim/messages:send", &body).await;
    assert_eq!(answer.json()["name"], "projects/bugle-sim/messages/fake_message_id");
    let counts = sim.token("t").unwrap();
    assert_eq!(
        (counts.count(Outcome::Accepted), counts.count(Outcome::Validated)),
        (0, 1)
    );
    assert_eq!(sim.messages().len(), 2);
}

#[tokio::test]
async fn an_outage_meets_everybody_until_it_is_over() {
    let sim = sim(Settings {
        all: Some(Fault::Unavailable),
        ..Settings::default()
    })
    .await;
    let client = Http2::authorized(&sim).await;
    assert_eq!(client.status("a").await, 503);
    assert_eq!(client.message(&json!({ "topic": "news" })).await.unwrap().status, 503);
    sim.merge(&json!({ "all": "unauthorized" })).unwrap();
    assert_eq!(client.status("a").await, 401);
    sim.merge(&json!({ "all": null })).unwrap();
    assert_eq!(client.status("a").await, 200);
    let counts = sim.token("a").unwrap();
    assert_eq!(
        (counts.count(Outcome::Unavailable), counts.count(Outcome::Unauthorized)),
        (1, 1)
    );
    assert_eq!(counts.class, Some(Outcome::Accepted));
}

#[tokio::test]
async fn shares_hold_over_the_wire_and_the_listing_agrees_with_the_statistics() {
    let shares = [(Fault::Unregistered, 100), (Fault::Unavailable, 200)]
        .into_iter()
        .collect();
    let sim = sim(Settings {
        shares,
        ..Settings::default()
    })
    .await;
    let client = Http2::authorized(&sim).await;
    let (mut dead, mut unavailable) = (0, 0);
    for n in 0..500 {
        match client.status(&format!("token-{n}")).await {
            404 => dead += 1,
            503 => unavailable += 1,
            status => assert_eq!(status, 200),
        }
    }
    assert!(
        (20..90).contains(&dead) && (50..140).contains(&unavailable),
        "{dead} {unavailable}"
    );
    let stats = sim.stats();
    assert_eq!(stats.class(Outcome::Unregistered), dead);
    assert_eq!(stats.class(Outcome::Unavailable), unavailable);
    let listed = sim.tokens(Some(Outcome::Unregistered), None, 1000).unwrap();
    assert_eq!(u64::try_from(listed.tokens.len()).unwrap(), dead);
    assert_eq!(stats.outcomes.values().sum::<u64>(), stats.requests);
}

#[tokio::test]
async fn a_body_in_many_frames_is_one_message() {
    let sim = sim(Settings::default()).await;
    let client = Http2::authorized(&sim).await;
    let mut requests = client.requests.clone().ready().await.unwrap();
    let request = client.request(Method::POST, "/v1/projects/bugle-sim/messages:send");
    let (response, mut stream) = requests.send_request(request, false).unwrap();
    for part in ["{\"message\":", "{\"token\":\"t", "\"}}"] {
        stream.send_data(part.into(), false).unwrap();
        tokio::task::yield_now().await;
    }
    stream.send_data("".into(), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    assert_eq!(sim.token("t").unwrap().class, Some(Outcome::Accepted));
}
