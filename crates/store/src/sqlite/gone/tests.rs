use std::sync::Arc;

use bugle_model::{
    AppId, Channel, DeviceFilter, DeviceId, PageRef, Paging, Platform, Provider, PushUid, Registration, Timestamp,
    Token,
};

use super::*;
use crate::sqlite::{self, Store};
use crate::{Config, Handover, Registry};

struct Deaf;

impl Handover for Deaf {
    fn pages(&self, _: Vec<PageRef>) {}
    fn legs(&self) {}
}

struct Fixture {
    store: Arc<Store>,
    _dir: tempfile::TempDir,
}

/// Who is there, with their users and channels.
type There = Vec<(String, String, Vec<String>)>;

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(bugle_testkit::TestClock::new());
        Self {
            store: sqlite::open(&Config::default(), dir.path(), clock, Arc::new(Deaf)).unwrap(),
            _dir: dir,
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

    async fn forget(&self, provider: Provider, token: &str, registered_before: Option<i64>, at: i64) -> bool {
        let token = Token::parse(token).unwrap();
        let apps = self.store.apps.clone();
        let job = move |tx: &sqlite::writer::Tx<'_>| {
            let app = apps.intern(tx, &AppId::default_app())?;
            let push = PushUid::parse("push").unwrap();
            let death = Death {
                provider,
                token: &token,
                registered_before: registered_before.map(Timestamp),
                push: &push,
                reason: "UNREGISTERED",
                at: Timestamp(at),
            };
            forget_dead(tx.conn(), app, &death)
        };
        self.store.writer.run(false, Cost::removals(1), job).await.unwrap()
    }

    async fn restore(&self, since: i64) -> u64 {
        self.store
            .restore(&AppId::default_app(), Timestamp(since))
            .await
            .unwrap()
    }

    async fn purge(&self, before: i64, limit: u32) -> u64 {
        let job = move |tx: &sqlite::writer::Tx<'_>| purge(tx.conn(), Timestamp(before), limit);
        self.store.writer.run(false, Cost::default(), job).await.unwrap()
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
    let f = Fixture::new();
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
    let f = Fixture::new();
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
    let f = Fixture::new();
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
    let f = Fixture::new();
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
    let f = Fixture::new();
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
    let f = Fixture::new();
    for n in 0..5 {
        f.register("a", "1", "", &[], 1).await;
        assert!(f.forget(Provider::Fcm, "1", None, n).await);
    }
    assert_eq!(f.purge(3, 2).await, 2);
    assert_eq!(f.purge(3, 2).await, 1);
    assert_eq!(f.purge(3, 2).await, 0);
    assert_eq!(f.restore(0).await, 1);
}
