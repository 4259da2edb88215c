//! Left-overs: what must be tried again, and the pages that it joins.

use std::time::Duration;

use bugle_model::{Counts, PushState, Skip, TargetKind, Timestamp};
use rstest::rstest;

use super::report::one_page;
use super::world::{ANDROID, Fate, World, ids, sent, settle, token_texts, tokens, total};
use crate::backend::Backend;

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
