//! Progress, giving back, settling; left-overs and the dead.

use std::time::Duration;

use bugle_model::{Counts, Flow, Next, PushState, Skip, TargetKind, Timestamp, Verdict};
use rstest::rstest;

use super::world::{
    ANDROID, Fate, World, app, channels, enter, ids, report_on, sent, settle, token_texts, tokens, total,
};
use crate::backend::Backend;

/// A world where `count` devices are on one page.
async fn one_page(backend: Backend, count: usize) -> World {
    let world = World::new(backend).await;
    world.devices("d", count, &["news"]).await;
    world.accept("p", channels(&["news"])).await;
    world.expand_all().await;
    world
}

#[rstest]
#[tokio::test]
async fn after_a_crash_what_was_open_comes_back_and_what_was_counted_does_not(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let mut world = one_page(backend, 10).await;
    let page = world.take_one().await;
    let mut report = report_on(&page, Next::Continue);
    for (at, target) in page.targets[..6].iter().enumerate() {
        if [1, 3].contains(&at) {
            report.progress.position = target.position;
            report.progress.open.push(target.position);
        } else {
            enter(&mut report, target, Fate::Sent);
        }
    }
    assert_eq!(world.report(report.clone()).await, Verdict::Written(Flow::Running));
    // Written twice, it is written once.
    assert_eq!(world.report(report.clone()).await, Verdict::Written(Flow::Running));
    let status = world.status("p").await;
    assert_eq!((total(&status).0, sent(&status)), (10, 4));

    world.crash().await;
    assert_eq!(sent(&world.status("p").await), 4);
    let again = world.take_one().await;
    assert_eq!(again.progress, report.progress);
    let expected: Vec<i64> = [1, 3, 6, 7, 8, 9].map(|at| page.targets[at].position).to_vec();
    assert_eq!(again.targets.iter().map(|t| t.position).collect::<Vec<_>>(), expected);
    world.report(settle(&again, |_| Fate::Sent)).await;
    let status = world.status("p").await;
    assert_eq!(
        (total(&status).0, sent(&status), status.state),
        (10, 10, PushState::Done)
    );
}

#[rstest]
#[tokio::test]
async fn an_own_page_goes_on_where_it_was(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let mut world = World::new(backend).await;
    world.device("phone", ANDROID, &[]).await;
    world.accept("p", ids(&["phone", "nobody", "none"])).await;
    let page = world.take_one().await;
    let mut report = report_on(&page, Next::Continue);
    enter(&mut report, &page.targets[0], Fate::Sent);
    report.progress.position = 2;
    report.progress.open.push(2);
    world.report(report).await;
    world.crash().await;
    assert_eq!(total(&world.status("p").await).0, 3);
    let again = world.take_one().await;
    assert_eq!(again.targets.iter().map(|t| t.position).collect::<Vec<_>>(), [2, 3]);
    world.report(settle(&again, |_| Fate::Sent)).await;
    let counts = Counts {
        sent: 1,
        skipped: 2,
        ..Counts::default()
    };
    assert_eq!(total(&world.status("p").await), (3, counts));
}

#[rstest]
#[tokio::test]
async fn an_open_device_that_is_gone_is_not_counted(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = one_page(backend, 3).await;
    let page = world.take_one().await;
    let mut report = report_on(&page, Next::GiveBack(world.now()));
    report.progress.position = page.targets[1].position;
    report.progress.open = vec![page.targets[0].position, page.targets[1].position];
    world.report(report).await;
    world.remove("d0001").await;
    world.unsubscribe("d0002", "news").await;
    let again = world.take_one().await;
    assert_eq!(token_texts(&again), ["token-d0003"]);
    world.report(settle(&again, |_| Fate::Sent)).await;
    assert_eq!(total(&world.status("p").await).0, 1);
}

#[rstest]
#[tokio::test]
async fn a_page_that_is_given_back_waits_until_it_is_due(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    for recipient in [tokens(2), tokens(102)] {
        let world = World::new(backend).await;
        world.accept("p", recipient).await;
        world.ears.pages();
        let page = world.take_one().await;
        let due = world.now().plus(Duration::from_secs(30));
        let mut report = report_on(&page, Next::GiveBack(due));
        enter(&mut report, &page.targets[0], Fate::Sent);
        world.report(report).await;

        let handed = world.ears.pages();
        assert_eq!((handed[0].id, handed[0].due), (page.id, due));
        assert!(world.due().await.is_empty());
        world.clock.advance(Duration::from_secs(30));
        let again = world.take_one().await;
        assert_eq!(again.targets.len(), page.targets.len() - 1);
    }
}

#[rstest]
#[tokio::test]
async fn left_overs_of_pages_settled_together_are_merged(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.accept("p", tokens(3_000)).await;
    let pages = world.take_due().await;
    world.ears.pages();
    let second = |s: u64| world.now().plus(Duration::from_secs(s));
    let odd = |position: i64| position % 2 == 1;
    let reports = pages.iter().map(|page| {
        let mut report = settle(page, |target| match target.position {
            p if p > 400 => Fate::Sent,
            p if odd(p) => Fate::Again(second(10)),
            _ => Fate::Again(second(20)),
        });
        report.progress.left_over[0].suspect = true;
        report
    });
    world.store().report(reports.collect(), world.now()).await.unwrap();

    let status = world.status("p").await;
    assert_eq!((total(&status).0, sent(&status)), (3_000, 1_800));
    let made = world.ears.pages();
    assert_eq!(made.len(), 2, "{made:?}");
    assert!(world.due().await.is_empty());
    world.clock.advance(Duration::from_secs(10));
    let page = world.take_one().await;
    assert_eq!(page.targets.len(), 600);
    assert_eq!(page.targets.iter().filter(|t| t.suspect).count(), 3);
    assert!(page.targets.iter().all(|t| t.attempts == 1 && t.first_try == 1));
    assert_eq!(
        page.targets.iter().map(|t| t.position).collect::<Vec<_>>(),
        (1..=600).collect::<Vec<_>>()
    );
    world.report(settle(&page, |_| Fate::Failed)).await;
    world.clock.advance(Duration::from_secs(10));
    world
        .drive(|target| {
            if target.attempts < 3 {
                Fate::Again(Timestamp(0))
            } else {
                Fate::Sent
            }
        })
        .await;
    let status = world.status("p").await;
    let counts = Counts {
        sent: 2_400,
        failed: 600,
        ..Counts::default()
    };
    assert_eq!((total(&status), status.state), ((3_000, counts), PushState::Done));
}

#[rstest]
#[tokio::test]
async fn no_left_over_goes_before_its_time(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.accept("p", tokens(2)).await;
    let page = world.take_one().await;
    let base = Timestamp(world.now().as_secs() * 1_000 + 5_000);
    let dues = [
        base.plus(Duration::from_millis(900)),
        base.plus(Duration::from_millis(100)),
    ];
    let mut at = 0;
    let report = settle(&page, |_| {
        at += 1;
        Fate::Again(dues[at - 1])
    });
    world.report(report).await;
    world.clock.set(dues[0]);
    assert!(world.due().await.is_empty());
    world.clock.set(base.plus(Duration::from_secs(1)));
    assert_eq!(world.take_one().await.targets.len(), 2);
}

#[rstest]
#[tokio::test]
async fn left_overs_join_those_that_wait_for_the_same_second_already(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.accept("p", tokens(2_500)).await;
    let pages = world.take_due().await;
    world.ears.pages();
    let due = Timestamp(world.now().as_secs() * 1_000 + 5_000);
    for page in &pages {
        world.report(settle(page, |_| Fate::Again(due))).await;
    }
    let made: std::collections::BTreeSet<_> = world.ears.pages().into_iter().map(|page| page.id).collect();
    assert_eq!(
        made.len(),
        3,
        "2 500 targets of three reports fill two pages and half of a third"
    );
    world.clock.set(due);
    let mut sizes: Vec<usize> = world.take_due().await.iter().map(|page| page.targets.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [500, 1_000, 1_000]);
}

#[rstest]
#[tokio::test]
async fn left_overs_do_not_join_a_page_that_somebody_has_taken(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.accept("p", tokens(1_500)).await;
    let pages = world.take_due().await;
    world.ears.pages();
    let due = Timestamp(world.now().as_secs() * 1_000 + 5_000);
    let one_again = |page| {
        settle(page, |target| {
            if target.position == 1 {
                Fate::Again(due)
            } else {
                Fate::Sent
            }
        })
    };
    world.report(one_again(&pages[0])).await;
    let waits = world.ears.pages().remove(0).id;
    let taken = world
        .store()
        .take(&[waits], Duration::from_secs(60))
        .await
        .unwrap()
        .remove(0);
    world.report(one_again(&pages[1])).await;
    assert_ne!(world.ears.pages()[0].id, waits);
    world.report(settle(&taken, |_| Fate::Sent)).await;
    let status = world.status("p").await;
    assert_eq!(
        (sent(&status), status.state),
        (1_499, PushState::Running),
        "the other one still waits"
    );
    world.clock.set(due);
    world.drive(|_| Fate::Sent).await;
    assert_eq!(sent(&world.status("p").await), 1_500);
}

#[rstest]
#[tokio::test]
async fn left_overs_apply_the_pushs_filter_again(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = one_page(backend, 5).await;
    let page = world.take_one().await;
    world.report(settle(&page, |_| Fate::Again(world.now()))).await;
    world.unsubscribe("d0001", "news").await;
    world.remove("d0002").await;
    world.device_with("d0003", ANDROID, "fresh", &["news"]).await;
    let page = world.take_one().await;
    let kinds: Vec<&TargetKind> = page.targets.iter().map(|t| &t.kind).collect();
    assert_eq!(
        kinds[..2],
        [
            &TargetKind::Skip(Skip::NoLongerMatches),
            &TargetKind::Skip(Skip::Unknown)
        ]
    );
    assert_eq!(token_texts(&page), ["fresh", "token-d0004", "token-d0005"]);
    world.report(settle(&page, |_| Fate::Sent)).await;
    let status = world.status("p").await;
    let counts = Counts {
        sent: 3,
        skipped: 2,
        ..Counts::default()
    };
    assert_eq!((total(&status), status.state), ((5, counts), PushState::Done));
}

#[rstest]
#[tokio::test]
async fn left_overs_of_an_own_page_become_pages_of_their_routes(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.device("phone", ANDROID, &[]).await;
    world.device("pad", super::world::IOS, &[]).await;
    world.accept("p", ids(&["phone", "pad", "nobody"])).await;
    let page = world.take_one().await;
    world.report(settle(&page, |_| Fate::Again(world.now()))).await;
    let status = world.status("p").await;
    assert_eq!(status.state, PushState::Running);
    assert_eq!(
        total(&status),
        (
            3,
            Counts {
                skipped: 1,
                ..Counts::default()
            }
        )
    );
    assert_eq!(world.due().await.len(), 2);
    assert!(world.store().body(page.id.push).await.unwrap().is_some());
    world.drive(|_| Fate::Sent).await;
    let status = world.status("p").await;
    assert_eq!(status.state, PushState::Done);
    assert_eq!(
        total(&status),
        (
            3,
            Counts {
                sent: 2,
                skipped: 1,
                ..Counts::default()
            }
        )
    );
}

#[rstest]
#[tokio::test]
async fn the_dead_are_forgotten_when_they_are_counted(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let mut world = one_page(backend, 4).await;
    let page = world.take_one().await;
    let mut report = report_on(&page, Next::Continue);
    for target in &page.targets[..2] {
        enter(&mut report, target, Fate::Dead);
    }
    // Registered with another token meanwhile: that one is not dead.
    world.device_with("d0002", ANDROID, "fresh", &["news"]).await;
    world.report(report).await;
    assert_eq!(total(&world.status("p").await).1.invalid, 2);
    world.crash().await;
    assert_eq!(world.count("SELECT count(*) FROM devices"), 3);
    assert_eq!(
        world.count("SELECT count(*) FROM gone WHERE push_uid = 'p' AND reason = 'UNREGISTERED'"),
        1
    );

    let again = world.take_one().await;
    assert_eq!(token_texts(&again), ["token-d0003", "token-d0004"]);
    world.report(settle(&again, |_| Fate::Sent)).await;
    let counts = Counts {
        sent: 2,
        invalid: 2,
        ..Counts::default()
    };
    assert_eq!(total(&world.status("p").await), (4, counts));
    assert_eq!(world.store().restore(&app(), Timestamp(0)).await.unwrap(), 1);
}

#[rstest]
#[tokio::test]
async fn nothing_is_forgotten_under_an_old_epoch(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = one_page(backend, 2).await;
    let due = world.due().await;
    let old = world.store().take(&due, Duration::ZERO).await.unwrap().remove(0);
    let _new = world.take_one().await;
    assert_eq!(world.report(settle(&old, |_| Fate::Dead)).await, Verdict::Lost);
    assert_eq!(world.count("SELECT count(*) FROM devices"), 2);
}

#[rstest]
#[tokio::test]
async fn a_batch_of_many_pages_is_written_in_steps_and_answered_in_order(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    for n in 0..900 {
        world.device(&format!("d{n}"), ANDROID, &["news"]).await;
    }
    world.accept("walked", channels(&["news"])).await;
    for n in 0..700 {
        world.accept(&format!("own{n}"), tokens(3)).await;
    }
    world.expand_all().await;
    let mut pages = world.take_due().await;
    assert_eq!(pages.len(), 701);
    pages[350].epoch += 1_000_000;
    let reports = pages.iter().map(|page| {
        settle(page, |target| match target.position % 3 {
            0 if target.device.is_some() => Fate::Dead,
            1 => Fate::Again(world.now()),
            _ => Fate::Sent,
        })
    });
    let verdicts = world.store().report(reports.collect(), world.now()).await.unwrap();
    for (at, verdict) in verdicts.iter().enumerate() {
        assert_eq!(*verdict == Verdict::Lost, at == 350);
    }
    assert_eq!(world.count("SELECT count(*) FROM devices"), 600);
    let status = world.status("walked").await;
    assert_eq!(
        total(&status),
        (
            900,
            Counts {
                sent: 300,
                invalid: 300,
                ..Counts::default()
            }
        )
    );
}
