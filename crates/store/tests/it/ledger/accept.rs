//! Accepting pushes of every kind.

use std::collections::BTreeSet;
use std::time::Duration;

use bugle_model::{
    Accepted, AppId, Counts, DeviceId, Lane, PageId, Provider, PushState, Recipient, Route, Skip, TargetKind,
};
use rstest::rstest;

use super::world::{
    ANDROID, APNS, Fate, HOUR, IOS, World, app, channels, ids, sent, settle, token_texts, tokens, total, uid,
};
use crate::backend::Backend;

#[rstest]
#[tokio::test]
async fn named_devices_are_one_page_whatever_they_are(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.device("phone", ANDROID, &[]).await;
    world.device("pad", IOS, &[]).await;
    world.device("watch", APNS, &[]).await;
    world.accept("p", ids(&["phone", "pad", "watch", "nobody"])).await;

    let taken = world.take_one().await;
    assert!(matches!(taken.id, PageId { leg: None, seq: 0, .. }));
    assert_eq!(taken.body.as_deref(), Some(&world.push("p", tokens(1)).body[..]));
    let seen: Vec<(i64, Route, &TargetKind)> = taken.targets.iter().map(|t| (t.position, t.route, &t.kind)).collect();
    let to = |t: &str| TargetKind::Token(bugle_model::Token::parse(t).unwrap());
    assert_eq!(
        seen,
        [
            (1, ANDROID, &to("token-phone")),
            (2, IOS, &to("token-pad")),
            (3, APNS, &TargetKind::Skip(Skip::NoPayload)),
            (4, Route::UNKNOWN, &TargetKind::Skip(Skip::Unknown)),
        ]
    );
    world.report(settle(&taken, |_| Fate::Sent)).await;

    let status = world.status("p").await;
    assert_eq!(status.state, PushState::Done);
    assert_eq!(status.ended_at, Some(world.now()));
    let by_route: Vec<(Route, u64, u64)> = status
        .legs
        .iter()
        .map(|l| (l.route, l.counts.sent, l.counts.skipped))
        .collect();
    assert_eq!(
        by_route,
        [(Route::UNKNOWN, 0, 1), (ANDROID, 1, 0), (IOS, 1, 0), (APNS, 0, 1)]
    );
}

#[rstest]
#[tokio::test]
async fn the_account_of_a_push_that_waits_has_its_routes_already(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.device("phone", ANDROID, &[]).await;
    world.accept("p", ids(&["phone", "nobody"])).await;
    let status = world.status("p").await;
    assert_eq!(status.state, PushState::Running);
    let waiting: Vec<(Route, u64)> = status.legs.iter().map(|l| (l.route, l.waiting())).collect();
    assert_eq!(waiting, [(Route::UNKNOWN, 1), (ANDROID, 1)]);
}

#[rstest]
#[tokio::test]
async fn raw_tokens_topics_and_conditions_need_no_registry(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.accept("tokens", tokens(2)).await;
    world
        .accept("topic", Recipient::Topic(Provider::Fcm, "news".to_owned()))
        .await;
    let condition = "'a' in topics && !('b' in topics)";
    world
        .accept("condition", Recipient::Condition(Provider::Fcm, condition.to_owned()))
        .await;

    let taken = world.take_due().await;
    assert_eq!(taken.len(), 3);
    assert_eq!(token_texts(&taken[0]), ["raw-1", "raw-2"]);
    assert_eq!(taken[1].targets[0].kind, TargetKind::Topic("news".into()));
    assert_eq!(taken[2].targets[0].kind, TargetKind::Condition(condition.into()));
    for page in &taken {
        assert!(
            page.targets
                .iter()
                .all(|t| t.route == Route::raw(Provider::Fcm) && t.device.is_none())
        );
        world.report(settle(page, |_| Fate::Sent)).await;
    }
    for (push, expected) in [("tokens", 2), ("topic", 1), ("condition", 1)] {
        let status = world.status(push).await;
        assert_eq!((status.state, sent(&status)), (PushState::Done, expected));
    }
}

#[rstest]
#[tokio::test]
async fn more_than_a_hundred_ids_are_split_by_route_and_the_useless_are_counted_at_once(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    let mut names: Vec<String> = (0..95).map(|n| format!("nobody{n}")).collect();
    for n in 0..10 {
        for (prefix, route) in [("a", ANDROID), ("i", IOS), ("w", APNS)] {
            let name = format!("{prefix}{n}");
            world.device(&name, route, &[]).await;
            names.push(name);
        }
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.accept("p", ids(&names)).await;

    let status = world.status("p").await;
    assert_eq!(
        total(&status),
        (
            125,
            Counts {
                skipped: 105,
                ..Counts::default()
            }
        )
    );
    let mut pages: Vec<PageId> = world.ears.pages().into_iter().map(|p| p.id).collect();
    pages.sort_unstable();
    assert_eq!(
        pages.iter().map(|p| p.leg).collect::<Vec<_>>(),
        [Some(ANDROID), Some(IOS)]
    );
    assert_eq!(world.due().await, pages);

    world.drive(|_| Fate::Sent).await;
    let status = world.status("p").await;
    assert_eq!(status.state, PushState::Done);
    let by_route: Vec<(Route, u64, u64)> = status
        .legs
        .iter()
        .map(|l| (l.route, l.counts.sent, l.counts.skipped))
        .collect();
    assert_eq!(
        by_route,
        [(Route::UNKNOWN, 0, 95), (ANDROID, 10, 0), (IOS, 10, 0), (APNS, 0, 10)]
    );
}

#[rstest]
#[tokio::test]
async fn a_push_to_unknown_ids_only_ends_at_once(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    let names: Vec<DeviceId> = (0..101)
        .map(|n| DeviceId::parse(format!("nobody{n}")).unwrap())
        .collect();
    world.accept("p", Recipient::Devices(names)).await;
    let status = world.status("p").await;
    assert_eq!(status.state, PushState::Done);
    assert_eq!(
        total(&status),
        (
            101,
            Counts {
                skipped: 101,
                ..Counts::default()
            }
        )
    );
    assert!(world.due().await.is_empty());
}

#[rstest]
#[tokio::test]
async fn ten_thousand_raw_tokens_are_ten_pages_with_each_token_once(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.accept("p", tokens(10_000)).await;
    assert_eq!(world.ears.pages().len(), 10);
    let taken = world.take_due().await;
    assert_eq!(taken.len(), 10);
    let seen: BTreeSet<&str> = taken.iter().flat_map(|page| token_texts(page)).collect();
    assert_eq!(seen.len(), 10_000);
    assert!(
        taken
            .iter()
            .all(|page| page.targets.len() == 1_000 && page.body.is_none())
    );
    let body = world.store().body(taken[0].id.push).await.unwrap().unwrap();
    assert_eq!(&body[..], &world.push("p", tokens(1)).body[..]);
    let reports = taken.iter().map(|page| settle(page, |_| Fate::Sent)).collect();
    world.store().report(reports, world.now()).await.unwrap();
    let status = world.status("p").await;
    assert_eq!((status.state, sent(&status)), (PushState::Done, 10_000));
    assert_eq!(world.count("SELECT count(*) FROM page_targets"), 0);
}

#[rstest]
#[tokio::test]
async fn a_uid_is_one_push(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    let push = world.push("p", tokens(1));
    let mut other = world.push("p", tokens(2));
    other.hash = [8; 32];
    let mut elsewhere = other.clone();
    elsewhere.app = AppId::parse("other").unwrap();
    for (push, expected) in [
        (push.clone(), Accepted::New),
        (push, Accepted::Repeated),
        (other, Accepted::Conflict),
        (elsewhere, Accepted::New),
    ] {
        assert_eq!(world.store().accept(push).await.unwrap(), expected);
    }
    assert_eq!(world.due().await.len(), 2);
    assert_eq!(total(&world.status("p").await).0, 1);
}

#[rstest]
#[tokio::test]
async fn of_many_requests_with_one_uid_one_is_accepted(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    let accepts = (0..8).map(|n| {
        world
            .store()
            .accept(world.push("p", tokens(if n % 2 == 0 { 1 } else { 101 })))
    });
    let mut answers = Vec::new();
    for accept in accepts.map(|accept| async { accept.await.unwrap() }) {
        answers.push(accept);
    }
    let answers = join_all(answers).await;
    assert_eq!(answers.iter().filter(|a| **a == Accepted::New).count(), 1);
    assert_eq!(answers.iter().filter(|a| **a == Accepted::Repeated).count(), 7);
    assert_eq!(world.due().await.len(), 1);
}

#[rstest]
#[tokio::test]
async fn a_crowd_of_requests_is_told_apart(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    // Each uid comes three times at once: twice the same, once another push, of another app every fifth time.
    let push = |n: u32| {
        let mut push = world.push(&format!("p{}", n % 200), tokens(1));
        push.hash = [u8::from(n >= 400); 32];
        if n.is_multiple_of(5) {
            push.app = AppId::parse("other").unwrap();
        }
        push
    };
    let accepts = (0..600).map(|n| world.store().accept(push(n)));
    let answers: Vec<Accepted> = join_all(accepts.collect())
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    for uid in 0..200 {
        let mut told = [uid, uid + 200, uid + 400].map(|n| answers[n]);
        told.sort_by_key(|answer| {
            [Accepted::New, Accepted::Repeated, Accepted::Conflict]
                .iter()
                .position(|a| a == answer)
        });
        let same = [Accepted::New, Accepted::Repeated, Accepted::Conflict];
        assert!(
            told == same || told == [Accepted::New, Accepted::Conflict, Accepted::Conflict],
            "{told:?}"
        );
    }
    let handed = world.ears.pages();
    assert_eq!((handed.len(), world.due().await.len()), (200, 200));
    assert_eq!(handed.iter().filter(|page| page.app.as_str() == "other").count(), 40);
}

/// Polls all of them until all are ready.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(cx)
            {
                *output = Some(ready);
            }
        }
        if outputs.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[rstest]
#[tokio::test]
async fn a_scheduled_push_waits_for_its_time(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.device("phone", ANDROID, &["news"]).await;
    for (name, recipient) in [
        ("own", tokens(1)),
        ("split", tokens(101)),
        ("walked", channels(&["news"])),
    ] {
        let mut push = world.push(name, recipient);
        push.due = push.due.plus(HOUR);
        push.lane = Lane::Urgent;
        world.store().accept(push).await.unwrap();
        assert_eq!(world.status(name).await.state, PushState::Scheduled);
    }
    let handed: Vec<_> = world.ears.pages().into_iter().map(|page| page.due).collect();
    assert_eq!(handed, [world.now().plus(HOUR); 2]);
    assert!(world.due().await.is_empty());
    assert!(world.store().open_legs(world.now(), 10).await.unwrap().is_empty());

    world.clock.advance(HOUR.saturating_sub(Duration::from_millis(1)));
    assert!(world.due().await.is_empty());
    world.clock.advance(Duration::from_millis(1));
    world.expand_all().await;
    assert_eq!(world.status("own").await.state, PushState::Running);
    world.drive(|_| Fate::Sent).await;
    for (name, expected) in [("own", 1), ("split", 101), ("walked", 1)] {
        let status = world.status(name).await;
        assert_eq!((status.state, sent(&status)), (PushState::Done, expected));
    }
}

#[rstest]
#[tokio::test]
async fn what_was_accepted_survives_a_crash(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let mut world = World::new(backend).await;
    world.device("phone", ANDROID, &["news"]).await;
    world.accept("own", tokens(3)).await;
    world.accept("split", tokens(150)).await;
    world.accept("walked", channels(&["news"])).await;
    world.crash().await;
    world.expand_all().await;
    world.drive(|_| Fate::Sent).await;
    for (name, expected) in [("own", 3), ("split", 150), ("walked", 1)] {
        let status = world.status(name).await;
        assert_eq!((status.state, sent(&status)), (PushState::Done, expected));
    }
}

#[rstest]
#[tokio::test]
async fn an_unknown_push_has_no_account(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    assert!(world.store().status(&app(), &uid("p")).await.unwrap().is_none());
    world.accept("p", tokens(1)).await;
    assert!(world.store().status(&app(), &uid("q")).await.unwrap().is_none());
    let other = AppId::parse("other").unwrap();
    assert!(world.store().status(&other, &uid("p")).await.unwrap().is_none());
}
