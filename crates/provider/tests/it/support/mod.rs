//! Credentials, a Google that speaks HTTP, a peer that speaks frames, and shorthands to send with.

pub(crate) mod frames;
pub(crate) mod google;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::Write;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bugle_model::{Outcome, Period, SystemClock, TargetKind, Token};
use bugle_provider::fcm::{Config, Fcm};
use bugle_provider::{Client, Outcomes, Prepared, Provider, Slot, Ticket, TlsConfig};
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use serde_json::json;
use serde_json::value::RawValue;
use tempfile::NamedTempFile;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// One key pair for all tests: making one takes long.
pub(crate) fn key() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(|| KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap())
}

/// A service account's file. `id` tells accounts apart.
pub(crate) fn credentials(token_uri: &str, id: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    write_credentials(&mut file, token_uri, id);
    file
}

pub(crate) fn write_credentials(file: &mut NamedTempFile, token_uri: &str, id: &str) {
    let text = json!({
        "type": "service_account",
        "project_id": "test-project",
        "private_key_id": id,
        "private_key": key().serialize_pem(),
        "client_email": format!("{id}@test-project.iam.gserviceaccount.com"),
        "token_uri": token_uri,
    });
    file.as_file().set_len(0).unwrap();
    std::io::Seek::rewind(file).unwrap();
    file.write_all(text.to_string().as_bytes()).unwrap();
}

/// Impatient, so that no test waits long for what must happen.
pub(crate) fn config(endpoint: &str, credentials: &NamedTempFile) -> Config {
    Config {
        credentials_file: credentials.path().to_str().unwrap().into(),
        endpoint: endpoint.into(),
        framing: crate::FRAMING,
        connections: 1,
        request_timeout: Period::millis(5_000),
        connect_timeout: Period::millis(2_000),
        ..Config::default()
    }
}

pub(crate) fn open(config: &Config) -> Arc<Fcm> {
    Fcm::open(config, &TlsConfig::default(), Arc::new(SystemClock)).unwrap()
}

pub(crate) fn client(config: &Config) -> Sending {
    Sending::new(open(config), 1)
}

/// A client with one push prepared, and the outcomes that somebody waits for.
#[derive(Clone)]
pub(crate) struct Sending {
    pub(crate) client: Rc<dyn Client>,
    push: Prepared,
    waiting: Rc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: Cell<usize>,
    by_ticket: RefCell<HashMap<Ticket, oneshot::Sender<(Outcome, String)>>>,
}

impl Outcomes for Waiting {
    fn outcome(&self, ticket: Ticket, outcome: Outcome, message_id: &str) {
        let waiter = self.by_ticket.borrow_mut().remove(&ticket);
        // Whoever gave up waiting is not told.
        let _ = waiter
            .expect("one outcome for each ticket")
            .send((outcome, message_id.to_owned()));
    }
}

impl Sending {
    /// The next client of a provider that `threads` share.
    pub(crate) fn new(provider: Arc<dyn Provider>, threads: usize) -> Self {
        let waiting = Rc::<Waiting>::default();
        let client = provider.client(threads, Rc::clone(&waiting) as Rc<dyn Outcomes>);
        let message = RawValue::from_string(r#"{"notification":{"title":"t"}}"#.into()).unwrap();
        let push = client.prepare(&message).unwrap();
        Self {
            client: client.into(),
            push,
            waiting,
        }
    }

    pub(crate) async fn slot(&self) -> Result<Slot, Outcome> {
        match self.client.try_slot(std::time::Instant::now()) {
            Some(slot) => Ok(slot),
            None => self.client.slot().await,
        }
    }

    async fn told(&self, slot: Slot, target: &TargetKind) -> (Outcome, String) {
        let ticket = Ticket(self.waiting.next.replace(self.waiting.next.get() + 1));
        let (waiter, told) = oneshot::channel();
        self.waiting.by_ticket.borrow_mut().insert(ticket, waiter);
        self.client.send(slot, &self.push, target, ticket);
        told.await.unwrap()
    }

    pub(crate) async fn over(&self, slot: Slot, token: &str) -> Outcome {
        self.told(slot, &target(token)).await.0
    }

    /// Waits for a slot and sends.
    pub(crate) async fn send(&self, token: &str) -> Outcome {
        self.send_to(&target(token)).await
    }

    pub(crate) async fn send_to(&self, target: &TargetKind) -> Outcome {
        match self.slot().await {
            Ok(slot) => self.told(slot, target).await.0,
            Err(outcome) => outcome,
        }
    }

    /// Sends, and once more what was not processed, as the sender does.
    pub(crate) async fn send_again(&self, token: &str) -> Outcome {
        match self.send(token).await {
            Outcome::Unprocessed => self.send(token).await,
            outcome => outcome,
        }
    }

    /// The provider's name of a message that it accepts.
    pub(crate) async fn message_id(&self, token: &str) -> String {
        let slot = self.slot().await.unwrap();
        let (outcome, message_id) = self.told(slot, &target(token)).await;
        assert_eq!(outcome, Outcome::Accepted);
        message_id
    }

    /// Sends to `t0`, `t1`, … at once; the outcomes in their order.
    pub(crate) async fn send_many(&self, count: usize) -> Vec<Outcome> {
        futures_util::future::join_all((0..count).map(|n| async move { self.send(&format!("t{n}")).await })).await
    }

    /// The same with [`Sending::send_again`].
    pub(crate) async fn send_many_again(&self, count: usize) -> Vec<Outcome> {
        let all = (0..count).map(|n| async move { self.send_again(&format!("t{n}")).await });
        futures_util::future::join_all(all).await
    }
}

pub(crate) fn target(token: &str) -> TargetKind {
    TargetKind::Token(Token::parse(token).unwrap())
}

pub(crate) fn is_accepted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Accepted)
}

/// Runs a test as a sender thread runs, and not for ever.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(LocalSet::new().run_until(async {
        tokio::time::timeout(Duration::from_mins(1), test)
            .await
            .expect("the test hangs");
    }));
}

/// Waits until something becomes true that no signal tells.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < patience, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Polls once: must it still wait?
pub(crate) async fn waits<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())).await
}
