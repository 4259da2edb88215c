//! A client with a token exchange, many requests, and an account of what was told of them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bugle_model::{Outcome, Period, SystemClock, TargetKind, Token};
use bugle_provider::fcm::{Config, Fcm};
use bugle_provider::{Client, Framing, Outcomes, Prepared, Provider as _, Ticket, TlsConfig};
use bugle_sim::Sim;
use serde_json::value::RawValue;
use tempfile::NamedTempFile;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

pub(crate) const MESSAGE: &str = r#"{"notification":{"title":"t"}}"#;

/// Runs a test as a sender thread runs, and not for ever.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(LocalSet::new().run_until(async {
        tokio::time::timeout(Duration::from_secs(50), test)
            .await
            .expect("the test hangs");
    }));
}

/// A simulator over plain text: where access tokens come from, and what stands behind a proxy.
pub(crate) async fn simulator() -> Sim {
    let config = bugle_sim::Config {
        tls: false,
        ..bugle_sim::Config::default()
    };
    Sim::start(config).await.unwrap()
}

/// What was told of all requests.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) accepted: Cell<usize>,
    /// The server surely has not processed it.
    pub(crate) unprocessed: Cell<usize>,
    /// Nobody knows whether the server has processed it.
    pub(crate) lost: Cell<usize>,
}

#[derive(Default)]
struct Told {
    next: Cell<usize>,
    waiting: RefCell<HashMap<Ticket, oneshot::Sender<Outcome>>>,
}

impl Outcomes for Told {
    fn outcome(&self, ticket: Ticket, outcome: Outcome, _: &str) {
        let waiter = self.waiting.borrow_mut().remove(&ticket);
        waiter.expect("one outcome for each ticket").send(outcome).unwrap();
    }
}

/// One sender thread's client with one push.
pub(crate) struct Traffic {
    pub(crate) client: Box<dyn Client>,
    push: Prepared,
    told: Rc<Told>,
    pub(crate) account: Account,
}

fn add(cell: &Cell<usize>) {
    cell.set(cell.get() + 1);
}

impl Traffic {
    /// To an endpoint, over so many connections. `authority` is trusted beside the system's.
    pub(crate) fn new(sim: &Sim, endpoint: &str, authority: Option<&Path>, connections: usize) -> Self {
        Self::with_message(sim, endpoint, authority, connections, MESSAGE)
    }

    pub(crate) fn with_message(
        sim: &Sim,
        endpoint: &str,
        authority: Option<&Path>,
        connections: usize,
        message: &str,
    ) -> Self {
        let mut credentials = NamedTempFile::new().unwrap();
        credentials.write_all(sim.service_account_json().as_bytes()).unwrap();
        let config = Config {
            credentials_file: credentials.path().to_str().unwrap().into(),
            endpoint: endpoint.into(),
            framing: Framing::Own,
            connections,
            request_timeout: Period::millis(15_000),
            connect_timeout: Period::millis(5_000),
            ..Config::default()
        };
        let tls = TlsConfig {
            extra_ca_file: authority.map_or(String::new(), |path| path.to_str().unwrap().into()),
        };
        let fcm = Fcm::open(&config, &tls, Arc::new(SystemClock)).unwrap();
        let told = Rc::<Told>::default();
        let client = fcm.client(1, Rc::clone(&told) as Rc<dyn Outcomes>);
        let push = client.prepare(&RawValue::from_string(message.into()).unwrap()).unwrap();
        Self {
            client,
            push,
            told,
            account: Account::default(),
        }
    }

    /// Waits for a slot and sends once.
    pub(crate) async fn send(&self, token: &str) -> Outcome {
        let slot = match self.client.try_slot(std::time::Instant::now()) {
            Some(slot) => slot,
            None => match self.client.slot().await {
                Ok(slot) => slot,
                Err(outcome) => return outcome,
            },
        };
        let ticket = Ticket(self.told.next.replace(self.told.next.get() + 1));
        let (waiter, outcome) = oneshot::channel();
        self.told.waiting.borrow_mut().insert(ticket, waiter);
        let target = TargetKind::Token(Token::parse(token).unwrap());
        self.client.send(slot, &self.push, &target, ticket);
        outcome.await.unwrap()
    }

    async fn send_until_accepted(&self, token: &str) {
        loop {
            match self.send(token).await {
                Outcome::Accepted => return add(&self.account.accepted),
                Outcome::Unprocessed => add(&self.account.unprocessed),
                Outcome::Transient { reason: "connect", .. } => tokio::time::sleep(Duration::from_millis(5)).await,
                Outcome::Transient {
                    reason: "connection lost",
                    ..
                } => add(&self.account.lost),
                other => panic!("{token}: {other:?}"),
            }
        }
    }

    /// Sends to `count` targets at once, each until it is accepted.
    pub(crate) async fn send_all(&self, count: usize) {
        let one = async |n: usize| self.send_until_accepted(&format!("t{n}")).await;
        futures_util::future::join_all((0..count).map(one)).await;
        assert_eq!(self.account.accepted.get(), count);
        assert!(
            self.told.waiting.borrow().is_empty(),
            "nothing is left without an outcome"
        );
    }

    /// Waits until so many were accepted.
    pub(crate) async fn accepted(&self, count: usize) {
        while self.account.accepted.get() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Nothing was lost, and the server has processed what was accepted, no more. A server may write down a request after it has answered it.
    pub(crate) async fn is_exact(&self, processed: impl Fn() -> usize) {
        assert_eq!(self.account.lost.get(), 0, "{:?}", self.account);
        let accepted = self.account.accepted.get();
        let patience = Instant::now() + Duration::from_secs(10);
        while processed() < accepted && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(processed(), accepted, "{:?}", self.account);
    }
}
