//! Holds, their clock, and which pages wait.

use std::time::Duration;

use bugle_model::{AppId, HoldReason, Lane, Next, PageId, Provider, Recipient, Route};
use rstest::rstest;

use super::world::{ANDROID, Fate, HOUR, IOS, World, app, channels, ids, report_on, settle, tokens};
use crate::backend::Backend;

const MINUTE: Duration = Duration::from_mins(1);

async fn hold(world: &World, route: Route, reason: Option<HoldReason>) -> bugle_model::Hold {
    world
        .store()
        .set_hold(&app(), route, reason, world.now())
        .await
        .unwrap()
}

#[rstest]
#[tokio::test]
async fn the_clock_of_a_route_stands_still_while_it_is_on_hold(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let mut world = World::new(backend).await;
    let begin = world.now().0;
    assert!(world.store().holds().await.unwrap().is_empty());
    hold(&world, ANDROID, Some(HoldReason::Outage)).await;
    world.clock.advance(MINUTE);
    // Another reason does not begin another hold.
    let state = hold(&world, ANDROID, Some(HoldReason::Credential)).await;
    assert_eq!(
        (state.reason, state.route_clock(world.now())),
        (Some(HoldReason::Credential), begin)
    );
    world.clock.advance(MINUTE);
    world.crash().await;
    let state = hold(&world, ANDROID, None).await;
    assert_eq!((state.reason, state.paused_ms), (None, 120_000));
    world.clock.advance(MINUTE);
    assert_eq!(state.route_clock(world.now()), begin + 60_000);

    hold(&world, ANDROID, Some(HoldReason::Outage)).await;
    world.clock.advance(MINUTE);
    hold(&world, ANDROID, None).await;
    hold(&world, ANDROID, None).await;
    let holds = world.store().holds().await.unwrap();
    assert_eq!(holds.len(), 1);
    assert_eq!(
        (holds[0].app.clone(), holds[0].route, holds[0].paused_ms),
        (app(), ANDROID, 180_000)
    );
}

#[rstest]
#[tokio::test]
async fn pages_of_a_route_on_hold_are_passed_over_and_come_back(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.device("phone", ANDROID, &["news"]).await;
    world.device("pad", IOS, &["news"]).await;
    world.accept("p", channels(&["news"])).await;
    world.expand_all().await;
    world.ears.pages();
    let all = world.due().await;
    assert_eq!(all.len(), 2);
    hold(&world, ANDROID, Some(HoldReason::Outage)).await;
    let legs = |pages: &[PageId]| pages.iter().map(|page| page.leg).collect::<Vec<_>>();
    assert_eq!(legs(&world.due().await), [Some(IOS)]);
    let status = world.status("p").await;
    let held: Vec<_> = status
        .legs
        .iter()
        .filter(|leg| leg.held.is_some())
        .map(|leg| leg.route)
        .collect();
    assert_eq!(held, [ANDROID]);
    // Another app's route is another route.
    let other = AppId::parse("other").unwrap();
    world
        .store()
        .set_hold(&other, IOS, Some(HoldReason::Outage), world.now())
        .await
        .unwrap();
    assert_eq!(legs(&world.due().await), [Some(IOS)]);

    assert!(world.ears.pages().is_empty());
    hold(&world, ANDROID, None).await;
    assert_eq!(
        world.ears.pages().iter().map(|page| page.id.leg).collect::<Vec<_>>(),
        [Some(ANDROID)]
    );
    assert!(world.ears.legs() > 0);
    assert_eq!(world.due().await, all);
}

#[rstest]
#[tokio::test]
async fn raw_tokens_and_topics_wait_for_the_hold_of_their_route(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.accept("few", tokens(1)).await;
    world.accept("many", tokens(101)).await;
    world
        .accept("topic", Recipient::Topic(Provider::Fcm, "news".to_owned()))
        .await;
    world.accept("devices", ids(&["phone"])).await;
    hold(&world, Route::raw(Provider::Fcm), Some(HoldReason::Credential)).await;
    let due = world.due().await;
    assert_eq!(due.len(), 1, "only the page whose routes nobody knows yet");
    let probe = world
        .store()
        .waiting_page(&app(), Route::raw(Provider::Fcm))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(world.store().take(&[probe.id], HOUR).await.unwrap().len(), 1);
}

#[rstest]
#[tokio::test]
async fn targets_of_a_held_route_can_be_parked_as_left_overs(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.device("phone", ANDROID, &[]).await;
    world.accept("p", ids(&["phone"])).await;
    hold(&world, ANDROID, Some(HoldReason::Outage)).await;
    let page = world.take_one().await;
    let mut report = settle(&page, |_| Fate::Again(world.now()));
    (
        report.progress.left_over[0].attempts,
        report.progress.left_over[0].first_try,
    ) = (0, 0);
    world.report(report).await;
    assert!(world.due().await.is_empty());
    let probe = world.store().waiting_page(&app(), ANDROID).await.unwrap().unwrap();
    let page = world.store().take(&[probe.id], HOUR).await.unwrap().remove(0);
    assert_eq!((page.targets[0].attempts, page.targets[0].first_try), (0, 0));
}

#[rstest]
#[tokio::test]
async fn a_probe_gets_the_page_that_is_due_longest_and_none_that_is_scheduled(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    let raw = Route::raw(Provider::Fcm);
    assert!(world.store().waiting_page(&app(), raw).await.unwrap().is_none());
    let mut scheduled = world.push("scheduled", tokens(101));
    scheduled.due = world.now().plus(HOUR);
    world.store().accept(scheduled).await.unwrap();
    assert!(world.store().waiting_page(&app(), raw).await.unwrap().is_none());

    world.clock.advance(MINUTE);
    world.accept("bulk", tokens(101)).await;
    world.clock.advance(MINUTE);
    let mut urgent = world.push("urgent", tokens(1));
    urgent.lane = Lane::Urgent;
    world.store().accept(urgent).await.unwrap();
    hold(&world, raw, Some(HoldReason::Outage)).await;

    let first = world.store().waiting_page(&app(), raw).await.unwrap().unwrap();
    assert_eq!(first.lane, Lane::Bulk);
    let page = world.store().take(&[first.id], HOUR).await.unwrap().remove(0);
    let second = world.store().waiting_page(&app(), raw).await.unwrap().unwrap();
    assert_eq!(second.lane, Lane::Urgent);
    // Given back for later, it may be the probe all the same.
    world.store().take(&[second.id], HOUR).await.unwrap();
    world
        .report(report_on(&page, Next::GiveBack(world.now().plus(HOUR))))
        .await;
    assert_eq!(
        world.store().waiting_page(&app(), raw).await.unwrap().unwrap().id,
        first.id
    );
}

#[rstest]
#[tokio::test]
async fn due_pages_come_in_order_over_apps_and_routes(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.device("phone", ANDROID, &["news"]).await;
    let other = AppId::parse("other").unwrap();
    for n in 0..6 {
        let mut push = world.push(&format!("p{n}"), if n % 3 == 0 { tokens(1) } else { tokens(101) });
        if n % 2 == 0 {
            push.app = other.clone();
        }
        world.store().accept(push).await.unwrap();
        world.clock.advance(Duration::from_secs(1));
    }
    world.accept("walked", channels(&["news"])).await;
    world.expand_all().await;
    let due = world.store().due_pages(Lane::Bulk, world.now(), 100).await.unwrap();
    assert_eq!(due.len(), 7);
    assert!(due.is_sorted_by_key(|page| (page.due, page.id)));
    assert_eq!(due[0].app, other);
    let some = world.store().due_pages(Lane::Bulk, world.now(), 3).await.unwrap();
    assert_eq!(some, due[..3]);
    let before = world.store().due_pages(Lane::Bulk, due[1].due, 100).await.unwrap();
    assert_eq!(before, due[..2]);
    world.store().take(&[due[0].id, due[2].id], HOUR).await.unwrap();
    let free = world.store().due_pages(Lane::Bulk, world.now(), 2).await.unwrap();
    assert_eq!(free, [due[1].clone(), due[3].clone()]);
    assert!(
        world
            .store()
            .due_pages(Lane::Urgent, world.now(), 100)
            .await
            .unwrap()
            .is_empty()
    );
}
