use std::sync::Arc;

use bugle_model::{
    AppId, Channel, DeviceFilter, DeviceId, PageRef, Paging, Platform, Provider, Registration, Timestamp, Token,
};
use bugle_testkit::postgres::Database;

use super::*;
use crate::postgres::{self, Store};
use crate::{Config, DatabaseUrl, Handover, Registry};

struct Deaf;

impl Handover for Deaf {
    fn pages(&self, _: Vec<PageRef>) {}
    fn legs(&self) {}
}

struct Fixture {
    store: Arc<Store>,
    _database: Database,
}

/// Who is there, with their users and channels.
type There = Vec<(String, String, Vec<String>)>;

impl Fixture {
    async fn new() -> Self {
        let database = bugle_testkit::postgres::database();
        let config = Config {
            url: DatabaseUrl::new(database.url()),
            ..Config::default()
        };
        let clock = Arc::new(bugle_testkit::TestClock::new());
        Self {
            store: postgres::open(&config, clock, Arc::new(Deaf)).await.unwrap(),
            _database: database,
        }
    }

    async fn register(&self, id: &str, token: &str, user: &str, channels: &[&str], now: i64) {
        let registration = Registration {
            id: Some(DeviceId::parse(id).unwrap()),
            provider: Provider::Fcm,
            platform: Platform::Ios,
            platform_word: "apns",
            token: Token::parse(token).unwrap(),
            user: user.to_owned(),
            meta: [("k".to_owned(), "v".to_owned())].into(),
            timezone: None,
            locale: None,
            channels: Some(channels.iter().map(|c| Channel::parse(*c).unwrap()).collect()),
            topics: Some(vec![Channel::parse("topic").unwrap()]),
        };
        let app = AppId::default_app();
        self.store.register(&app, registration, Timestamp(now)).await.unwrap();
    }

    async fn key_of_app(&self) -> i32 {
        self.store
            .shared
            .apps
            .intern(&self.store.shared, &AppId::default_app())
            .await
            .unwrap()
    }

    /// Was somebody forgotten?
    async fn forget(&self, provider: Provider, token: &str, registered_before: Option<i64>, at: i64) -> bool {
        let death = Death {
            app: self.key_of_app().await,
            provider,
            token: Token::parse(token).unwrap(),
            registered_before: registered_before.map(Timestamp),
            push: "push".to_owned(),
            reason: "UNREGISTERED",
            at: Timestamp(at),
        };
        let before = self.there().await.len();
        let deaths = Arc::new([death]);
        let job = self.store.shared.write(move |tx| {
            let deaths = Arc::clone(&deaths);
            Box::pin(async move { forget_dead(tx.conn(), &*deaths).await })
        });
        job.await.unwrap();
        before > self.there().await.len()
    }

    async fn restore(&self, since: i64) -> u64 {
        self.store
            .restore(&AppId::default_app(), Timestamp(since))
            .await
            .unwrap()
    }

    async fn purge(&self, before: i64, limit: u32) -> u64 {
        let job = self
            .store
            .shared
            .write(move |tx| Box::pin(purge(tx.conn(), Timestamp(before), limit)));
        job.await.unwrap()
    }

    async fn there(&self) -> There {
        let paging = Paging {
            after: None,
            limit: 1_000,
            count_total: false,
        };
        let app = AppId::default_app();
        let list = self
            .store
            .devices(&app, &DeviceFilter::default(), &paging, true)
            .await
            .unwrap();
        let row = |d: bugle_model::DeviceDetails| (d.device.id.to_string(), d.device.user, d.channels.unwrap());
        list.items.into_iter().map(row).collect()
    }
}

fn there(rows: &[(&str, &str, &[&str])]) -> There {
    let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    rows.iter()
        .map(|(id, user, channels)| ((*id).to_owned(), (*user).to_owned(), texts(channels)))
        .collect()
}

#[tokio::test]
async fn the_dead_are_forgotten_with_their_subscriptions_and_come_back_with_them() {
    let f = Fixture::new().await;
    f.register("a", "1", "anna", &["1", "x\"y", "null"], 5).await;
    f.register("b", "2", "", &[], 5).await;
    assert!(f.forget(Provider::Fcm, "1", None, 10).await);
    assert_eq!(f.there().await, there(&[("b", "", &["topic"])]));
    assert_eq!(f.restore(10).await, 1);
    let expected = there(&[("a", "anna", &["1", "null", "topic", "x\"y"]), ("b", "", &["topic"])]);
    assert_eq!(f.there().await, expected);
    assert_eq!(f.restore(0).await, 0, "nobody comes back twice");
    // Origins came back too: declaring no channels leaves the topic.
    f.register("a", "1", "anna", &[], 20).await;
    assert_eq!(f.there().await[0].2, ["topic"]);
    // As did the token: it is found again.
    assert!(f.forget(Provider::Fcm, "1", None, 30).await);
}

#[tokio::test]
async fn only_who_still_holds_the_token_is_forgotten() {
    let f = Fixture::new().await;
    f.register("a", "old", "", &[], 5).await;
    f.register("a", "new", "", &[], 6).await;
    assert!(!f.forget(Provider::Fcm, "old", None, 10).await);
    assert!(!f.forget(Provider::Apns, "new", None, 10).await);
    assert!(
        !f.forget(Provider::Fcm, "new", Some(6), 10).await,
        "registered at that moment is not before it"
    );
    assert!(f.forget(Provider::Fcm, "new", Some(7), 10).await);
    assert!(!f.forget(Provider::Fcm, "new", None, 11).await);
}

#[tokio::test]
async fn nobody_comes_back_over_a_new_registration() {
    let f = Fixture::new().await;
    f.register("a", "1", "gone", &[], 5).await;
    f.register("b", "2", "gone", &[], 5).await;
    f.register("c", "3", "gone", &[], 5).await;
    for token in ["1", "2", "3"] {
        assert!(f.forget(Provider::Fcm, token, None, 10).await);
    }
    f.register("a", "other", "new", &[], 11).await;
    f.register("other", "2", "new", &[], 11).await;
    assert_eq!(f.restore(0).await, 1);
    let users: Vec<_> = f.there().await.into_iter().map(|(id, user, _)| (id, user)).collect();
    let expected = [("a", "new"), ("c", "gone"), ("other", "new")];
    assert_eq!(users, expected.map(|(id, user)| (id.to_owned(), user.to_owned())));
}

#[tokio::test]
async fn of_two_deaths_the_later_state_comes_back() {
    let f = Fixture::new().await;
    for (user, at) in [("first", 10), ("second", 20)] {
        f.register("a", "1", user, &[], at).await;
        assert!(f.forget(Provider::Fcm, "1", None, at + 1).await);
    }
    assert_eq!(f.restore(22).await, 0, "before that moment");
    assert_eq!(f.restore(0).await, 1);
    assert_eq!(f.there().await[0].1, "second");
}

#[tokio::test]
async fn many_come_back_in_steps() {
    let f = Fixture::new().await;
    for n in 0..600 {
        f.register(&format!("d{n}"), &format!("t{n}"), "", &["news"], 1).await;
        assert!(f.forget(Provider::Fcm, &format!("t{n}"), None, 10 + n / 300).await);
    }
    f.register("d7", "other", "", &[], 20).await;
    assert_eq!(f.restore(10).await, 599);
    assert_eq!(f.there().await.len(), 600);
}

#[tokio::test]
async fn the_long_gone_are_purged_in_steps() {
    let f = Fixture::new().await;
    for n in 0..5 {
        f.register("a", "1", "", &[], 1).await;
        assert!(f.forget(Provider::Fcm, "1", None, n).await);
    }
    assert_eq!(f.purge(3, 2).await, 2);
    assert_eq!(f.purge(3, 2).await, 1);
    assert_eq!(f.purge(3, 2).await, 0);
    assert_eq!(f.restore(0).await, 1);
}

#[tokio::test]
async fn one_transaction_forgets_many_each_once() {
    let f = Fixture::new().await;
    for n in 0..100 {
        f.register(&format!("d{n}"), &format!("t{n}"), "", &["news"], 5).await;
    }
    let app = f.key_of_app().await;
    let death = |n: i64, registered_before| Death {
        app,
        provider: Provider::Fcm,
        token: Token::parse(&format!("t{n}")).unwrap(),
        registered_before,
        push: "push".to_owned(),
        reason: "UNREGISTERED",
        at: Timestamp(10),
    };
    // Each twice, every third one only as it was before its registration, and some that nobody holds.
    let deaths = (0..110).map(|n| death(n, (n % 3 == 0).then_some(Timestamp(5))));
    let deaths: Arc<Vec<_>> = Arc::new(deaths.clone().chain(deaths.rev()).collect());
    let job = f.store.shared.write(move |tx| {
        let deaths = Arc::clone(&deaths);
        Box::pin(async move { forget_dead(tx.conn(), &deaths).await })
    });
    job.await.unwrap();
    assert_eq!(f.there().await.len(), 34);
    assert_eq!(f.restore(0).await, 66);
    assert!(
        f.there()
            .await
            .iter()
            .all(|(_, _, channels)| channels == &["news", "topic"])
    );
}
