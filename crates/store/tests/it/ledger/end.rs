//! Cancelling, expiring, sweeping, forgetting.

use std::time::Duration;

use bugle_model::{Counts, Flow, Next, PushState, Timestamp, Verdict};
use rstest::rstest;

use super::world::{ANDROID, Fate, HOUR, World, app, channels, enter, ids, report_on, settle, tokens, total, uid};
use crate::backend::Backend;

fn cancelled(cancelled: u64) -> Counts {
    Counts {
        cancelled,
        ..Counts::default()
    }
}

async fn cancel(world: &World, push: &str) -> bool {
    world.store().cancel(&app(), &uid(push), world.now()).await.unwrap()
}

#[rstest]
#[tokio::test]
async fn a_cancelled_push_ends_at_once_where_nobody_works_on_it(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.device("phone", ANDROID, &["news"]).await;
    world.accept("own", ids(&["phone", "nobody"])).await;
    world.accept("split", tokens(2_500)).await;
    world.accept("walked", channels(&["news"])).await;
    world.expand_all().await;
    world.accept("unwalked", channels(&["news"])).await;
    for (push, targeted) in [("own", 2), ("split", 2_500), ("walked", 1), ("unwalked", 0)] {
        assert!(cancel(&world, push).await);
        let status = world.status(push).await;
        assert_eq!(
            (status.state, status.ended_at),
            (PushState::Cancelled, Some(world.now())),
            "{push}"
        );
        assert_eq!(total(&status), (targeted, cancelled(targeted)), "{push}");
    }
    assert!(world.due().await.is_empty());
    assert!(world.store().open_legs(world.now(), 10).await.unwrap().is_empty());
    assert_eq!(world.count("SELECT count(*) FROM pages"), 0);
    assert!(world.store().outstanding().await.unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn what_is_in_somebodys_hands_is_left_to_them(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.accept("p", tokens(2_000)).await;
    let due = world.due().await;
    let page = world.store().take(&due[..1], HOUR).await.unwrap().remove(0);
    let mut report = report_on(&page, Next::Continue);
    for target in &page.targets[..10] {
        enter(&mut report, target, Fate::Sent);
    }
    world.report(report.clone()).await;
    assert!(cancel(&world, "p").await);
    let status = world.status("p").await;
    assert_eq!((status.state, status.ended_at), (PushState::Cancelled, None));
    assert_eq!(status.legs[0].waiting(), 990);

    let verdict = world.store().extend(&[(page.id, page.epoch)], HOUR).await.unwrap();
    assert_eq!(verdict, [Verdict::Written(Flow::Cancelled)]);
    assert_eq!(world.report(report.clone()).await, Verdict::Written(Flow::Cancelled));
    report.progress.counts[0].1.cancelled = 990;
    report.next = Next::Settle;
    assert_eq!(world.report(report).await, Verdict::Written(Flow::Cancelled));
    let status = world.status("p").await;
    assert_eq!(
        (status.state, status.ended_at),
        (PushState::Cancelled, Some(world.now()))
    );
    assert_eq!(
        total(&status),
        (
            2_000,
            Counts {
                sent: 10,
                ..cancelled(1_990)
            }
        )
    );
}

#[rstest]
#[tokio::test]
async fn what_was_done_before_a_cancel_stays_counted_and_left_overs_are_called_off(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    for recipient in [tokens(10), tokens(110)] {
        let world = World::new(backend).await;
        world.accept("p", recipient).await;
        let targets = total(&world.status("p").await).0;
        let page = world.take_one().await;
        let mut report = report_on(&page, Next::GiveBack(world.now()));
        enter(&mut report, &page.targets[0], Fate::Sent);
        enter(&mut report, &page.targets[1], Fate::Again(world.now().plus(HOUR)));
        report.progress.position = 3;
        report.progress.open.push(3);
        world.report(report).await;
        assert!(cancel(&world, "p").await);
        let status = world.status("p").await;
        assert_eq!(
            total(&status),
            (
                targets,
                Counts {
                    sent: 1,
                    ..cancelled(targets - 1)
                }
            )
        );
        assert!(status.ended_at.is_some());
    }
}

#[rstest]
#[tokio::test]
async fn only_a_known_push_can_be_cancelled_and_an_ended_one_stays(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    assert!(!cancel(&world, "p").await);
    world.accept("p", tokens(1)).await;
    world.drive(|_| Fate::Sent).await;
    assert!(cancel(&world, "p").await);
    assert_eq!(world.status("p").await.state, PushState::Done);
    world.accept("q", tokens(1)).await;
    assert!(cancel(&world, "q").await);
    assert!(cancel(&world, "q").await);
    assert_eq!(total(&world.status("q").await), (1, cancelled(1)));
}

#[rstest]
#[tokio::test]
async fn a_scheduled_push_can_be_cancelled(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    let mut push = world.push("p", tokens(1));
    push.due = world.now().plus(HOUR);
    world.store().accept(push).await.unwrap();
    assert!(cancel(&world, "p").await);
    assert_eq!(world.status("p").await.state, PushState::Cancelled);
    world.clock.advance(HOUR);
    assert!(world.due().await.is_empty());
}

#[rstest]
#[tokio::test]
async fn every_push_expires_without_a_sender(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.device("phone", ANDROID, &["news"]).await;
    world.accept("own", ids(&["phone", "nobody"])).await;
    world.accept("split", tokens(1_200)).await;
    world.accept("walked", channels(&["news"])).await;
    world.expand_all().await;
    world.accept("unwalked", channels(&["news"])).await;
    world
        .clock
        .advance((24 * HOUR).saturating_sub(Duration::from_millis(1)));
    let early = world.store().sweep(world.now()).await.unwrap();
    assert_eq!((early.pages, early.pushes), (0, 0));
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(world.status("own").await.state, PushState::Expired);
    let swept = world.store().sweep(world.now()).await.unwrap();
    assert_eq!((swept.pages, swept.pushes, swept.more), (4, 4, false));
    for (push, targeted) in [("own", 2), ("split", 1_200), ("walked", 1), ("unwalked", 0)] {
        let status = world.status(push).await;
        assert_eq!(
            (status.state, status.ended_at),
            (PushState::Expired, Some(world.now())),
            "{push}"
        );
        assert_eq!(
            total(&status),
            (
                targeted,
                Counts {
                    expired: targeted,
                    ..Counts::default()
                }
            ),
            "{push}"
        );
    }
}

#[rstest]
#[tokio::test]
async fn an_expired_page_in_hands_is_ended_by_its_holder_before_or_after_the_sweep(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    for sweep_first in [true, false] {
        let world = World::new(backend).await;
        world.accept("p", tokens(150)).await;
        let page = world.take_one().await;
        world.clock.advance(24 * HOUR);
        if sweep_first {
            let swept = world.store().sweep(world.now()).await.unwrap();
            assert_eq!((swept.pages, swept.pushes), (0, 0));
        }
        let mut report = report_on(&page, Next::Continue);
        enter(&mut report, &page.targets[0], Fate::Sent);
        assert_eq!(world.report(report.clone()).await, Verdict::Written(Flow::Expired));
        report.next = Next::Settle;
        report.progress.counts[0].1.expired = 149;
        world.report(report).await;
        let status = world.status("p").await;
        assert_eq!((status.state, status.ended_at), (PushState::Expired, Some(world.now())));
        assert_eq!(
            total(&status),
            (
                150,
                Counts {
                    sent: 1,
                    expired: 149,
                    ..Counts::default()
                }
            )
        );
    }
}

#[rstest]
#[tokio::test]
async fn a_sweep_of_a_page_whose_holder_is_dead_ends_the_push(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.accept("p", tokens(150)).await;
    let due = world.due().await;
    let page = world.store().take(&due, Duration::ZERO).await.unwrap().remove(0);
    world.clock.advance(24 * HOUR);
    let swept = world.store().sweep(world.now()).await.unwrap();
    assert_eq!((swept.pages, swept.pushes), (1, 1));
    // The dead one was only slow.
    assert_eq!(world.report(settle(&page, |_| Fate::Sent)).await, Verdict::Lost);
    assert_eq!(total(&world.status("p").await).1.expired, 150);
}

#[rstest]
#[tokio::test]
async fn a_sweep_goes_step_by_step(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    for n in 0..250 {
        world.accept(&format!("p{n}"), tokens(2)).await;
    }
    world.clock.advance(24 * HOUR);
    let mut pushes = 0;
    let mut steps = 0;
    loop {
        let swept = world.store().sweep(world.now()).await.unwrap();
        pushes += swept.pushes;
        steps += 1;
        if !swept.more {
            break;
        }
    }
    assert_eq!(pushes, 250);
    assert!(steps >= 3, "{steps}");
}

#[rstest]
#[tokio::test]
async fn what_has_ended_keeps_its_account_and_no_secret(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.accept("own", tokens(3)).await;
    world.accept("split", tokens(150)).await;
    world.drive(|_| Fate::Sent).await;
    assert_eq!(
        world
            .count("SELECT count(*) FROM pushes WHERE targets IS NOT NULL OR body IS NOT NULL OR channels IS NOT NULL"),
        0
    );
    assert_eq!(total(&world.status("own").await).1.sent, 3);
}

#[rstest]
#[tokio::test]
async fn old_accounts_are_forgotten_and_running_pushes_are_not(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.device("phone", ANDROID, &["news"]).await;
    for n in 0..300 {
        world.accept(&format!("p{n}"), channels(&["news"])).await;
    }
    world.expand_all().await;
    world.drive(|_| Fate::Sent).await;
    world.clock.advance(HOUR);
    world.accept("young", tokens(1)).await;
    world.drive(|_| Fate::Sent).await;
    let mut waits = world.push("waits", tokens(1));
    waits.due = world.now().plus(24 * HOUR);
    world.store().accept(waits).await.unwrap();

    let mut forgotten = 0;
    loop {
        let step = world.store().forget(world.now(), Timestamp(0)).await.unwrap();
        assert!(step <= 256);
        forgotten += step;
        if step == 0 {
            break;
        }
    }
    assert_eq!(forgotten, 300);
    assert!(world.store().status(&app(), &uid("p7")).await.unwrap().is_none());
    assert_eq!(world.count("SELECT count(*) FROM legs"), 0);
    world.status("young").await;
    world.status("waits").await;
}

#[rstest]
#[tokio::test]
async fn the_gone_are_forgotten_in_time(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.devices("d", 2, &["news"]).await;
    world.accept("p", channels(&["news"])).await;
    world.expand_all().await;
    world.drive(|_| Fate::Dead).await;
    assert_eq!(world.count("SELECT count(*) FROM gone"), 2);
    assert_eq!(world.store().forget(Timestamp(0), world.now()).await.unwrap(), 0);
    world.clock.advance(HOUR);
    assert_eq!(world.store().forget(Timestamp(0), world.now()).await.unwrap(), 2);
    assert_eq!(world.count("SELECT count(*) FROM gone"), 0);
}
