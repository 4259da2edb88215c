//! Bodies to replies: everything is read first, then the commands run in order.

use std::sync::Arc;
use std::time::Instant;

use ::http::StatusCode;
use bugle_model::AppId;
use bugle_service::Service;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Reply;
use super::envelope::{self, Batch};
use super::methods::{Method, Prepared};
use super::read::{Object, read, syntax};
use crate::error::{Problem, problem};
use crate::{ErrorMode, metrics};

/// So many commands of a parallel batch run at once: enough to share the store's commits, and an end to what one request may take.
const PARALLEL: usize = 256;

/// Why a request ran nothing.
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) problem: Problem,
}

impl Refused {
    pub(super) fn malformed(what: impl std::fmt::Display) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            problem: Problem::bad_request(what),
        }
    }
}

/// A command that has been read: it runs, or its error is known already.
struct Call {
    method: &'static str,
    /// Where the parameters stand, for messages.
    place: String,
    work: Result<Prepared, Problem>,
}

#[derive(Serialize)]
struct ReplyBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Problem>,
}

enum Outcome {
    Result(Box<RawValue>),
    Error(Problem),
}

impl Outcome {
    fn reply<'a>(&'a self, id: Option<&'a RawValue>) -> ReplyBody<'a> {
        let (result, error) = match self {
            Self::Result(result) => (Some(&**result), None),
            Self::Error(problem) => (None, Some(problem)),
        };
        ReplyBody { id, result, error }
    }

    fn status(&self, mode: ErrorMode) -> StatusCode {
        match self {
            Self::Error(problem) if mode == ErrorMode::Transport => problem.status(),
            _ => StatusCode::OK,
        }
    }
}

/// The body of `POST /api`.
pub(super) async fn run_commands(
    service: &Arc<Service>,
    app: &AppId,
    body: &[u8],
    max: usize,
    mode: ErrorMode,
) -> Result<Reply, Refused> {
    let body = utf8(body)?;
    let mut calls = Vec::new();
    for (at, command) in envelope::commands(body).enumerate() {
        if at == max {
            return Err(Refused::malformed(format!("body: at most {max} commands")));
        }
        let prefix = if at == 0 {
            String::new()
        } else {
            format!("command {}: ", at + 1)
        };
        calls.push(read_command(&prefix, command)?);
    }
    let mut replies = Vec::with_capacity(calls.len());
    let mut status = StatusCode::OK;
    let alone = calls.len() == 1;
    for (id, call) in calls {
        let outcome = call.run(service, app).await;
        if alone {
            status = outcome.status(mode);
        }
        replies.push(text(&outcome.reply(id)));
    }
    if replies.is_empty() {
        return Err(Refused::malformed("body: expected a command"));
    }
    let body = replies.join("\n");
    Ok(Reply { status, body })
}

type Wrapped<'a> = (Option<&'a RawValue>, Call);

fn read_command<'a>(prefix: &str, command: serde_json::Result<envelope::Command<'a>>) -> Result<Wrapped<'a>, Refused> {
    let malformed = |problem: String| Refused::malformed(format!("{prefix}{problem}"));
    let command = command.map_err(|error| {
        malformed(if error.is_data() {
            "body: expected commands, each an object with method and params".to_owned()
        } else {
            syntax("body", &error)
        })
    })?;
    let scalar = |id: &&RawValue| {
        id.get()
            .starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit())
    };
    if !command.id.as_ref().is_none_or(scalar) {
        return Err(malformed("id: expected a number or a string".to_owned()));
    }
    let method = command
        .method
        .ok_or_else(|| malformed("method: must be given".to_owned()))?;
    let method: String = read("method", method.get()).map_err(malformed)?;
    let params = command.params.map_or("{}", RawValue::get);
    let call = Call::read(&method, "params".to_owned(), params).map_err(malformed)?;
    Ok((command.id, call))
}

/// The body of `POST /api/<method>`.
pub(super) async fn run_method(
    service: &Arc<Service>,
    app: &AppId,
    method: &str,
    body: &[u8],
    mode: ErrorMode,
) -> Result<Reply, Refused> {
    let call = Call::read(method, "params".to_owned(), utf8(body)?).map_err(Refused::malformed)?;
    let outcome = call.run(service, app).await;
    Ok(Reply {
        status: outcome.status(mode),
        body: text(&outcome.reply(None)),
    })
}

/// The body of `POST /api/batch`.
pub(super) async fn run_batch(service: &Arc<Service>, app: &AppId, body: &[u8], max: usize) -> Result<Reply, Refused> {
    let Object(batch) = read::<Object<Batch<'_>>>("body", utf8(body)?).map_err(Refused::malformed)?;
    if batch.commands.len() > max {
        return Err(Refused::malformed(format!("commands: at most {max}")));
    }
    let mut calls = Vec::with_capacity(batch.commands.len());
    for (at, command) in batch.commands.into_iter().enumerate() {
        let place = match Method::of(&command.method) {
            Method::Known(name, _) | Method::Unbuilt(name) => format!("commands[{at}].{name}"),
            Method::Unknown => format!("commands[{at}]"),
        };
        let params = if command.params.get() == "null" {
            "{}"
        } else {
            command.params.get()
        };
        calls.push(Call::read(&command.method, place, params).map_err(Refused::malformed)?);
    }
    let at_once = if batch.parallel == Some(true) { PARALLEL } else { 1 };
    let replies: Vec<String> = stream::iter(calls)
        .map(|call| call.member(service, app))
        .buffered(at_once)
        .collect()
        .await;
    Ok(Reply {
        status: StatusCode::OK,
        body: format!("{{\"replies\":[{}]}}", replies.join(",")),
    })
}

impl Call {
    fn read(method: &str, place: String, params: &str) -> Result<Self, String> {
        let (name, work) = match Method::of(method) {
            Method::Known(name, prepare) => (name, Ok(prepare(&place, params)?)),
            Method::Unbuilt(name) => {
                well_formed(&place, params)?;
                (name, Err(Problem::not_available(format!("{name} is not built yet"))))
            }
            Method::Unknown => {
                well_formed(&place, params)?;
                let shown: String = method.chars().take(32).collect();
                ("unknown", Err(Problem::not_found(format!("method {shown:?}"))))
            }
        };
        Ok(Self {
            method: name,
            place,
            work,
        })
    }

    /// Runs it; its reply as a member of a batch's list.
    async fn member(self, service: &Arc<Service>, app: &AppId) -> String {
        let method = self.method;
        match self.run(service, app).await {
            Outcome::Result(result) => format!("{{\"{method}\":{result}}}"),
            outcome @ Outcome::Error(_) => text(&outcome.reply(None)),
        }
    }

    async fn run(self, service: &Arc<Service>, app: &AppId) -> Outcome {
        let began = Instant::now();
        let outcome = match self.work {
            Ok(run) => match run(Arc::clone(service), app.clone()).await {
                Ok(result) => Outcome::Result(result),
                Err(error) => Outcome::Error(problem(&error, &self.place)),
            },
            Err(problem) => Outcome::Error(problem),
        };
        let code = match &outcome {
            Outcome::Result(_) => 0,
            Outcome::Error(problem) => problem.code,
        };
        ::metrics::counter!(metrics::COMMANDS, "method" => self.method, "code" => code.to_string()).increment(1);
        ::metrics::histogram!(metrics::COMMAND_SECONDS, "method" => self.method).record(began.elapsed());
        outcome
    }
}

/// The error object as a body.
pub(super) fn error_body(problem: &Problem) -> String {
    text(&ReplyBody {
        id: None,
        result: None,
        error: Some(problem),
    })
}

fn well_formed(place: &str, params: &str) -> Result<(), String> {
    read::<Object<serde::de::IgnoredAny>>(place, params).map(|_| ())
}

fn utf8(body: &[u8]) -> Result<&str, Refused> {
    std::str::from_utf8(body)
        .map_err(|error| Refused::malformed(format!("body: not UTF-8 from byte {} on", error.valid_up_to())))
}

#[expect(clippy::expect_used, reason = "replies have text keys only and no failing members")]
fn text(reply: &ReplyBody<'_>) -> String {
    serde_json::to_string(reply).expect("a reply is JSON")
}
