//! Progress, giving back, settling; the dead.

use std::time::Duration;

use bugle_model::{Counts, Flow, Next, PushState, Timestamp, Verdict};
use rstest::rstest;

use super::world::{
    ANDROID, Fate, World, app, channels, enter, ids, report_on, sent, settle, token_texts, tokens, total, uid,
};
use crate::backend::Backend;

/// A world where `count` devices are on one page.
pub(crate) async fn one_page(backend: Backend, count: usize) -> World {
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

/// Pushes that end alike are written together; among them those that something has happened to are told apart.
#[rstest]
#[tokio::test]
async fn of_pushes_that_are_settled_together_each_ends_in_its_own_way(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    for uid in ["well", "called-off", "strange", "begun", "whole", "refused"] {
        let targets = if uid == "refused" { 100 } else { 2 };
        world.accept(uid, tokens(targets)).await;
    }
    let mut late = world.push("late", tokens(2));
    late.expires_at = Timestamp(world.now().0 + 1_000);
    world.store().accept(late).await.unwrap();
    let mut pages = world.take_due().await;
    pages.sort_by_key(|page| page.id.push);
    let [well, called_off, strange, begun, whole, refused, late] = &mut pages[..] else {
        panic!("{} pages", pages.len());
    };
    world
        .store()
        .cancel(&app(), &uid("called-off"), world.now())
        .await
        .unwrap();
    strange.epoch += 1;
    let mut first = report_on(begun, Next::Continue);
    enter(&mut first, &begun.targets[0], Fate::Sent);
    assert_eq!(world.report(first.clone()).await, Verdict::Written(Flow::Running));
    let mut rest = report_on(begun, Next::Settle);
    rest.progress = first.progress;
    enter(&mut rest, &begun.targets[1], Fate::Sent);
    world.clock.advance(Duration::from_secs(2));
    let mut reports = vec![
        rest,
        settle(late, |_| Fate::Failed),
        settle(strange, |_| Fate::Sent),
        settle(called_off, |_| Fate::Sent),
        settle(refused, |_| Fate::Sent),
        settle(whole, |_| Fate::Sent),
        settle(well, |_| Fate::Sent),
    ];
    reports[4].payload = reports[4].answered;
    let verdicts = world.store().report(reports.clone(), world.now()).await.unwrap();
    assert_eq!(
        verdicts,
        [
            Verdict::Written(Flow::Running),
            Verdict::Written(Flow::Expired),
            Verdict::Lost,
            Verdict::Written(Flow::Cancelled),
            Verdict::Written(Flow::Running),
            Verdict::Written(Flow::Running),
            Verdict::Written(Flow::Running),
        ]
    );
    for (uid, state, sent) in [
        ("begun", PushState::Done, 2),
        ("late", PushState::Expired, 0),
        ("strange", PushState::Running, 0),
        ("called-off", PushState::Cancelled, 2),
        ("refused", PushState::Rejected, 100),
        ("whole", PushState::Done, 2),
        ("well", PushState::Done, 2),
    ] {
        let status = world.status(uid).await;
        assert_eq!((status.state, self::sent(&status)), (state, sent), "{uid}");
        assert_eq!(status.ended_at.is_none(), uid == "strange", "{uid}");
    }
    let again = world.store().report(reports, world.now()).await.unwrap();
    assert_eq!(again, [Verdict::Lost; 7], "each is settled once");
}
