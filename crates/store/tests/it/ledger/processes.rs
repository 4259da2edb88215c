//! Two processes on one database.

use std::sync::Arc;
use std::time::Duration;

use bugle_model::{
    Accepted, Flow, HoldReason, Lane, Next, PageId, Provider, PushState, Recipient, Route, Taken, Timestamp, Verdict,
};
use bugle_store::Store;

use super::world::{
    ANDROID, Fate, HOUR, Second, World, app, channels, enter, ids, report_on, sent, settle, tokens, total, uid,
};
use crate::backend::Backend;

async fn two() -> (World, Second) {
    let world = World::new(Backend::Postgres).await;
    let second = world.second().await;
    (world, second)
}

async fn due(store: &dyn Store, now: Timestamp) -> Vec<PageId> {
    let due = store.due_pages(Lane::Bulk, now, 10_000).await.unwrap();
    due.into_iter().map(|page| page.id).collect()
}

/// Takes what is due, which is one page.
async fn take(store: &dyn Store, now: Timestamp, lease: Duration) -> Taken {
    let mut taken = store.take(&due(store, now).await, lease).await.unwrap();
    assert_eq!(taken.len(), 1);
    taken.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_accept_one_uid_at_once_one_is_told_that_it_is_new() {
    let (world, second) = two().await;
    world.device("phone", ANDROID, &["news"]).await;
    for round in 0..60 {
        let recipient = match round % 3 {
            0 => tokens(1),
            1 => tokens(101),
            _ => channels(&["news"]),
        };
        let push = world.push(&format!("p{round}"), recipient);
        let (one, other) = tokio::join!(world.store().accept(push.clone()), second.store.accept(push));
        let mut answers = [one.unwrap(), other.unwrap()];
        answers.sort_by_key(|answer| *answer != Accepted::New);
        assert_eq!(answers, [Accepted::New, Accepted::Repeated], "round {round}");
    }
    let handed = [world.ears.pages(), second.ears.pages()].concat();
    assert_eq!(handed.len(), 40, "each page is handed over by the one who wrote it");
    assert_eq!(world.count("SELECT count(*) FROM pushes"), 60);
    assert_eq!(world.count("SELECT count(*) FROM legs"), 20 + 20 * 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_of_two_processes_that_hold_the_same_uids_do_not_deadlock() {
    let (world, second) = two().await;
    let accept = |store: Arc<dyn Store>, backwards: bool| {
        let mut pushes: Vec<_> = (0..400)
            .map(|n| world.push(&format!("p{}", n % 200), tokens(1)))
            .collect();
        if backwards {
            pushes.reverse();
        }
        let tasks: Vec<_> = pushes
            .into_iter()
            .map(|push| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.accept(push).await.unwrap() })
            })
            .collect();
        async move {
            let mut new = 0;
            for task in tasks {
                new += usize::from(task.await.unwrap() == Accepted::New);
            }
            new
        }
    };
    let (one, other) = tokio::join!(accept(world.shared(), false), accept(Arc::clone(&second.store), true));
    assert_eq!(one + other, 200);
    assert_eq!(due(&*second.store, world.now()).await.len(), 200);
}

#[tokio::test]
async fn a_push_is_cancelled_by_one_process_while_another_holds_a_page() {
    let (world, second) = two().await;
    world.accept("p", tokens(2_000)).await;
    let due = due(&*second.store, world.now()).await;
    let page = second.store.take(&due[..1], HOUR).await.unwrap().remove(0);
    let mut report = report_on(&page, Next::Continue);
    for target in &page.targets[..10] {
        enter(&mut report, target, Fate::Sent);
    }
    second.store.report(vec![report.clone()], world.now()).await.unwrap();

    assert!(world.store().cancel(&app(), &uid("p"), world.now()).await.unwrap());
    let status = world.status("p").await;
    assert_eq!((status.state, status.ended_at), (PushState::Cancelled, None));
    assert_eq!((total(&status).1.cancelled, status.legs[0].waiting()), (1_000, 990));

    let extended = second.store.extend(&[(page.id, page.epoch)], HOUR).await.unwrap();
    assert_eq!(extended, [Verdict::Written(Flow::Cancelled)]);
    report.progress.counts[0].1.cancelled = 990;
    report.next = Next::Settle;
    let told = second.store.report(vec![report], world.now()).await.unwrap();
    assert_eq!(told, [Verdict::Written(Flow::Cancelled)]);
    let status = world.status("p").await;
    assert_eq!(status.ended_at, Some(world.now()));
    assert_eq!((total(&status).1.cancelled, sent(&status)), (1_990, 10));
}

#[tokio::test]
async fn who_was_relieved_writes_nothing() {
    for recipient in [ids(&["phone", "pad"]), channels(&["news"])] {
        let (world, second) = two().await;
        world.device("phone", ANDROID, &["news"]).await;
        world.device("pad", ANDROID, &["news"]).await;
        world.accept("p", recipient).await;
        world.expand_all().await;
        let old = take(world.store(), world.now(), Duration::ZERO).await;
        let new = take(&*second.store, world.now(), HOUR).await;
        assert_eq!(old.id, new.id);
        assert!(new.epoch > old.epoch);
        let before = format!("{:?}", world.status("p").await);
        for next in [Next::Continue, Next::GiveBack(world.now()), Next::Settle] {
            let mut late = settle(&old, |_| Fate::Dead);
            late.next = next;
            assert_eq!(world.report(late).await, Verdict::Lost, "{next:?}");
        }
        let extended = world.store().extend(&[(old.id, old.epoch)], HOUR).await.unwrap();
        assert_eq!(extended, [Verdict::Lost]);
        assert_eq!(format!("{:?}", world.status("p").await), before);
        assert_eq!(world.count("SELECT count(*) FROM devices"), 2, "nobody is forgotten");
        assert!(
            due(world.store(), world.now()).await.is_empty(),
            "the page is in the other's hands"
        );

        let done = settle(&new, |_| Fate::Sent);
        let told = second.store.report(vec![done], world.now()).await.unwrap();
        assert_eq!(told, [Verdict::Written(Flow::Running)]);
        let status = world.status("p").await;
        assert_eq!((status.state, sent(&status)), (PushState::Done, 2));
    }
}

#[tokio::test]
async fn a_hold_of_one_process_holds_the_other_back() {
    let (world, second) = two().await;
    let raw = Route::raw(Provider::Fcm);
    world.accept("p", tokens(101)).await;
    world
        .accept("q", Recipient::Topic(Provider::Fcm, "news".to_owned()))
        .await;
    let hold = |store: Arc<dyn Store>, reason| {
        let now = world.now();
        async move { store.set_hold(&app(), raw, reason, now).await.unwrap() }
    };
    let outage = Some(HoldReason::Outage);
    let both = tokio::join!(hold(world.shared(), outage), hold(Arc::clone(&second.store), outage));
    assert_eq!((both.0.reason, both.1.reason), (outage, outage));
    assert!(due(&*second.store, world.now()).await.is_empty());
    assert!(second.store.waiting_page(&app(), raw).await.unwrap().is_some());

    world.clock.advance(Duration::from_mins(1));
    second.ears.pages();
    tokio::join!(hold(world.shared(), None), hold(Arc::clone(&second.store), None));
    let holds = world.store().holds().await.unwrap();
    assert_eq!((holds.len(), holds[0].paused_ms), (1, 60_000), "the minute counts once");
    assert_eq!(due(&*second.store, world.now()).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_processes_sweep_and_forget_at_once_is_counted_once() {
    let (world, second) = two().await;
    world.device("phone", ANDROID, &["news"]).await;
    for n in 0..150 {
        let recipient = match n % 3 {
            0 => tokens(2),
            1 => tokens(110),
            _ => channels(&["news"]),
        };
        world.accept(&format!("p{n}"), recipient).await;
    }
    world.expand_all().await;
    world.clock.advance(24 * HOUR);
    let (mut pages, mut pushes) = (0, 0);
    // One may pass over what the other has locked.
    while world.count("SELECT count(*) FROM pushes WHERE ended_at IS NULL") > 0 {
        let (one, other) = tokio::join!(world.store().sweep(world.now()), second.store.sweep(world.now()));
        for swept in [one.unwrap(), other.unwrap()] {
            pages += swept.pages;
            pushes += swept.pushes;
        }
    }
    assert_eq!((pages, pushes), (150, 150));
    for n in 0..150 {
        let status = world.status(&format!("p{n}")).await;
        assert_eq!(
            (status.state, total(&status).1.expired),
            (PushState::Expired, [2, 110, 1][n % 3])
        );
    }

    world.clock.advance(HOUR);
    let mut forgotten = 0;
    while world.count("SELECT count(*) FROM pushes") > 0 {
        let forget = |store: Arc<dyn Store>| {
            let now = world.now();
            async move { store.forget(now, Timestamp(0)).await.unwrap() }
        };
        let (one, other) = tokio::join!(forget(world.shared()), forget(Arc::clone(&second.store)));
        forgotten += one + other;
    }
    assert_eq!(forgotten, 150);
    assert_eq!(world.count("SELECT count(*) FROM legs"), 0);
}

#[tokio::test]
async fn legs_of_one_process_wake_the_other_and_pages_do_not() {
    let (world, second) = two().await;
    world.device("phone", ANDROID, &["news"]).await;
    assert_eq!(second.ears.legs(), 0);
    for n in 0..3 {
        world.accept(&format!("p{n}"), channels(&["news"])).await;
        second.ears.hear_legs().await;
    }
    assert_eq!(world.ears.legs(), 3);
    world.expand_all().await;
    assert_eq!(world.ears.pages().len(), 3);
    assert!(second.ears.pages().is_empty());
}

#[tokio::test]
async fn a_process_does_not_hear_itself() {
    let (world, second) = two().await;
    second.store.accept(world.push("p", channels(&["news"]))).await.unwrap();
    world.ears.hear_legs().await;
    // Nothing tells that nothing comes.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(second.ears.legs(), 1, "at the commit, and not again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_pushes_is_a_few_notifications() {
    let (world, second) = two().await;
    let begin = std::time::Instant::now();
    let accepts: Vec<_> = (0..200)
        .map(|n| {
            let (store, push) = (world.shared(), world.push(&format!("p{n}"), channels(&["news"])));
            tokio::spawn(async move { store.accept(push).await.unwrap() })
        })
        .collect();
    for accept in accepts {
        assert_eq!(accept.await.unwrap(), Accepted::New);
    }
    second.ears.hear_legs().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let most = begin.elapsed().as_millis() / 20 + 2;
    assert!(u128::from(second.ears.legs()) < most, "more than one in 20 ms");
    assert_eq!(world.ears.legs(), 200);
}

#[tokio::test]
async fn a_listener_that_lost_its_connection_listens_again() {
    let (world, second) = two().await;
    let ended = world.count(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
          WHERE datname = current_database() AND query LIKE 'LISTEN%'",
    );
    assert_eq!(ended, 2);
    // It may have missed something.
    world.ears.hear_legs().await;
    second.ears.hear_legs().await;
    world.accept("p", channels(&["news"])).await;
    second.ears.hear_legs().await;
}

#[tokio::test]
async fn a_store_that_was_dropped_leaves_no_connection() {
    let world = World::new(Backend::Postgres).await;
    let connections =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'bugle'";
    let second = world.second().await;
    second.store.accept(world.push("p", channels(&["news"]))).await.unwrap();
    world.ears.hear_legs().await;
    drop(second);
    let gone = async {
        // One of the first store's pool and its listener at least.
        while world.count(connections) > 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone)
        .await
        .expect("the connections are closed");
}

#[tokio::test]
async fn many_callers_share_a_few_connections_and_get_others_when_those_are_gone() {
    let world = World::new(Backend::Postgres).await;
    for round in 0..3 {
        let mut callers = tokio::task::JoinSet::new();
        for caller in 0..100 {
            let (store, push) = (
                world.shared(),
                world.push(&format!("{round}-{caller}"), channels(&["news"])),
            );
            callers.spawn(async move {
                store.ping().await.unwrap();
                store.accept(push).await.unwrap()
            });
        }
        for accepted in callers.join_all().await {
            assert_eq!(accepted, Accepted::New);
        }
        let ended = world.count(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
              WHERE datname = current_database() AND application_name = 'bugle' AND query NOT LIKE 'LISTEN%'",
        );
        assert!((1..=8).contains(&ended), "{ended} connections");
    }
}
