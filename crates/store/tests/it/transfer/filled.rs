//! An `SQLite` store with a bit of everything, most of it odd.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bugle_model::{
    Accepted, AppId, Channel, Clock, DeviceId, DeviceSelector, HoldReason, Lane, Locale, NewPush, Next, Platform,
    Provider, Recipient, Registration, Target, TargetKind, TimeZone, Timestamp, Token,
};
use bugle_store::{Config, Error, Handover, Result, Store, Synchronous, postgres, sqlite};
use bugle_testkit::TestClock;
use bugle_testkit::postgres::Database;
use futures_util::future::join_all;
use tempfile::TempDir;

use crate::ledger::world::{ANDROID, APNS, Fate, HOUR, app, channels, enter, ids, report_on, settle, tokens, uid};

/// Nobody listens.
struct Deaf;

impl Handover for Deaf {
    fn pages(&self, _: Vec<bugle_model::PageRef>) {}
    fn legs(&self) {}
}

/// The store's directory, what it is known to hold, and its time.
pub(super) struct Filled {
    pub(super) dir: TempDir,
    pub(super) clock: Arc<TestClock>,
    /// Tokens of the push `big` that have been sent to, or given up.
    pub(super) ended: BTreeSet<String>,
}

/// Every push of [`Filled`], by app.
pub(super) const PUSHES: &[(&str, &str)] = &[
    ("default", "ended"),
    ("default", "big"),
    ("default", "own"),
    ("default", "raw"),
    ("default", "scheduled"),
    ("default", "scheduled-channel"),
    ("default", "called-off"),
    ("default", "held"),
    ("shop", "ended"),
];

/// Devices in the channel `big`; some pages of at most 1 000.
pub(super) const BIG: usize = 3_500;

pub(super) fn shop() -> AppId {
    AppId::parse("shop").unwrap()
}

pub(super) fn open_sqlite(dir: &TempDir, clock: &Arc<TestClock>) -> Arc<sqlite::Store> {
    let config = Config {
        synchronous: Synchronous::Normal,
        ..Config::default()
    };
    when_free(|| sqlite::open(&config, dir.path(), clock.clone(), Arc::new(Deaf))).unwrap()
}

/// Tries again while a lock is held that was given back: a process that another test is just starting has a copy of every open file, until it runs.
pub(super) fn when_free<T>(mut open: impl FnMut() -> Result<T>) -> Result<T> {
    let since = Instant::now();
    loop {
        match open() {
            Err(Error::Setup(words)) if words.contains("another bugle") && since.elapsed() < Duration::from_secs(5) => {
                std::thread::sleep(Duration::from_millis(2));
            }
            opened => return opened,
        }
    }
}

pub(super) async fn open_postgres(database: &Database, clock: &Arc<TestClock>) -> Result<Arc<postgres::Store>> {
    let config = Config {
        url: bugle_store::DatabaseUrl::new(database.url()),
        connections: 4,
        ..Config::default()
    };
    postgres::open(&config, clock.clone(), Arc::new(Deaf)).await
}

fn registration(id: &str, token: &str, provider: Provider, platform: Platform) -> Registration {
    Registration {
        id: Some(DeviceId::parse(id).unwrap()),
        provider,
        platform,
        platform_word: platform.as_str(),
        token: Token::parse(token).unwrap(),
        user: String::new(),
        meta: BTreeMap::new(),
        timezone: None,
        locale: None,
        channels: None,
        topics: None,
    }
}

fn named(names: &[&str]) -> Vec<Channel> {
    names.iter().map(|name| Channel::parse(*name).unwrap()).collect()
}

/// What a text format, a wrong length or a wrong encoding would spoil.
fn odd_devices() -> Vec<Registration> {
    let texts = ["\\N", "\\.", "Zoë 🦊", "'\"\\n\\", "{}", "ünï,code;", "NULL", " "];
    let mut odd: Vec<_> = Vec::new();
    for (number, text) in texts.into_iter().enumerate() {
        odd.push(Registration {
            user: text.to_owned(),
            meta: BTreeMap::from([
                (text.to_owned(), format!("{text}\n{text}")),
                ("k\u{1}".to_owned(), "\u{0}\u{7f}".to_owned()),
            ]),
            timezone: Some(TimeZone::parse("Europe/Berlin").unwrap()),
            locale: Some(Locale::parse("zh-Hant-TW").unwrap()),
            channels: Some(named(&[text, "news"])),
            topics: Some(named(&["topic/ü", "news"])),
            ..registration(
                &format!("odd-{number}"),
                &format!("odd-token-{number}~!@#$%^&*()|"),
                Provider::Fcm,
                Platform::Web,
            )
        });
    }
    odd.push(registration(
        "long",
        &"x".repeat(4_096),
        Provider::Hms,
        Platform::Android,
    ));
    odd.push(Registration {
        id: None,
        platform_word: "apns",
        ..registration("unused", "made-by-the-server", Provider::Apns, Platform::Ios)
    });
    for provider in Provider::ALL {
        for platform in Platform::ALL {
            let id = format!("{}-{}", provider.as_str(), platform.as_str());
            odd.push(Registration {
                channels: Some(named(&["all", "news"])),
                ..registration(&id, &format!("token-{id}"), provider, platform)
            });
        }
    }
    odd
}

pub(super) fn push(now: Timestamp, uid: &str, recipient: Recipient) -> NewPush {
    NewPush {
        app: app(),
        uid: crate::ledger::world::uid(uid),
        hash: [0; 32],
        recipient,
        body: b"{\"fcm\":{\"x\":\"\\\\N \xc3\xbc\"}}".to_vec(),
        providers: vec![Provider::Fcm],
        lane: Lane::Bulk,
        created_at: now,
        due: now,
        expires_at: now.plus(24 * HOUR),
    }
}

pub(super) fn token_of(target: &Target) -> Option<String> {
    match &target.kind {
        TargetKind::Token(token) => Some(token.as_str().to_owned()),
        _ => None,
    }
}

/// Takes all that is due and settles it with these fates, until nothing is due any more.
pub(super) async fn drive(store: &dyn Store, clock: &TestClock, mut fate: impl FnMut(&Target) -> Fate) {
    loop {
        let mut due = Vec::new();
        for lane in [Lane::Urgent, Lane::Bulk] {
            let pages = store.due_pages(lane, clock.now(), 10_000).await.unwrap();
            due.extend(pages.into_iter().map(|page| page.id));
        }
        let taken = store.take(&due, HOUR).await.unwrap();
        if taken.is_empty() {
            return;
        }
        let reports = taken.iter().map(|page| settle(page, &mut fate)).collect();
        store.report(reports, clock.now()).await.unwrap();
    }
}

/// Walks all open legs that are due to their ends.
pub(super) async fn expand_all(store: &dyn Store, clock: &TestClock) {
    loop {
        let legs = store.open_legs(clock.now(), 1_000).await.unwrap();
        if legs.is_empty() {
            return;
        }
        for leg in legs {
            let walks = store.walk(leg.push, &[(leg.route, 10_000)]).await.unwrap();
            store.expand(walks, clock.now()).await.unwrap();
        }
    }
}

impl Filled {
    /// An empty store.
    pub(super) fn empty() -> Self {
        let filled = Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(TestClock::new()),
            ended: BTreeSet::new(),
        };
        drop(open_sqlite(&filled.dir, &filled.clock));
        filled
    }

    /// With a bit of everything, closed.
    pub(super) async fn new() -> Self {
        let mut filled = Self::empty();
        let store = open_sqlite(&filled.dir, &filled.clock);
        let all: &dyn Store = store.as_ref();
        filled.register(all).await;
        filled.end_some(all).await;
        filled.begin_big(all).await;
        filled.begin_others(all).await;
        filled
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join("bugle.db")
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn register(&self, store: &dyn Store) {
        for registration in odd_devices() {
            for app in [app(), shop()] {
                self.clock.advance(Duration::from_millis(7));
                store.register(&app, registration.clone(), self.now()).await.unwrap();
            }
        }
        let app = app();
        let now = self.now();
        let many = (0..BIG).map(|number| {
            let big = Registration {
                channels: Some(named(&["big"])),
                ..registration(
                    &format!("big-{number:05}"),
                    &format!("big-token-{number}"),
                    Provider::Fcm,
                    Platform::Android,
                )
            };
            store.register(&app, big, now)
        });
        for registered in join_all(many).await {
            assert!(registered.unwrap().created);
        }
        // Gaps among the keys, the newest too: no later device may get one of these.
        let which = DeviceSelector {
            ids: ["big-00007", "big-03498", "big-03499"].map(str::to_owned).to_vec(),
            ..DeviceSelector::default()
        };
        assert_eq!(store.remove(&app, &which).await.unwrap(), 3);
        let last = registration("newest", "newest", Provider::Fcm, Platform::Android);
        let last = Registration { id: None, ..last };
        let last = store.register(&app, last, self.now()).await.unwrap().device.id;
        let which = DeviceSelector {
            ids: vec![last.to_string()],
            ..DeviceSelector::default()
        };
        assert_eq!(store.remove(&app, &which).await.unwrap(), 1);
    }

    /// Pushes that have ended, and devices that they found dead.
    async fn end_some(&self, store: &dyn Store) {
        for app in [app(), shop()] {
            let ended = NewPush {
                app,
                providers: Provider::ALL.to_vec(),
                ..push(self.now(), "ended", channels(&["news"]))
            };
            assert_eq!(store.accept(ended).await.unwrap(), Accepted::New);
        }
        expand_all(store, &self.clock).await;
        drive(store, &self.clock, |target| match token_of(target).as_deref() {
            Some("odd-token-3~!@#$%^&*()|" | "token-fcm-android") => Fate::Dead,
            Some("odd-token-4~!@#$%^&*()|") => Fate::Failed,
            _ => Fate::Sent,
        })
        .await;
    }

    /// A push of four pages that is in the middle of everything.
    async fn begin_big(&mut self, store: &dyn Store) {
        store.accept(push(self.now(), "big", channels(&["big"]))).await.unwrap();
        let legs = store.open_legs(self.now(), 10).await.unwrap();
        let leg = legs.iter().find(|leg| leg.route == ANDROID).unwrap();
        // Three pages of four.
        let walks = store.walk(leg.push, &[(leg.route, 2_500)]).await.unwrap();
        assert!(!walks[0].closed);
        store.expand(walks, self.now()).await.unwrap();
        let due = store.due_pages(Lane::Bulk, self.now(), 10).await.unwrap();
        let pages: Vec<_> = due
            .iter()
            .filter(|page| page.id.push == leg.push)
            .map(|page| page.id)
            .collect();
        let taken = store.take(&pages[..2], HOUR).await.unwrap();
        // One is settled, with left-overs that wait for half an hour.
        let later = self.now().plus(HOUR / 2);
        let mut fates = 0;
        let settled = settle(&taken[0], |target| {
            fates += 1;
            let fate = match fates % 5 {
                0 => Fate::Again(later),
                1 => Fate::Dead,
                _ => Fate::Sent,
            };
            self.note(target, fate);
            fate
        });
        // One is in the middle: some are through, one is to be tried again, two are still open.
        let mut middle = report_on(&taken[1], Next::Continue);
        for (number, target) in taken[1].targets.iter().take(400).enumerate() {
            let fate = if number == 17 { Fate::Again(later) } else { Fate::Sent };
            if number % 200 == 30 {
                middle.progress.open.push(target.position);
                continue;
            }
            self.note(target, fate);
            enter(&mut middle, target, fate);
        }
        store.report(vec![settled, middle], self.now()).await.unwrap();
    }

    fn note(&mut self, target: &Target, fate: Fate) {
        if !matches!(fate, Fate::Again(_)) {
            assert!(self.ended.insert(token_of(target).unwrap()));
        }
    }

    async fn begin_others(&self, store: &dyn Store) {
        let now = self.now();
        let own = NewPush {
            lane: Lane::Urgent,
            ..push(now, "own", ids(&["odd-0", "odd-1", "fcm-ios", "nobody", "hms-web"]))
        };
        store.accept(own).await.unwrap();
        let due = store.due_pages(Lane::Urgent, now, 10).await.unwrap();
        let taken = store.take(&[due[0].id], HOUR).await.unwrap();
        let mut middle = report_on(&taken[0], Next::Continue);
        enter(&mut middle, &taken[0].targets[0], Fate::Sent);
        store.report(vec![middle], now).await.unwrap();

        store.accept(push(now, "raw", tokens(1_234))).await.unwrap();
        for (uid, recipient) in [
            ("scheduled", tokens(3)),
            ("scheduled-channel", channels(&["all", "news"])),
        ] {
            let later = NewPush {
                due: now.plus(2 * HOUR),
                ..push(now, uid, recipient)
            };
            store.accept(later).await.unwrap();
        }
        store.accept(push(now, "called-off", channels(&["big"]))).await.unwrap();
        assert!(store.cancel(&app(), &uid("called-off"), now).await.unwrap());
        let held = NewPush {
            providers: vec![Provider::Apns],
            ..push(now, "held", channels(&["all"]))
        };
        store.accept(held).await.unwrap();
        store
            .set_hold(&app(), APNS, Some(HoldReason::Outage), now)
            .await
            .unwrap();
        store
            .set_hold(&shop(), ANDROID, Some(HoldReason::Credential), now)
            .await
            .unwrap();
        store.set_hold(&shop(), ANDROID, None, now.plus(HOUR)).await.unwrap();
    }
}
