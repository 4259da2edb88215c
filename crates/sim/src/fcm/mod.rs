//! `POST /v1/projects/{project}/messages:send`: one message in, one verdict out.
//!
//! The order of the decisions is: the cut that `cut_every` asks for; the outage of `all`; path and method; the
//! bearer; the project; the message; the token's prefix; the shares. The message is read first all the same, so that
//! whatever is decided is tallied under its token.

mod errors;
mod fields;
mod message;
mod parts;
mod violation;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};

use self::message::{Message, Target};
use crate::choice::{fault_for, token_hash};
use crate::fault::{Fault, Outcome};
use crate::messages::Accepted;
use crate::oauth::BearerCache;
use crate::reply::{Plan, Reply, Verdict};
use crate::settings::Settings;
use crate::shared::{Pending, Shared};

pub(crate) use self::errors::{Bearer, no_such_path};

/// The longest target that is tallied, in bytes; a longer one is malformed anyway.
const TALLIED_LIMIT: usize = 8192;

/// One request to send a message.
pub(crate) struct Send<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) authorization: Option<&'a http::HeaderValue>,
    /// The body; none where it was longer than is read.
    pub(crate) body: Option<Bytes>,
    /// The connection is to be cut instead of an answer.
    pub(crate) cut: bool,
}

/// What to answer, and under what to tally it.
struct Decision {
    outcome: Outcome,
    verdict: Verdict,
    slow: bool,
}

impl Decision {
    fn reply(outcome: Outcome, reply: Reply) -> Self {
        Self {
            outcome,
            verdict: Verdict::Reply(reply),
            slow: false,
        }
    }
}

/// Decides about one message.
pub(crate) fn send(shared: &Arc<Shared>, settings: &Settings, bearers: &BearerCache, send: &Send<'_>) -> Plan {
    shared.counters.request();
    let body = send.body.clone().unwrap_or_default();
    let message = message::read(&body);
    let target = message.target.as_ref().map(text_of).unwrap_or_default();
    let early = before_the_token(shared, settings, bearers, send, &message, &target);
    let hash = token_hash(&target);
    let tallied = !target.is_empty() && target.len() <= TALLIED_LIMIT;
    let place = tallied.then(|| shared.tally.begin(&target, hash, early.is_none()));
    let (ticket, seen) = place.map_or((None, 0), |(ticket, seen)| (Some(ticket), seen));
    let fault = match &message.target {
        _ if settings.all.is_some() => settings.all,
        Some(Target::Token(token)) => fault_for(token, hash, seen, settings),
        _ => None,
    };
    let mut accepted = None;
    let decision = match (early, fault) {
        (Some(early), _) => early,
        (None, Some(fault)) if fault != Fault::Slow => meet(shared, settings, fault, &target),
        (None, fault) => {
            let name = shared.message_name(message.validate_only);
            let decision = accept(&name, message.validate_only, fault == Some(Fault::Slow));
            if !message.validate_only {
                accepted = Some(Accepted {
                    target: target.into_owned(),
                    name,
                    body: body.clone(),
                });
            }
            decision
        }
    };
    let delay = if decision.slow {
        Duration::from_millis(settings.slow_ms)
    } else {
        shared.latency(settings)
    };
    let pending = Pending::new(Arc::clone(shared), ticket, decision.outcome, accepted);
    Plan {
        delay,
        verdict: decision.verdict,
        pending: Some(pending),
    }
}

/// Everything that is decided without regard to the token; none: the message is in order.
fn before_the_token(
    shared: &Shared,
    settings: &Settings,
    bearers: &BearerCache,
    send: &Send<'_>,
    message: &Message<'_>,
    target: &str,
) -> Option<Decision> {
    if send.cut {
        return Some(meet(shared, settings, Fault::Cut, target));
    }
    // A simulator that is merely slow checks like any other.
    if let Some(fault) = settings.all.filter(|fault| *fault != Fault::Slow) {
        return Some(meet(shared, settings, fault, target));
    }
    let Some(project) = project_of(send.path).filter(|_| *send.method == Method::POST) else {
        return Some(Decision::reply(Outcome::Malformed, no_such_path()));
    };
    if let Err(bearer) = shared.oauth.check(send.authorization, bearers) {
        return Some(Decision::reply(Outcome::Unauthorized, errors::unauthenticated(bearer)));
    }
    if project != shared.oauth.account().project {
        return Some(Decision::reply(Outcome::Forbidden, errors::forbidden(project)));
    }
    if send.body.is_none() {
        let text = "Request payload size exceeds the limit.";
        return Some(Decision::reply(
            Outcome::Malformed,
            Reply::text(StatusCode::PAYLOAD_TOO_LARGE, text),
        ));
    }
    if let Some(violation) = &message.violation {
        return Some(Decision::reply(Outcome::Malformed, errors::violation(violation)));
    }
    None
}

/// What a fault does; not for [`Fault::Slow`], which is an acceptance.
fn meet(shared: &Shared, settings: &Settings, fault: Fault, target: &str) -> Decision {
    let outcome = fault.outcome();
    let reply = errors::of_fault(fault, target, &shared.oauth.account().project, settings);
    let verdict = match (reply, fault) {
        (Some(reply), _) => Verdict::Reply(reply),
        (None, Fault::Silent) => Verdict::Silent,
        (None, Fault::Refused) => Verdict::Refuse,
        (None, _) => Verdict::Cut,
    };
    Decision {
        outcome,
        verdict,
        slow: false,
    }
}

fn accept(name: &str, validate_only: bool, slow: bool) -> Decision {
    let outcome = if validate_only {
        Outcome::Validated
    } else {
        Outcome::Accepted
    };
    let reply = Reply::json(StatusCode::OK, format!("{{\n  \"name\": \"{name}\"\n}}\n"));
    Decision {
        slow,
        ..Decision::reply(outcome, reply)
    }
}

/// The name under which a target is tallied.
fn text_of<'a>(target: &'a Target<'a>) -> Cow<'a, str> {
    match target {
        Target::Token(token) => Cow::Borrowed(token.as_ref()),
        Target::Topic(topic) => format!("topic:{}", topic.strip_prefix("/topics/").unwrap_or(topic)).into(),
        Target::Condition(condition) => format!("condition:{condition}").into(),
    }
}

/// The project in `/v1/projects/{project}/messages:send`.
fn project_of(path: &str) -> Option<&str> {
    let project = path.strip_prefix("/v1/projects/")?.strip_suffix("/messages:send")?;
    (!project.is_empty() && !project.contains('/')).then_some(project)
}
