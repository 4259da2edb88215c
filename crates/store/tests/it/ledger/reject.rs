//! Legs that no provider accepts.

use bugle_model::{Counts, Flow, Next, PushState, Verdict};
use rstest::rstest;

use super::world::{Fate, HOUR, World, channels, enter, report_on, settle, tokens, total};
use crate::backend::Backend;

#[rstest]
#[tokio::test]
async fn a_leg_whose_first_hundred_answers_refuse_the_payload_is_rejected(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.devices("d", 1_500, &["news"]).await;
    world.accept("p", channels(&["news"])).await;
    world.expand_all().await;
    let pages = world.take_due().await;
    let refused = |page: &bugle_model::Taken, count: usize| {
        let mut report = report_on(page, Next::Continue);
        for target in &page.targets[..count] {
            enter(&mut report, target, Fate::Failed);
        }
        let count = u32::try_from(count).unwrap();
        (report.answered, report.payload) = (count, count);
        report
    };
    assert_eq!(
        world.report(refused(&pages[0], 99)).await,
        Verdict::Written(Flow::Running)
    );
    let verdicts = world
        .store()
        .report(vec![refused(&pages[1], 1)], world.now())
        .await
        .unwrap();
    assert_eq!(verdicts, [Verdict::Written(Flow::Rejected)]);
    let verdict = world
        .store()
        .extend(&[(pages[0].id, pages[0].epoch)], HOUR)
        .await
        .unwrap();
    assert_eq!(verdict, [Verdict::Written(Flow::Rejected)]);

    // One page is given back and found free by the sweep, the other is ended by its holder.
    world.report(report_on(&pages[1], Next::GiveBack(world.now()))).await;
    let swept = world.store().sweep(world.now()).await.unwrap();
    assert_eq!((swept.pages, swept.pushes, swept.more), (1, 0, false));
    world.report(settle(&pages[0], |_| Fate::Failed)).await;
    let status = world.status("p").await;
    assert_eq!(status.state, PushState::Rejected);
    assert_eq!(
        total(&status),
        (
            1_500,
            Counts {
                failed: 1_500,
                ..Counts::default()
            }
        )
    );
}

#[rstest]
#[tokio::test]
async fn one_other_answer_among_the_first_hundred_keeps_a_leg_alive(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.accept("p", tokens(400)).await;
    let page = world.take_one().await;
    let mut report = report_on(&page, Next::Continue);
    (report.answered, report.payload) = (100, 99);
    assert_eq!(world.report(report).await, Verdict::Written(Flow::Running));
    let mut report = report_on(&page, Next::Continue);
    (report.answered, report.payload) = (300, 300);
    assert_eq!(world.report(report).await, Verdict::Written(Flow::Running));
}

#[rstest]
#[tokio::test]
async fn a_push_of_a_hundred_refused_tokens_is_rejected(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.accept("p", tokens(100)).await;
    let page = world.take_one().await;
    let mut report = settle(&page, |_| Fate::Failed);
    (report.answered, report.payload) = (100, 100);
    world.report(report).await;
    assert_eq!(world.status("p").await.state, PushState::Rejected);
}
