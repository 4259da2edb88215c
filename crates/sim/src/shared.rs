//! What all connections share, and the way from a request to its plan.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::request::Parts;
use http::{Method, StatusCode};

use crate::blind::{self, Numbers, Tokens};
use crate::choice::scramble;
use crate::config::{BlindTokens, Config};
use crate::error::Result;
use crate::fault::Outcome;
use crate::identity::{Identity, fill};
use crate::messages::{Accepted, Messages};
use crate::oauth::{BearerCache, OAuth};
use crate::process::Process;
use crate::rates::Rates;
use crate::reply::{Plan, Reply};
use crate::report::Report;
use crate::settings::Settings;
use crate::stats::{Counters, Stats};
use crate::tally::{Tally, Ticket};
use crate::{control, fcm};

/// The state of one simulator.
pub(crate) struct Shared {
    pub(crate) ca_pem: String,
    pub(crate) counters: Counters,
    pub(crate) tally: Tally,
    pub(crate) messages: Messages,
    pub(crate) oauth: OAuth,
    pub(crate) rates: Rates,
    pub(crate) blind: blind::Counters,
    /// Whether there is a blind sink.
    has_blind: bool,
    pub(crate) blind_tokens: Option<Tokens>,
    pub(crate) blind_numbers: Option<Numbers>,
    settings: RwLock<Arc<Settings>>,
    /// The first half of every message id: another for each start, so that ids stay unique over a restart.
    run: u64,
    names: AtomicU64,
    /// How many latencies were drawn.
    draws: AtomicU64,
}

impl Shared {
    pub(crate) fn new(config: &Config, identity: Identity) -> Self {
        let mut run = [0; 8];
        fill(&mut run);
        Self {
            ca_pem: identity.ca_pem,
            counters: Counters::default(),
            tally: Tally::new(),
            messages: Messages::new(config.keep_messages),
            oauth: OAuth::new(identity.account, config.access_token_bytes),
            rates: Rates::new(),
            blind: blind::Counters::default(),
            has_blind: config.blind,
            blind_tokens: (config.blind && config.blind_tokens == BlindTokens::Hashes).then(Tokens::new),
            blind_numbers: (config.blind && config.blind_tokens == BlindTokens::Numbers).then(Numbers::new),
            settings: RwLock::new(Arc::new(config.settings.clone())),
            run: u64::from_be_bytes(run),
            names: AtomicU64::new(0),
            draws: AtomicU64::new(0),
        }
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts settings in force, made of the present ones; nobody else changes them in between.
    pub(crate) fn change(&self, make: impl FnOnce(&Settings) -> Result<Settings>) -> Result<Settings> {
        let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        let changed = make(&settings)?;
        *settings = Arc::new(changed.clone());
        Ok(changed)
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut sums = self.tally.sums();
        let blind = match (&self.blind_numbers, &self.blind_tokens) {
            (Some(numbers), _) => Some(numbers.sums()),
            (None, Some(tokens)) => Some(tokens.sums()),
            (None, None) => None,
        };
        if let Some((distinct, repeats)) = blind {
            sums.tokens += distinct;
            sums.classes[Outcome::Accepted.index()] += distinct;
            sums.repeats += repeats;
            sums.requests_repeated += repeats;
        }
        self.counters.stats(&sums)
    }

    pub(crate) fn report(&self) -> Report {
        let stats = self.stats();
        let now = Instant::now();
        Report {
            rate_1s: self.rates.now(now, stats.requests),
            // To the millisecond.
            uptime_s: ((now - self.rates.started).as_secs_f64() * 1_000.0).round() / 1_000.0,
            process: Process::read(),
            blind: self.has_blind.then(|| self.blind.stats()),
            stats,
        }
    }

    pub(crate) fn reset(&self) {
        self.tally.reset();
        self.counters.reset();
        self.messages.reset();
        self.blind.reset();
        if let Some(tokens) = &self.blind_tokens {
            tokens.reset();
        }
        if let Some(numbers) = &self.blind_numbers {
            numbers.reset();
        }
        self.rates.reset(Instant::now());
    }

    /// The name of a message, unique unless it was only to be checked.
    pub(crate) fn message_name(&self, validate_only: bool) -> String {
        let project = &self.oauth.account().project;
        if validate_only {
            return format!("projects/{project}/messages/fake_message_id");
        }
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        format!("projects/{project}/messages/0:{number}%{:016x}", self.run)
    }

    /// How long an answer waits that is not `slow`.
    pub(crate) fn latency(&self, settings: &Settings) -> Duration {
        let Some(latency) = settings.latency else {
            return Duration::from_millis(settings.latency_ms);
        };
        let number = self.draws.fetch_add(1, Ordering::Relaxed);
        latency.draw(number ^ scramble(settings.seed))
    }

    /// What to do with a request. `body` is none where it was longer than is read.
    pub(crate) fn plan(self: &Arc<Self>, lane: &Lane, head: &Parts, body: Option<Bytes>, cut: bool) -> Plan {
        let settings = self.settings();
        let path = head.uri.path();
        if is_message(path) {
            let authorization = head.headers.get(AUTHORIZATION);
            let send = fcm::Send {
                method: &head.method,
                path,
                authorization,
                body,
                cut,
            };
            return fcm::send(self, &settings, &lane.bearers, &send);
        }
        let Some(body) = body else {
            return Reply::text(StatusCode::PAYLOAD_TOO_LARGE, "too large\n").into();
        };
        if path == "/token" && head.method == Method::POST {
            return self
                .oauth
                .exchange(&body, &origin(head, lane.tls), &settings, &self.counters)
                .into();
        }
        match path.strip_prefix("/sim") {
            Some(rest) => control::answer(self, &head.method, rest, head.uri.query(), &body).into(),
            None => fcm::no_such_path().into(),
        }
    }
}

/// What the requests of one connection share.
#[derive(Default)]
pub(crate) struct Lane {
    pub(crate) tls: bool,
    /// The connection is to be cut.
    pub(crate) cut: AtomicBool,
    pub(crate) bearers: BearerCache,
}

/// Whether a path is meant for FCM, and so counted as a message.
pub(crate) fn is_message(path: &str) -> bool {
    path.starts_with("/v1/")
}

/// The URL, without a path, under which the client believes to have reached us.
fn origin(head: &Parts, tls: bool) -> String {
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = head
        .uri
        .authority()
        .map(http::uri::Authority::as_str)
        .or(host)
        .unwrap_or_default();
    format!("{}://{authority}", if tls { "https" } else { "http" })
}

/// A message that was decided about and is not yet answered. Dropped, it is tallied as lost.
pub(crate) struct Pending {
    shared: Arc<Shared>,
    ticket: Option<Ticket>,
    outcome: Option<Outcome>,
    accepted: Option<Accepted>,
}

impl Pending {
    pub(crate) fn new(
        shared: Arc<Shared>,
        ticket: Option<Ticket>,
        outcome: Outcome,
        accepted: Option<Accepted>,
    ) -> Self {
        Self {
            shared,
            ticket,
            outcome: Some(outcome),
            accepted,
        }
    }

    /// The verdict was carried out: the answer was handed to the stream, the cut is made, the silence has begun.
    pub(crate) fn settle(mut self) {
        if let Some(outcome) = self.outcome.take() {
            self.tally(outcome);
        }
        if let Some(accepted) = self.accepted.take() {
            self.shared.messages.push(accepted);
        }
    }

    fn tally(&self, outcome: Outcome) {
        self.shared.counters.outcome(outcome);
        if let Some(ticket) = self.ticket {
            self.shared.tally.settle(ticket, outcome);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.outcome.is_some() {
            self.tally(Outcome::Lost);
        }
    }
}
