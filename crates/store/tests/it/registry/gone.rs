//! Devices that a provider declared dead: forgotten by a report, put back, purged.

use std::ops::Range;
use std::time::Duration;

use bugle_model::{
    Accepted, Clock, Dead, Lane, NewPush, Platform, Provider, PushUid, Recipient, Registration, Route, Timestamp,
    Token, Verdict,
};
use bugle_store::Store;
use bugle_testkit::TestClock;
use futures_util::future::join_all;
use rstest::rstest;

use super::{all, app, at, channels, ids, named, register};
use crate::backend::Backend;
use crate::fixture::Fresh;
use crate::ledger::world::{Fate, settle};

/// Who is there, with their users and channels.
type There = Vec<(String, String, Vec<String>)>;

async fn there(store: &dyn Store) -> There {
    let row = |d: bugle_model::DeviceDetails| (d.device.id.to_string(), d.device.user, d.channels.unwrap());
    all(store).await.into_iter().map(row).collect()
}

fn rows(rows: &[(&str, &str, &[&str])]) -> There {
    rows.iter()
        .map(|(id, user, channels)| ((*id).to_owned(), (*user).to_owned(), super::texts(channels)))
        .collect()
}

/// A registration with these channels and the topic `topic`.
fn declared(id: &str, token: &str, user: &str, names: &[&str]) -> Registration {
    Registration {
        user: user.to_owned(),
        channels: Some(channels(names)),
        topics: Some(channels(&["topic"])),
        ..named(id, token)
    }
}

/// Devices `dN` with tokens `tN`.
async fn register_many(store: &dyn Store, numbers: Range<usize>) {
    let registrations =
        numbers.map(|n| register(store, declared(&format!("d{n:03}"), &format!("t{n}"), "", &["news"]), 1));
    join_all(registrations).await;
}

fn dead(provider: Provider, token: &str, registered_before: Option<Timestamp>) -> Dead {
    Dead {
        route: Route::of(provider, Platform::Android),
        token: Token::parse(token).unwrap(),
        reason: "UNREGISTERED",
        registered_before,
    }
}

fn dead_numbers(numbers: Range<usize>) -> Vec<Dead> {
    numbers.map(|n| dead(Provider::Fcm, &format!("t{n}"), None)).collect()
}

/// One report declares these dead. Answers how many devices went.
async fn die(store: &dyn Store, dead: Vec<Dead>, second: i64) -> usize {
    let now = TestClock::new().now();
    let push = NewPush {
        app: app(),
        uid: PushUid::generate(now),
        hash: [7; 32],
        recipient: Recipient::Tokens(Provider::Fcm, vec![Token::parse("raw").unwrap()]),
        body: br#"{"fcm":{}}"#.to_vec(),
        providers: vec![Provider::Fcm],
        lane: Lane::Bulk,
        created_at: now,
        due: now,
        expires_at: now.plus(Duration::from_hours(1)),
    };
    assert_eq!(store.accept(push).await.unwrap(), Accepted::New);
    let due = store.due_pages(Lane::Bulk, now, 10).await.unwrap();
    let taken = store.take(&[due[0].id], Duration::from_mins(1)).await.unwrap();
    let mut report = settle(&taken[0], |_| Fate::Sent);
    report.dead = dead;
    let before = all(store).await.len();
    let verdicts = store.report(vec![report], at(second)).await.unwrap();
    assert!(matches!(verdicts[..], [Verdict::Written(_)]));
    before - all(store).await.len()
}

async fn dies(store: &dyn Store, token: &str, second: i64) -> bool {
    die(store, vec![dead(Provider::Fcm, token, None)], second).await == 1
}

async fn restore(store: &dyn Store, since: i64) -> u64 {
    store.restore(&app(), at(since)).await.unwrap()
}

#[rstest]
#[tokio::test]
async fn the_dead_are_forgotten_with_their_subscriptions_and_come_back_with_them(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let fresh = Fresh::new(backend).await;
    let store = &*fresh.store;
    register(store, declared("a", "1", "anna", &["1", "x\"y", "null"]), 5).await;
    register(store, declared("b", "2", "", &[]), 5).await;
    assert!(dies(store, "1", 10).await);
    assert_eq!(there(store).await, rows(&[("b", "", &["topic"])]));
    assert_eq!(restore(store, 10).await, 1);
    let expected = rows(&[("a", "anna", &["1", "null", "topic", "x\"y"]), ("b", "", &["topic"])]);
    assert_eq!(there(store).await, expected);
    assert_eq!(restore(store, 0).await, 0, "nobody comes back twice");
    // Origins came back too: declaring no channels leaves the topic.
    register(store, declared("a", "1", "anna", &[]), 20).await;
    assert_eq!(there(store).await[0].2, ["topic"]);
    // As did the token: it is found again.
    assert!(dies(store, "1", 30).await);
}

#[rstest]
#[tokio::test]
async fn only_who_still_holds_the_token_is_forgotten(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let fresh = Fresh::new(backend).await;
    let store = &*fresh.store;
    register(store, declared("a", "old", "", &[]), 5).await;
    register(store, declared("a", "new", "", &[]), 6).await;
    assert!(!dies(store, "old", 10).await);
    assert_eq!(die(store, vec![dead(Provider::Apns, "new", None)], 10).await, 0);
    let before = |second| vec![dead(Provider::Fcm, "new", Some(at(second)))];
    assert_eq!(
        die(store, before(6), 10).await,
        0,
        "registered at that moment is not before it"
    );
    assert_eq!(die(store, before(7), 10).await, 1);
    assert!(!dies(store, "new", 11).await);
}

#[rstest]
#[tokio::test]
async fn nobody_comes_back_over_a_new_registration(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let fresh = Fresh::new(backend).await;
    let store = &*fresh.store;
    for (id, token) in [("a", "1"), ("b", "2"), ("c", "3")] {
        register(store, declared(id, token, "gone", &[]), 5).await;
        assert!(dies(store, token, 10).await);
    }
    register(store, declared("a", "other", "new", &[]), 11).await;
    register(store, declared("other", "2", "new", &[]), 11).await;
    assert_eq!(restore(store, 0).await, 1);
    let expected = [("a", "new"), ("c", "gone"), ("other", "new")];
    let expected = expected.map(|(id, user)| (id, user, &["topic"][..]));
    assert_eq!(there(store).await, rows(&expected));
}

#[rstest]
#[tokio::test]
async fn of_two_deaths_the_later_state_comes_back(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let fresh = Fresh::new(backend).await;
    let store = &*fresh.store;
    for (user, second) in [("first", 10), ("second", 20)] {
        register(store, declared("a", "1", user, &[]), second).await;
        assert!(dies(store, "1", second + 1).await);
    }
    assert_eq!(restore(store, 22).await, 0, "before that moment");
    assert_eq!(restore(store, 0).await, 1);
    assert_eq!(there(store).await[0].1, "second");
}

#[rstest]
#[tokio::test]
async fn many_come_back_in_steps(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let fresh = Fresh::new(backend).await;
    let store = &*fresh.store;
    register_many(store, 0..600).await;
    for step in 0..3 {
        let second = 10 + i64::from(step > 1);
        assert_eq!(
            die(store, dead_numbers(200 * step..200 * (step + 1)), second).await,
            200
        );
    }
    register(store, declared("d007", "other", "", &[]), 20).await;
    assert_eq!(restore(store, 10).await, 599);
    assert_eq!(ids(store).await.len(), 600);
}

#[rstest]
#[tokio::test]
async fn the_long_gone_are_purged_in_steps(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let fresh = Fresh::new(backend).await;
    let store = &*fresh.store;
    register_many(store, 0..450).await;
    for step in 0..3 {
        let numbers = 150 * step..150 * (step + 1);
        assert_eq!(
            die(store, dead_numbers(numbers), 10 + i64::try_from(step).unwrap()).await,
            150
        );
    }
    let mut purged = Vec::new();
    while purged.last() != Some(&0) {
        purged.push(store.forget(Timestamp(0), at(12)).await.unwrap());
    }
    assert_eq!(purged, [256, 44, 0]);
    assert_eq!(restore(store, 0).await, 150);
}

#[rstest]
#[tokio::test]
async fn one_report_forgets_many_each_once(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let fresh = Fresh::new(backend).await;
    let store = &*fresh.store;
    register_many(store, 0..100).await;
    // Each twice, every third one only as it was before its registration, and some that nobody holds.
    let deaths = (0..110).map(|n| dead(Provider::Fcm, &format!("t{n}"), (n % 3 == 0).then_some(at(1))));
    let deaths = deaths.clone().chain(deaths.rev()).collect();
    assert_eq!(die(store, deaths, 10).await, 66);
    assert_eq!(restore(store, 0).await, 66);
    let list = there(store).await;
    assert_eq!(list.len(), 100);
    assert!(list.iter().all(|(_, _, channels)| channels == &["news", "topic"]));
}
