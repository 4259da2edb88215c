//! Taking pages: leases, epochs, and what is read.

use std::time::Duration;

use bugle_model::{Flow, Next, PageId, PushKey, PushState, Skip, TargetKind, Verdict};
use rstest::rstest;

use super::world::{
    ANDROID, Fate, HOUR, IOS, World, channels, enter, ids, report_on, sent, settle, token_texts, tokens, total,
};
use crate::backend::Backend;

#[rstest]
#[tokio::test]
async fn of_two_takers_one_gets_the_page(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.accept("p", tokens(1)).await;
    let due = world.due().await;
    let (one, other) = tokio::join!(world.store().take(&due, HOUR), world.store().take(&due, HOUR));
    assert_eq!(one.unwrap().len() + other.unwrap().len(), 1);
    assert!(world.due().await.is_empty());
}

#[rstest]
#[tokio::test]
async fn a_page_that_is_named_twice_is_taken_once(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.accept("p", tokens(1)).await;
    let due = world.due().await;
    let taken = world.store().take(&[due[0], due[0]], HOUR).await.unwrap();
    assert_eq!(taken.len(), 1);
}

#[rstest]
#[tokio::test]
async fn an_expired_lease_is_given_to_another_worker_and_the_first_can_change_nothing(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.accept("p", tokens(2)).await;
    let due = world.due().await;
    let first = world.store().take(&due, Duration::ZERO).await.unwrap().remove(0);
    assert_eq!(world.due().await, due);
    let second = world.take_one().await;
    assert!(second.epoch > first.epoch);

    for next in [Next::Continue, Next::GiveBack(world.now()), Next::Settle] {
        let mut report = settle(&first, |_| Fate::Sent);
        report.next = next;
        assert_eq!(world.report(report).await, Verdict::Lost);
    }
    assert_eq!(
        world.store().extend(&[(first.id, first.epoch)], HOUR).await.unwrap(),
        [Verdict::Lost]
    );
    assert_eq!(total(&world.status("p").await).1.total(), 0);
    assert_eq!(
        world.report(settle(&second, |_| Fate::Sent)).await,
        Verdict::Written(Flow::Running)
    );
    assert_eq!(sent(&world.status("p").await), 2);
}

#[rstest]
#[tokio::test]
async fn a_late_report_counts_as_long_as_nobody_has_taken_over(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.accept("p", tokens(2)).await;
    let due = world.due().await;
    let late = world.store().take(&due, Duration::ZERO).await.unwrap().remove(0);
    assert_eq!(
        world.report(settle(&late, |_| Fate::Sent)).await,
        Verdict::Written(Flow::Running)
    );
    assert_eq!(world.status("p").await.state, PushState::Done);
}

#[rstest]
#[tokio::test]
async fn an_extended_lease_is_kept(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.accept("p", tokens(1)).await;
    let due = world.due().await;
    let page = world.store().take(&due, Duration::ZERO).await.unwrap().remove(0);
    let verdict = world.store().extend(&[(page.id, page.epoch)], HOUR).await.unwrap();
    assert_eq!(verdict, [Verdict::Written(Flow::Running)]);
    assert!(world.store().take(&due, HOUR).await.unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn a_lease_of_before_a_crash_is_void(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let mut world = World::new(backend).await;
    world.accept("p", tokens(1)).await;
    let before = world.take_one().await;
    world.crash().await;
    let after = world.take_one().await;
    assert_eq!(world.report(settle(&before, |_| Fate::Sent)).await, Verdict::Lost);
    assert_eq!(
        world.report(settle(&after, |_| Fate::Sent)).await,
        Verdict::Written(Flow::Running)
    );
}

#[rstest]
#[tokio::test]
async fn pages_that_are_not_there_are_left_out(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.accept("p", tokens(1)).await;
    let page = world.take_one().await;
    world.report(settle(&page, |_| Fate::Sent)).await;
    let nowhere = PageId {
        push: PushKey(99),
        leg: Some(ANDROID),
        seq: 1,
    };
    let pages = [
        page.id,
        nowhere,
        PageId {
            push: page.id.push,
            ..nowhere
        },
    ];
    assert!(world.store().take(&pages, HOUR).await.unwrap().is_empty());
    // Settled: the same report again changes nothing.
    assert_eq!(world.report(settle(&page, |_| Fate::Sent)).await, Verdict::Lost);
    assert_eq!(sent(&world.status("p").await), 1);
}

#[tokio::test]
async fn a_take_that_nobody_waits_for_leaves_no_lease() {
    let world = World::new(Backend::Sqlite).await;
    world.accept("p", tokens(1)).await;
    let due = world.due().await;
    let mut given_up = 0;
    while given_up < 20 {
        let take = world.store().take(&due, HOUR);
        // Polled once, then given up, unless the reader was as quick as that.
        let told = tokio::select! { biased; taken = take => Some(taken.unwrap()), () = std::future::ready(()) => None };
        // There is one reader: what it still had of the take is done when it answers this.
        world.store().holds().await.unwrap();
        match told {
            Some(taken) => {
                assert_eq!(taken.len(), 1, "a take that was given up has left a lease");
                world.report(report_on(&taken[0], Next::GiveBack(world.now()))).await;
            }
            None => given_up += 1,
        }
    }
    assert_eq!(world.store().take(&due, HOUR).await.unwrap().len(), 1);
}

#[rstest]
#[tokio::test]
async fn targets_are_those_of_the_moment(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.devices("d", 4, &["news"]).await;
    world.accept("p", channels(&["news"])).await;
    world.expand_all().await;
    world.remove("d0001").await;
    world.unsubscribe("d0002", "news").await;
    world.device_with("d0003", ANDROID, "fresh", &["news"]).await;
    let page = world.take_one().await;
    assert_eq!(token_texts(&page), ["fresh", "token-d0004"]);
    // Until the page is settled nobody knows that two are missing.
    assert_eq!(total(&world.status("p").await).0, 4);
    world.report(settle(&page, |_| Fate::Sent)).await;
    let status = world.status("p").await;
    assert_eq!((total(&status).0, sent(&status), status.state), (2, 2, PushState::Done));
}

#[rstest]
#[tokio::test]
async fn an_old_device_that_subscribes_after_the_walk_is_found_and_counted(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.device("late", ANDROID, &[]).await;
    world.device("early", ANDROID, &["news"]).await;
    world.accept("p", channels(&["news"])).await;
    world.expand_all().await;
    world.device("late", ANDROID, &["news"]).await;
    let page = world.take_one().await;
    assert_eq!(page.targets.len(), 2);
    let mut report = report_on(&page, Next::Continue);
    for target in &page.targets {
        enter(&mut report, target, Fate::Sent);
    }
    world.report(report.clone()).await;
    assert_eq!(total(&world.status("p").await).0, 2);
    report.next = Next::Settle;
    world.report(report).await;
    let status = world.status("p").await;
    assert_eq!((total(&status).0, sent(&status)), (2, 2));
    assert!(world.store().outstanding().await.unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn a_device_that_changes_its_platform_is_counted_where_it_went(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    let names: Vec<String> = (0..101).map(|n| format!("d{n}")).collect();
    for name in &names {
        world.device(name, ANDROID, &[]).await;
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.accept("p", ids(&names)).await;
    world.device("d7", IOS, &[]).await;
    let page = world.take_one().await;
    let moved: Vec<_> = page.targets.iter().filter(|t| t.route == IOS).collect();
    assert_eq!(moved.len(), 1);

    let mut report = report_on(&page, Next::Continue);
    for target in &page.targets {
        enter(&mut report, target, Fate::Sent);
    }
    world.report(report.clone()).await;
    for next in [Next::Continue, Next::Settle] {
        report.next = next;
        world.report(report.clone()).await;
        let status = world.status("p").await;
        let by_route: Vec<_> = status
            .legs
            .iter()
            .map(|l| (l.route, l.targeted, l.counts.sent))
            .collect();
        assert_eq!(by_route, [(ANDROID, 100, 100), (IOS, 1, 1)]);
    }
    assert_eq!(world.status("p").await.state, PushState::Done);
}

/// The leg that it moves to has ended before, and begins again.
#[rstest]
#[tokio::test]
async fn a_left_over_that_has_moved_to_another_leg_keeps_the_push_alive(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    let names: Vec<String> = (0..102).map(|n| format!("d{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        world.device(name, if n == 0 { IOS } else { ANDROID }, &[]).await;
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.accept("p", ids(&names)).await;
    world.device("d7", IOS, &[]).await;
    let [android, ios] = world.take_due().await.try_into().unwrap();
    world.report(settle(&ios, |_| Fate::Sent)).await;
    let later = world.now().plus(HOUR);
    world
        .report(settle(&android, |t| {
            if t.route == IOS { Fate::Again(later) } else { Fate::Sent }
        }))
        .await;
    let status = world.status("p").await;
    assert_eq!(
        (status.state, total(&status).0, sent(&status)),
        (PushState::Running, 102, 101)
    );
    assert_eq!(
        status
            .legs
            .iter()
            .map(bugle_model::LegStatus::waiting)
            .collect::<Vec<_>>(),
        [0, 1]
    );
    world.clock.advance(HOUR);
    world.drive(|_| Fate::Sent).await;
    let status = world.status("p").await;
    assert_eq!((status.state, sent(&status)), (PushState::Done, 102));
}

#[rstest]
#[tokio::test]
async fn reading_again_gives_what_lies_above(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.devices("d", 4, &["news"]).await;
    world.accept("walked", channels(&["news"])).await;
    world.expand_all().await;
    let page = world.take_one().await;
    world.remove("d0003").await;
    let again = world.store().reread(page.id, page.targets[1].position).await.unwrap();
    assert_eq!(
        again.iter().map(|t| t.position).collect::<Vec<_>>(),
        [page.targets[3].position]
    );

    world.accept("own", ids(&["d0001", "d0002", "d0003"])).await;
    let own = world.take_one().await;
    world.remove("d0002").await;
    let again = world.store().reread(own.id, 1).await.unwrap();
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|t| t.kind == TargetKind::Skip(Skip::Unknown)));
}

#[rstest]
#[tokio::test]
async fn a_taken_page_says_whether_it_may_be_sent(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.accept("p", tokens(150)).await;
    let page = world.take_one().await;
    assert_eq!(page.flow, Flow::Running);
    assert_eq!(
        world.store().flow(page.id.push, world.now()).await.unwrap(),
        Some(Flow::Running)
    );
    let back = world.report(report_on(&page, Next::GiveBack(world.now()))).await;
    assert_eq!(back, Verdict::Written(Flow::Running));
    world.clock.advance(24 * HOUR);
    let page = world.take_one().await;
    assert_eq!(page.flow, Flow::Expired);
    assert_eq!(world.store().flow(PushKey(77), world.now()).await.unwrap(), None);
}
