//! A store with a clock that stands still, a listener, and a worker who sends to nobody.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bugle_model::{
    Accepted, AppId, Channel, Clock, Counts, DeviceId, DeviceSelector, Lane, NewPush, PageId, PageRef, Platform,
    Provider, PushKey, PushStatus, PushUid, Recipient, Registration, Report, Route, Taken, Target, TargetKind,
    Timestamp, Token, Verdict,
};
use bugle_store::{Config, DatabaseUrl, Expansion, Handover, Store, Walk};
use bugle_testkit::TestClock;
use bugle_testkit::postgres::{Database, Server};
use tokio::sync::Notify;

use super::spy::Spy;
pub(crate) use super::worker::{Fate, enter, report_on, settle};
use crate::backend::{Backend, Place};

pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const ANDROID: Route = Route {
    provider: Some(Provider::Fcm),
    platform: Some(Platform::Android),
};
pub(crate) const IOS: Route = Route {
    provider: Some(Provider::Fcm),
    platform: Some(Platform::Ios),
};
pub(crate) const APNS: Route = Route {
    provider: Some(Provider::Apns),
    platform: Some(Platform::Ios),
};

/// What was handed over.
#[derive(Default)]
pub(crate) struct Ears {
    pages: Mutex<Vec<PageRef>>,
    kept: Mutex<Vec<PageRef>>,
    lease: Mutex<Option<Duration>>,
    legs: AtomicU64,
    waked: Notify,
}

impl Ears {
    /// What was handed over since the last time.
    pub(crate) fn pages(&self) -> Vec<PageRef> {
        std::mem::take(&mut self.pages.lock().unwrap())
    }

    /// What only this process can take, and was handed over since the last time.
    pub(crate) fn kept(&self) -> Vec<PageRef> {
        std::mem::take(&mut self.kept.lock().unwrap())
    }

    /// This process takes what it accepts for so long, or not at all.
    pub(crate) fn keep_for(&self, lease: Option<Duration>) {
        *self.lease.lock().unwrap() = lease;
    }

    /// How often legs were waked since the last time.
    pub(crate) fn legs(&self) -> u64 {
        self.legs.swap(0, Ordering::SeqCst)
    }

    /// Waits until legs are waked; not for ever.
    pub(crate) async fn hear_legs(&self) {
        let heard = async {
            while self.legs() == 0 {
                self.waked.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), heard)
            .await
            .expect("legs are waked");
    }
}

impl Handover for Ears {
    fn pages(&self, pages: Vec<PageRef>) {
        self.pages.lock().unwrap().extend(pages);
    }

    fn kept(&self, pages: Vec<PageRef>) {
        self.kept.lock().unwrap().extend(pages);
    }

    fn lease(&self) -> Option<Duration> {
        *self.lease.lock().unwrap()
    }

    fn legs(&self) {
        self.legs.fetch_add(1, Ordering::SeqCst);
        self.waked.notify_one();
    }
}

pub(crate) struct World {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) ears: Arc<Ears>,
    pub(crate) place: Place,
    spy: Spy,
    store: Option<Arc<dyn Store>>,
    replica_url: Option<DatabaseUrl>,
}

/// Another process on the same database.
pub(crate) struct Second {
    pub(crate) ears: Arc<Ears>,
    pub(crate) store: Arc<dyn Store>,
}

impl World {
    pub(crate) async fn new(backend: Backend) -> Self {
        Self::at(backend.place(), None).await
    }

    /// One in this database, with a replica.
    pub(crate) async fn with_replica(database: Database, replica_url: &str) -> Self {
        Self::at(Place::Postgres(database), Some(DatabaseUrl::new(replica_url))).await
    }

    async fn at(place: Place, replica_url: Option<DatabaseUrl>) -> Self {
        let mut world = Self {
            clock: Arc::new(TestClock::new()),
            ears: Arc::default(),
            spy: Spy::on(&place),
            place,
            store: None,
            replica_url,
        };
        world.store = Some(world.open(&world.ears).await);
        world
    }

    async fn open(&self, ears: &Arc<Ears>) -> Arc<dyn Store> {
        // Nobody pulls the plug in these tests. One reader: what it was asked for before a ping is done when it answers.
        let config = Config {
            synchronous: bugle_store::Synchronous::Normal,
            readers: 1,
            replica_url: self.replica_url.clone(),
            ..Config::default()
        };
        // Another test may be starting a program: for a moment its child has a copy of the file that is locked.
        for _ in 0..200 {
            match self.place.open(&config, self.clock.clone(), ears.clone()).await {
                Ok(store) => return store,
                Err(bugle_store::Error::Setup(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the store does not open")
    }

    /// Drops the store and opens it again: leases are over, whatever was answered is there.
    pub(crate) async fn crash(&mut self) {
        drop(self.store.take());
        if let Place::Postgres(database) = &self.place {
            // In the field the next process waits for this.
            let _ = database.query(
                "UPDATE pages SET lease_until = clock_timestamp() - interval '1 s' WHERE lease_until IS NOT NULL",
            );
            let _ = database.query(
                "UPDATE pushes SET lease_until = clock_timestamp() - interval '1 s' WHERE lease_until IS NOT NULL",
            );
        }
        self.store = Some(self.open(&self.ears).await);
    }

    /// Opens the same place once more, as another process would; not on SQLite, which has one.
    pub(crate) async fn second(&self) -> Second {
        let ears = Arc::default();
        let store = self.open(&ears).await;
        Second { ears, store }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.store.as_ref().expect("the store is open").as_ref()
    }

    /// The store for a task of its own.
    pub(crate) fn shared(&self) -> Arc<dyn Store> {
        Arc::clone(self.store.as_ref().expect("the store is open"))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A device of this id and route, whose token is `token-ID`, subscribed to these channels.
    pub(crate) async fn device(&self, id: &str, route: Route, channels: &[&str]) {
        self.device_with(id, route, &format!("token-{id}"), channels).await;
    }

    pub(crate) async fn device_with(&self, id: &str, route: Route, token: &str, channels: &[&str]) {
        let platform = route.platform.unwrap();
        let registration = Registration {
            id: Some(DeviceId::parse(id).unwrap()),
            provider: route.provider.unwrap(),
            platform,
            platform_word: platform.as_str(),
            token: Token::parse(token).unwrap(),
            user: String::new(),
            meta: BTreeMap::new(),
            timezone: None,
            locale: None,
            channels: Some(channels.iter().map(|c| Channel::parse(*c).unwrap()).collect()),
            topics: None,
        };
        self.store().register(&app(), registration, self.now()).await.unwrap();
    }

    /// `count` Android devices `PREFIX0001`, … in these channels.
    pub(crate) async fn devices(&self, prefix: &str, count: usize, channels: &[&str]) {
        for number in 1..=count {
            self.device(&format!("{prefix}{number:04}"), ANDROID, channels).await;
        }
    }

    pub(crate) async fn remove(&self, id: &str) {
        let which = DeviceSelector {
            ids: vec![id.to_owned()],
            ..DeviceSelector::default()
        };
        self.store().remove(&app(), &which).await.unwrap();
    }

    pub(crate) async fn unsubscribe(&self, id: &str, channel: &str) {
        let channel = [Channel::parse(channel).unwrap()];
        let id = DeviceId::parse(id).unwrap();
        assert!(self.store().unsubscribe(&app(), &id, &channel).await.unwrap());
    }

    /// A push that is due now and lives for a day, with payloads for FCM only.
    pub(crate) fn push(&self, uid: &str, recipient: Recipient) -> NewPush {
        NewPush {
            app: app(),
            uid: self::uid(uid),
            hash: [7; 32],
            recipient,
            body: br#"{"fcm":{"notification":{"title":"Hello"}}}"#.to_vec(),
            providers: vec![Provider::Fcm],
            lane: Lane::Bulk,
            created_at: self.now(),
            due: self.now(),
            expires_at: self.now().plus(24 * HOUR),
        }
    }

    pub(crate) async fn accept(&self, uid: &str, recipient: Recipient) {
        let push = self.push(uid, recipient);
        assert_eq!(self.store().accept(push).await.unwrap(), Accepted::New);
    }

    /// Walks all open legs to their ends.
    pub(crate) async fn expand_all(&self) {
        loop {
            let legs = self.store().open_legs(self.now(), 1_000).await.unwrap();
            if legs.is_empty() {
                return;
            }
            for leg in legs {
                let walk = self.walk(leg.push, leg.route, 10_000).await.unwrap();
                assert_eq!(self.expand(walk).await, Expansion::Done);
            }
        }
    }

    /// Walks one leg.
    pub(crate) async fn walk(&self, push: PushKey, route: Route, targets: u32) -> Option<Walk> {
        self.store().walk(push, &[(route, targets)]).await.unwrap().pop()
    }

    /// Writes one walk down.
    pub(crate) async fn expand(&self, walk: Walk) -> Expansion {
        self.store().expand(vec![walk], self.now()).await.unwrap()[0]
    }

    pub(crate) async fn due(&self) -> Vec<PageId> {
        let mut pages = Vec::new();
        for lane in [Lane::Urgent, Lane::Bulk] {
            let due = self.store().due_pages(lane, self.now(), 10_000).await.unwrap();
            pages.extend(due.into_iter().map(|page| page.id));
        }
        pages
    }

    /// Takes everything that is due, for an hour.
    pub(crate) async fn take_due(&self) -> Vec<Taken> {
        let due = self.due().await;
        self.store().take(&due, HOUR).await.unwrap()
    }

    /// Takes the one page that is due.
    pub(crate) async fn take_one(&self) -> Taken {
        let mut taken = self.take_due().await;
        assert_eq!(taken.len(), 1);
        taken.remove(0)
    }

    pub(crate) async fn report(&self, report: Report) -> Verdict {
        self.store().report(vec![report], self.now()).await.unwrap()[0]
    }

    /// Takes all that is due and settles it with these fates, until nothing is due any more.
    pub(crate) async fn drive(&self, mut fate: impl FnMut(&Target) -> Fate) {
        loop {
            let taken = self.take_due().await;
            if taken.is_empty() {
                return;
            }
            let reports = taken.iter().map(|page| settle(page, &mut fate)).collect();
            for verdict in self.store().report(reports, self.now()).await.unwrap() {
                assert!(matches!(verdict, Verdict::Written(_)));
            }
        }
    }

    pub(crate) async fn status(&self, uid: &str) -> PushStatus {
        let status = self.store().status(&app(), &self::uid(uid)).await.unwrap();
        let status = status.expect("the push is known");
        for leg in &status.legs {
            assert!(leg.targeted >= leg.counts.total(), "{leg:?}");
        }
        status
    }

    /// What a query of pairs of a text and a number says.
    pub(crate) fn pairs(&self, sql: &str) -> BTreeMap<String, i64> {
        self.spy.pairs(sql).into_iter().collect()
    }

    /// What a query of one number says about the database: for what the trait does not show.
    pub(crate) fn count(&self, sql: &str) -> i64 {
        self.spy.count(sql)
    }

    /// The same on a replica of its server.
    pub(crate) fn count_on(&self, replica: &Server, sql: &str) -> i64 {
        let Place::Postgres(database) = &self.place else {
            panic!("only PostgreSQL has replicas");
        };
        database.query_on(replica, sql).trim().parse().unwrap()
    }
}

pub(crate) fn app() -> AppId {
    AppId::default_app()
}

pub(crate) fn uid(uid: &str) -> PushUid {
    PushUid::parse(uid).unwrap()
}

pub(crate) fn channels(names: &[&str]) -> Recipient {
    Recipient::Channels(names.iter().map(|c| Channel::parse(*c).unwrap()).collect())
}

pub(crate) fn ids(ids: &[&str]) -> Recipient {
    Recipient::Devices(ids.iter().map(|id| DeviceId::parse(*id).unwrap()).collect())
}

pub(crate) fn tokens(count: usize) -> Recipient {
    let tokens = (1..=count).map(|n| Token::parse(&format!("raw-{n}")).unwrap());
    Recipient::Tokens(Provider::Fcm, tokens.collect())
}

/// The push's own account: the sum over its legs, and how many it is.
pub(crate) fn total(status: &PushStatus) -> (u64, Counts) {
    let mut counts = Counts::default();
    for leg in &status.legs {
        counts += leg.counts;
    }
    (status.legs.iter().map(|leg| leg.targeted).sum(), counts)
}

pub(crate) fn sent(status: &PushStatus) -> u64 {
    total(status).1.sent
}

/// The tokens that a page would be sent to.
pub(crate) fn token_texts(taken: &Taken) -> Vec<&str> {
    let texts = taken.targets.iter().filter_map(|target| match &target.kind {
        TargetKind::Token(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}
