//! The simulator's own endpoints, below `/sim`.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use crate::choice::token_hash;
use crate::fault::Outcome;
use crate::form;
use crate::page;
use crate::reply::Reply;
use crate::shared::Shared;

/// The most tokens on one page.
const PAGE_LIMIT: usize = 10_000;

const INDEX: &str = "\
The bugle simulator.

GET  /sim                       the statistics as a page for people
GET  /sim/stats                 counters, the rate of the last second, memory and CPU time
GET  /sim/rates                 messages in each of the last seconds
GET  /sim/tokens                what became of each token; ?class=accepted&limit=1000&after=CURSOR
GET  /sim/tokens/TOKEN          what became of one
GET  /sim/messages              the newest accepted messages
GET  /sim/marks                 when tokens from 900000000 on arrived, with --blind-tokens=numbers
GET  /sim/settings              how it behaves
POST /sim/settings              change that: a JSON merge patch
POST /sim/reset                 forget statistics, tokens and messages
POST /sim/revoke                make every access token invalid
GET  /sim/ca.pem                the certificate authority to trust
GET  /sim/service-account.json  the credentials to send with
GET  /sim/help                  this list
";

/// Answers a request to `/sim` and below; `path` is what follows that.
pub(crate) fn answer(shared: &Arc<Shared>, method: &Method, path: &str, query: Option<&str>, body: &[u8]) -> Reply {
    match (method.as_str(), path) {
        ("GET", "" | "/") => page::statistics(shared),
        ("GET", "/help") => Reply::text(StatusCode::OK, INDEX),
        ("GET", "/stats") => json(&shared.report()),
        ("GET", "/rates") => json(&shared.rates.seconds()),
        ("GET", "/messages") => json(&shared.messages.list()),
        ("GET", "/marks") => match &shared.blind_numbers {
            Some(numbers) => json(&numbers.marks()),
            None => wrong(
                StatusCode::NOT_FOUND,
                "nothing is marked without --blind-tokens=numbers",
            ),
        },
        ("GET", "/settings") => json(&*shared.settings()),
        ("POST", "/settings") => settings(shared, body),
        ("POST", "/reset") => {
            shared.reset();
            json(&shared.report())
        }
        ("POST", "/revoke") => {
            shared.oauth.revoke();
            json(&json!({}))
        }
        ("GET", "/ca.pem") => Reply::text(StatusCode::OK, shared.ca_pem.clone()),
        ("GET", "/service-account.json") => Reply::json(StatusCode::OK, shared.oauth.account().json()),
        ("GET", "/tokens") => tokens(shared, query.unwrap_or_default()),
        ("GET", path) => match path.strip_prefix("/tokens/") {
            Some(token) => one_token(shared, &form::percent_decode(token.as_bytes())),
            None => wrong(StatusCode::NOT_FOUND, "no such path; GET /sim/help lists them"),
        },
        _ => wrong(
            StatusCode::NOT_FOUND,
            "no such path or method; GET /sim/help lists them",
        ),
    }
}

fn settings(shared: &Shared, body: &[u8]) -> Reply {
    let Ok(patch) = serde_json::from_slice::<Value>(body) else {
        return wrong(StatusCode::BAD_REQUEST, "settings: not JSON");
    };
    match shared.change(|settings| settings.merged(&patch)) {
        Ok(settings) => json(&settings),
        Err(error) => wrong(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

fn tokens(shared: &Shared, query: &str) -> Reply {
    let field = |name| form::value(query.as_bytes(), name).filter(|value| !value.is_empty());
    let class = match field("class").map(|name| Outcome::by_name(&name).ok_or(name)) {
        None => None,
        Some(Ok(class)) => Some(class),
        Some(Err(name)) => return wrong(StatusCode::BAD_REQUEST, &format!("class: there is no outcome {name}")),
    };
    let limit = match field("limit").map(|limit| limit.parse::<usize>()) {
        None => 1_000,
        Some(Ok(limit)) if (1..=PAGE_LIMIT).contains(&limit) => limit,
        Some(_) => return wrong(StatusCode::BAD_REQUEST, "limit: 1 to 10000"),
    };
    match shared.tally.page(class, field("after").as_deref(), limit) {
        Some(page) => json(&page),
        None => wrong(StatusCode::BAD_REQUEST, "after: not a cursor of an earlier page"),
    }
}

fn one_token(shared: &Shared, token: &str) -> Reply {
    match shared.tally.token(token, token_hash(token)) {
        Some(counts) => json(&counts),
        None => wrong(StatusCode::NOT_FOUND, "this token was never seen"),
    }
}

fn json(value: &impl Serialize) -> Reply {
    match serde_json::to_string_pretty(value) {
        Ok(text) => Reply::json(StatusCode::OK, text + "\n"),
        Err(error) => wrong(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn wrong(status: StatusCode, text: &str) -> Reply {
    Reply::json(status, format!("{:#}\n", json!({ "error": text })))
}
