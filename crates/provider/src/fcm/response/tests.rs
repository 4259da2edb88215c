//! One case per row of the table in Google's reference, with bodies as Google sends them.

use super::*;

fn at(status: u16, body: &str) -> Outcome {
    verdict(status, None, body).outcome
}

fn verdict(status: u16, retry_after: Option<u64>, body: &str) -> Verdict {
    classify(status, retry_after.map(Duration::from_secs), body.as_bytes())
}

fn fcm_error(code: u16, status: &str, message: &str, error_code: &str) -> String {
    format!(
        r#"{{"error":{{"code":{code},"message":"{message}","status":"{status}","details":[
        {{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"{error_code}"}}]}}}}"#
    )
}

fn quota(violations: &str) -> String {
    format!(
        r#"{{"error":{{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED","details":[
        {{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"QUOTA_EXCEEDED"}},
        {{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":{violations}}}]}}}}"#
    )
}

const DEAD: Outcome = Outcome::Device {
    reason: "INVALID_ARGUMENT",
};
const BAD: Outcome = Outcome::Payload {
    reason: "INVALID_ARGUMENT",
};

#[test]
fn a_message_that_was_taken_is_accepted_with_its_name() {
    let taken = |body: &str| {
        assert_eq!(at(200, body), Outcome::Accepted);
        message_id(body.as_bytes()).into_owned()
    };
    assert_eq!(
        taken(r#"{"name": "projects/p/messages/0:1500415314455276%31bd1c96"}"#),
        "projects/p/messages/0:1500415314455276%31bd1c96"
    );
    assert_eq!(
        taken(r#"{"name": "projects/p/messages/\u0061"}"#),
        "projects/p/messages/a"
    );
    assert_eq!(taken("<html>"), "");
    assert_eq!(taken(""), "");
}

#[test]
fn an_unregistered_token_is_dead() {
    let body = fcm_error(404, "NOT_FOUND", "Requested entity was not found.", "UNREGISTERED");
    assert_eq!(at(404, &body), Outcome::Device { reason: "UNREGISTERED" });
}

#[test]
fn a_404_without_that_word_removes_nothing() {
    let plain = r#"{"error":{"code":404,"message":"Requested entity was not found.","status":"NOT_FOUND"}}"#;
    for body in [
        plain,
        "<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>",
        "",
        "UNREGISTERED",
        r#"{"error":"UNREGISTERED"}"#,
        r#"{"error":{"details":{"errorCode":"UNREGISTERED"}}}"#,
        r#"{"error":{"details":[{"errorCode":"UNREGISTERED"}]}}"#,
    ] {
        assert_eq!(at(404, body), credential("NOT_FOUND"), "{body}");
    }
}

#[test]
fn an_unregistered_code_under_another_status_removes_nothing() {
    for status in [400, 401, 403, 429, 500, 503] {
        let body = fcm_error(status, "NOT_FOUND", "Requested entity was not found.", "UNREGISTERED");
        assert!(!matches!(at(status, &body), Outcome::Device { .. }), "{status}");
    }
}

#[test]
fn a_violated_field_is_the_payloads_fault() {
    let body = r#"{"error":{"code":400,"message":"Invalid value at 'message.data[0].value' (TYPE_STRING), 12","status":"INVALID_ARGUMENT",
        "details":[{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"message.data[0].value",
        "description":"Invalid value at 'message.data[0].value' (TYPE_STRING), 12"}]}]}}"#;
    assert_eq!(at(400, body), BAD);
}

#[test]
fn a_token_that_is_none_is_dead() {
    let body = fcm_error(
        400,
        "INVALID_ARGUMENT",
        "The registration token is not a valid FCM registration token",
        "INVALID_ARGUMENT",
    );
    assert_eq!(at(400, &body), DEAD);
    // The same with the violation spelled out, as it is seen in the field.
    let body = r#"{"error":{"code":400,"message":"Request contains an invalid argument.","status":"INVALID_ARGUMENT","details":[
        {"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"INVALID_ARGUMENT"},
        {"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"message.token","description":"Invalid registration token"}]}]}}"#;
    assert_eq!(at(400, body), DEAD);
}

#[test]
fn any_doubt_about_a_400_keeps_the_device() {
    let violated = |field: &str, description: &str| {
        format!(
            r#"{{"error":{{"code":400,"message":"The registration token is not a valid FCM registration token","status":"INVALID_ARGUMENT","details":[
            {{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{{"field":"{field}","description":"{description}"}}]}},
            {{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"INVALID_ARGUMENT"}}]}}}}"#
        )
    };
    let bodies = [
        violated("message", "Recipient of the message is not set."),
        violated("message.android.ttl", "Invalid registration token"),
        violated("message.token", "too long"),
        fcm_error(400, "INVALID_ARGUMENT", "Request contains an invalid argument.", "INVALID_ARGUMENT"),
        fcm_error(400, "FAILED_PRECONDITION", "The registration token is not a valid FCM registration token", "INVALID_ARGUMENT"),
        fcm_error(400, "INVALID_ARGUMENT", "The registration token is not a valid FCM registration token", "UNSPECIFIED_ERROR"),
        r#"{"error":{"code":400,"message":"The registration token is not a valid FCM registration token","status":"INVALID_ARGUMENT"}}"#.into(),
        r#"{"error":{"code":400,"message":"Request contains an invalid argument.","status":"INVALID_ARGUMENT"}}"#.into(),
        "Invalid registration token".into(),
        String::new(),
    ];
    for body in bodies {
        assert_eq!(at(400, &body), BAD, "{body}");
    }
}

#[test]
fn a_token_of_another_sender_is_a_mismatch() {
    let body = fcm_error(403, "PERMISSION_DENIED", "SenderId mismatch", "SENDER_ID_MISMATCH");
    assert_eq!(
        verdict(403, None, &body),
        Outcome::Mismatch {
            reason: "SENDER_ID_MISMATCH"
        }
        .into()
    );
}

#[test]
fn a_bad_key_inside_firebase_is_no_reason_for_a_new_token() {
    let body = fcm_error(
        401,
        "UNAUTHENTICATED",
        "Auth error from APNS or Web Push Service",
        "THIRD_PARTY_AUTH_ERROR",
    );
    assert_eq!(verdict(401, None, &body), credential("THIRD_PARTY_AUTH_ERROR").into());
}

#[test]
fn other_401_and_403_ask_for_a_new_token() {
    let expired = r#"{"error":{"code":401,"message":"Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.",
        "status":"UNAUTHENTICATED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"ACCESS_TOKEN_EXPIRED","domain":"googleapis.com"}]}}"#;
    assert_eq!(verdict(401, None, expired), token_refused("UNAUTHENTICATED"));
    let denied = r#"{"error":{"code":403,"message":"Permission 'cloudmessaging.messages.create' denied on resource","status":"PERMISSION_DENIED"}}"#;
    assert_eq!(verdict(403, None, denied), token_refused("PERMISSION_DENIED"));
    assert_eq!(verdict(401, None, ""), token_refused("UNAUTHENTICATED"));
}

#[test]
fn a_quota_is_the_projects_unless_it_says_otherwise() {
    let whole = |body: &str| match at(429, body) {
        Outcome::Throttle { whole, .. } => whole,
        other => panic!("{other:?}"),
    };
    assert!(whole(&fcm_error(
        429,
        "RESOURCE_EXHAUSTED",
        "Quota exceeded",
        "QUOTA_EXCEEDED"
    )));
    assert!(whole(""));
    assert!(whole(&quota("[]")));
    assert!(whole(&quota(
        r#"[{"subject":"project:my-app","description":"Message rate exceeded"}]"#
    )));
    assert!(whole(&quota(
        r#"[{"subject":"project:device-cloud","description":"Message rate exceeded"}]"#
    )));
    assert!(!whole(&quota(
        r#"[{"subject":"device","description":"Device message rate exceeded"}]"#
    )));
    assert!(!whole(&quota(
        r#"[{"subject":"topic:news","description":"Topic message rate exceeded"}]"#
    )));
    assert!(!whole(&quota(r#"[{"subject":"device:my-project-token"}]"#)));
    assert!(!whole(&quota(r#"[{"description":"Device message rate exceeded"}]"#)));
    assert!(whole(&quota(r#"[{"quotaId":"PerDevicePerProject"}]"#)));
    assert!(whole(&quota(r#"[{"subject":"device"},{"subject":"project"}]"#)));
}

#[test]
fn a_throttled_target_waits_as_told_or_a_minute() {
    let after = |retry_after| match verdict(429, retry_after, "").outcome {
        Outcome::Throttle { after, .. } => after.as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!(after(Some(7)), 7);
    assert_eq!(after(None), 60);
}

#[test]
fn trouble_at_google_is_transient() {
    let internal = fcm_error(500, "INTERNAL", "Internal error encountered.", "INTERNAL");
    let cases = [
        (500, internal.as_str(), "INTERNAL"),
        (503, "", "UNAVAILABLE"),
        (
            502,
            "<!DOCTYPE html><title>Error 502 (Server Error)!!1</title>",
            "server error",
        ),
        (504, "", "server error"),
        (408, "", "server error"),
    ];
    for (status, body, reason) in cases {
        assert_eq!(at(status, body), transient(reason, None), "{status}");
        let later = verdict(status, Some(30), body).outcome;
        assert_eq!(later, transient(reason, Some(Duration::from_secs(30))), "{status}");
    }
}

#[test]
fn what_is_not_fcm_removes_and_fails_nothing() {
    for status in [301, 302, 307, 402, 405, 407, 410, 418, 451] {
        assert_eq!(at(status, "<html>"), credential("unexpected status"), "{status}");
    }
    assert_eq!(at(413, ""), Outcome::Payload { reason: "too large" });
}
