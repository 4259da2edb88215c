//! A token is declared dead while its device registers a new one.

use std::sync::Arc;
use std::time::Duration;

use bugle_model::{
    Accepted, Clock, Dead, Lane, NewPush, Next, Provider, PushUid, Recipient, Registration, Report, Taken, TargetKind,
    Timestamp, Verdict,
};
use bugle_store::Store;
use bugle_testkit::TestClock;
use rstest::rstest;
use tokio::task::JoinSet;

use super::{all, app, channels, id, named};
use crate::backend::Backend;
use crate::fixture::Fresh;

/// As many as one page of a push names.
const DEVICES: usize = 100;
const ROUNDS: usize = 100;

fn registration(round: usize, number: usize) -> Registration {
    Registration {
        channels: Some(channels(&["news"])),
        ..named(&format!("d{number:03}"), &format!("token-{round}-{number}"))
    }
}

/// Pushes to all devices and takes the page, which has the tokens of this moment.
async fn take(store: &dyn Store, round: usize, now: Timestamp) -> Taken {
    let push = NewPush {
        app: app(),
        uid: PushUid::parse(format!("push-{round}")).unwrap(),
        hash: [7; 32],
        recipient: Recipient::Devices((0..DEVICES).map(|number| id(&format!("d{number:03}"))).collect()),
        body: br#"{"fcm":{}}"#.to_vec(),
        providers: vec![Provider::Fcm],
        lane: Lane::Bulk,
        created_at: now,
        due: now,
        expires_at: now.plus(Duration::from_hours(1)),
    };
    assert_eq!(store.accept(push).await.unwrap(), Accepted::New);
    let due = store.due_pages(Lane::Bulk, now, 10).await.unwrap();
    let due: Vec<_> = due.into_iter().map(|page| page.id).collect();
    let mut taken = store.take(&due, Duration::from_secs(60)).await.unwrap();
    assert_eq!((taken.len(), taken[0].targets.len()), (1, DEVICES));
    taken.remove(0)
}

/// The provider has declared every token of the page dead.
fn all_dead(taken: &Taken) -> Report {
    let mut progress = taken.progress.clone();
    let mut dead = Vec::new();
    for target in &taken.targets {
        let TargetKind::Token(token) = &target.kind else {
            panic!("it has a token: {target:?}")
        };
        progress.position = progress.position.max(target.position);
        progress.counts_mut(target.route).invalid += 1;
        dead.push(Dead {
            route: target.route,
            token: token.clone(),
            reason: "UNREGISTERED",
            registered_before: None,
        });
    }
    progress.open.clear();
    Report {
        id: taken.id,
        epoch: taken.epoch,
        progress,
        answered: u32::try_from(dead.len()).unwrap(),
        payload: 0,
        dead,
        next: Next::Settle,
    }
}

/// Registers every device with its next token, some by way of another process, and declares the old tokens dead in between. Answers how many devices had been removed
/// when they registered.
async fn fight(stores: &[Arc<dyn Store>], round: usize, report: Report, now: Timestamp) -> usize {
    let (mut registering, mut reporting) = (JoinSet::new(), JoinSet::new());
    for number in 0..DEVICES {
        if number == round % DEVICES {
            let (store, report) = (Arc::clone(&stores[round % stores.len()]), report.clone());
            reporting.spawn(async move { store.report(vec![report], now).await.unwrap() });
        }
        let store = Arc::clone(&stores[number % stores.len()]);
        registering.spawn(async move { store.register(&app(), registration(round, number), now).await.unwrap() });
    }
    let registered = registering.join_all().await;
    for verdicts in reporting.join_all().await {
        assert!(matches!(verdicts[..], [Verdict::Written(_)]));
    }
    registered.iter().filter(|registered| registered.created).count()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_is_never_lost_to_the_death_of_the_old_one(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let fresh = Fresh::new(backend).await;
    let stores = fresh.processes().await;
    let now = TestClock::new().now();
    let mut tasks = JoinSet::new();
    for number in 0..DEVICES {
        let store = Arc::clone(&fresh.store);
        tasks.spawn(async move { store.register(&app(), registration(0, number), now).await.unwrap() });
    }
    tasks.join_all().await;
    let mut removed = 0;
    for round in 1..=ROUNDS {
        let taken = take(&*fresh.store, round, now).await;
        removed += fight(&stores, round, all_dead(&taken), now).await;
        let list = all(&*fresh.store).await;
        let got: Vec<_> = list
            .iter()
            .map(|d| (d.device.token.as_str().to_owned(), d.channels.clone()))
            .collect();
        let expected: Vec<_> = (0..DEVICES)
            .map(|number| (format!("token-{round}-{number}"), Some(vec!["news".to_owned()])))
            .collect();
        assert_eq!(got, expected, "round {round}");
    }
    assert!(
        (1..ROUNDS * DEVICES).contains(&removed),
        "only one of the two orders was seen: {removed}"
    );
}
