//! FCM's error bodies, in the shapes that Google's service sends.

use http::StatusCode;
use serde_json::{Value, json};

use super::violation::Violation;
use crate::fault::Fault;
use crate::reply::Reply;
use crate::settings::Settings;

/// The answer for a fault; none for those that are not answers.
pub(super) fn of_fault(fault: Fault, target: &str, project: &str, settings: &Settings) -> Option<Reply> {
    let reply = match fault {
        Fault::Unregistered => error(
            404,
            "NOT_FOUND",
            "Requested entity was not found.",
            &[fcm("UNREGISTERED")],
        ),
        Fault::NotFound => error(404, "NOT_FOUND", "Requested entity was not found.", &[]),
        Fault::BadToken => bad_token(),
        Fault::Payload => {
            let text = "Invalid value at 'message.notification.title' (TYPE_STRING), simulated";
            error(
                400,
                "INVALID_ARGUMENT",
                text,
                &[bad_request(Some("message.notification.title"), text)],
            )
        }
        Fault::Mismatch => error(
            403,
            "PERMISSION_DENIED",
            "SenderId mismatch",
            &[fcm("SENDER_ID_MISMATCH")],
        ),
        Fault::ThirdParty => {
            let text = "Auth error from APNS or Web Push Service";
            error(401, "UNAUTHENTICATED", text, &[fcm("THIRD_PARTY_AUTH_ERROR")])
        }
        Fault::Unauthorized => unauthenticated(Bearer::Refused),
        Fault::Forbidden => forbidden(project),
        Fault::Quota => throttled(&format!("project:{project}"), "Message rate exceeded.", settings),
        Fault::DeviceQuota => throttled(&format!("device:{target}"), "Device message rate exceeded.", settings),
        Fault::RateLimit => rate_limited(project, settings),
        Fault::Internal => error(500, "INTERNAL", "Internal error encountered.", &[fcm("INTERNAL")]),
        Fault::Unavailable => {
            let reply = error(
                503,
                "UNAVAILABLE",
                "The service is currently unavailable.",
                &[fcm("UNAVAILABLE")],
            );
            Reply {
                retry_after_s: settings.unavailable_retry_after_s,
                ..reply
            }
        }
        Fault::Slow | Fault::Silent | Fault::Cut | Fault::Refused => return None,
    };
    Some(reply)
}

/// What is wrong with a bearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bearer {
    Missing,
    /// Expired, revoked, never issued, or refused because a fault says so.
    Refused,
}

/// 401 with the reason as `ErrorInfo`.
pub(super) fn unauthenticated(bearer: Bearer) -> Reply {
    let (text, reason) = match bearer {
        Bearer::Missing => (
            "Request is missing required authentication credential.",
            "CREDENTIALS_MISSING",
        ),
        Bearer::Refused => (
            "Request had invalid authentication credentials.",
            "ACCESS_TOKEN_EXPIRED",
        ),
    };
    let text = format!(
        "{text} Expected OAuth 2 access token, login cookie or other valid authentication credential. See \
         https://developers.google.com/identity/sign-in/web/devconsole-project."
    );
    let info = json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {
            "service": "fcm.googleapis.com",
            "method": "google.firebase.fcm.v1.FcmService.SendMessage",
        },
    });
    error(401, "UNAUTHENTICATED", &text, &[info])
}

/// 403 for a project that the account may not send for, or that does not exist.
pub(super) fn forbidden(project: &str) -> Reply {
    let permission = "cloudmessaging.messages.create";
    let resource = format!("//cloudresourcemanager.googleapis.com/projects/{project}");
    let text = format!("Permission '{permission}' denied on resource '{resource}' (or it may not exist).");
    let info = json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "IAM_PERMISSION_DENIED",
        "domain": "cloudresourcemanager.googleapis.com",
        "metadata": { "resource": format!("projects/{project}"), "permission": permission },
    });
    error(403, "PERMISSION_DENIED", &text, &[info])
}

/// 400 for a token that FCM does not take for one.
pub(super) fn bad_token() -> Reply {
    let text = "The registration token is not a valid FCM registration token";
    error(400, "INVALID_ARGUMENT", text, &[fcm("INVALID_ARGUMENT")])
}

/// 400 for a message that is wrong.
pub(super) fn violation(violation: &Violation) -> Reply {
    if violation.token {
        return bad_token();
    }
    let mut details = Vec::new();
    if violation.fcm {
        details.push(fcm("INVALID_ARGUMENT"));
    }
    if violation.bad_request {
        details.push(bad_request(violation.field.as_deref(), &violation.text));
    }
    error(400, "INVALID_ARGUMENT", &violation.text, &details)
}

/// What Google's front end answers where there is no such path or method.
pub(crate) fn no_such_path() -> Reply {
    let body = "<!DOCTYPE html>\n<html lang=en>\n  <title>Error 404 (Not Found)!!1</title>\n";
    Reply {
        kind: "text/html; charset=UTF-8",
        ..Reply::json(StatusCode::NOT_FOUND, body)
    }
}

fn throttled(subject: &str, description: &str, settings: &Settings) -> Reply {
    let quota = json!({
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{ "subject": subject, "description": description }],
    });
    let reply = error(429, "RESOURCE_EXHAUSTED", description, &[fcm("QUOTA_EXCEEDED"), quota]);
    Reply {
        retry_after_s: settings.retry_after_s,
        ..reply
    }
}

fn rate_limited(project: &str, settings: &Settings) -> Reply {
    let text = format!(
        "Quota exceeded for quota metric 'Send requests' and limit 'Send requests per minute' of service \
         'fcm.googleapis.com' for consumer 'projects/{project}'."
    );
    let info = json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "RATE_LIMIT_EXCEEDED",
        "domain": "googleapis.com",
        "metadata": {
            "service": "fcm.googleapis.com",
            "consumer": format!("projects/{project}"),
            "quota_metric": "fcm.googleapis.com/send_requests",
            "quota_limit": "SendsPerMinutePerProject",
            "quota_limit_value": "600000",
        },
    });
    Reply {
        retry_after_s: settings.retry_after_s,
        ..error(429, "RESOURCE_EXHAUSTED", &text, &[info])
    }
}

fn fcm(code: &str) -> Value {
    json!({ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code })
}

fn bad_request(field: Option<&str>, description: &str) -> Value {
    let mut violation = json!({ "description": description });
    if let Some(field) = field {
        violation = json!({ "field": field, "description": description });
    }
    json!({ "@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation] })
}

fn error(code: u16, status: &str, message: &str, details: &[Value]) -> Reply {
    let mut error = json!({ "code": code, "message": message, "status": status });
    if !details.is_empty() {
        error["details"] = Value::from(details);
    }
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Reply::json(code, format!("{:#}\n", json!({ "error": error })))
}
