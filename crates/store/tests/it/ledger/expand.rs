//! Walking audiences and writing the walks down.

use std::collections::BTreeSet;

use bugle_model::{DeviceKey, PushKey, PushState, Route};
use bugle_store::Expansion;
use rstest::rstest;

use super::world::{ANDROID, APNS, Fate, HOUR, IOS, World, app, channels, sent, settle, token_texts, tokens};
use crate::backend::Backend;

async fn android_leg(world: &World) -> PushKey {
    let legs = world.store().open_legs(world.now(), 100).await.unwrap();
    legs.iter().find(|leg| leg.route == ANDROID).expect("an open leg").push
}

#[rstest]
#[tokio::test]
async fn several_channels_are_merged_and_each_device_comes_once(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.devices("both", 3, &["a", "b"]).await;
    world.devices("a", 3, &["a"]).await;
    world.devices("b", 3, &["b", "c"]).await;
    world.devices("none", 3, &["d"]).await;
    world.device("ios", IOS, &["c"]).await;
    world.device("apns", APNS, &["a"]).await;
    world.accept("p", channels(&["a", "b", "c", "empty"])).await;
    world.expand_all().await;

    let taken = world.take_due().await;
    let all: Vec<&str> = taken.iter().flat_map(|page| token_texts(page)).collect();
    let once: BTreeSet<&str> = all.iter().copied().collect();
    assert_eq!((all.len(), once.len()), (10, 10));
    assert!(!once.contains("token-apns") && !once.iter().any(|t| t.contains("none")));
    for page in &taken {
        assert!(page.targets.is_sorted_by_key(|t| t.position));
        assert!(page.targets.iter().all(|t| Some(t.route) == page.id.leg));
    }
}

#[rstest]
#[tokio::test]
async fn devices_registered_after_the_leg_began_are_not_meant(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.devices("old", 5, &["news"]).await;
    world.accept("p", channels(&["news"])).await;
    let push = android_leg(&world).await;
    let first = world.walk(push, ANDROID, 2).await.unwrap();
    world.expand(first).await;
    world.devices("new", 5, &["news"]).await;
    world.expand_all().await;
    world.drive(|_| Fate::Sent).await;
    assert_eq!(sent(&world.status("p").await), 5);
}

#[rstest]
#[tokio::test]
async fn a_walk_is_cut_into_pages_and_goes_on_where_it_ended(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.devices("d", 2_300, &["news"]).await;
    world.accept("p", channels(&["news"])).await;
    let push = android_leg(&world).await;

    let first = world.walk(push, ANDROID, 1_500).await.unwrap();
    assert_eq!(first.ranges.iter().map(|r| r.count).collect::<Vec<_>>(), [1_000, 500]);
    assert!(!first.closed);
    world.expand(first).await;
    assert_eq!(world.store().outstanding().await.unwrap(), [(app(), ANDROID, 1_500)]);
    let second = world.walk(push, ANDROID, 1_500).await.unwrap();
    assert_eq!(second.ranges.iter().map(|r| r.count).collect::<Vec<_>>(), [800]);
    assert!(second.closed);
    world.expand(second).await;

    assert!(world.walk(push, ANDROID, 1).await.is_none());
    let taken = world.take_due().await;
    let seen: BTreeSet<&str> = taken.iter().flat_map(|page| token_texts(page)).collect();
    assert_eq!((taken.len(), seen.len()), (3, 2_300));
}

#[rstest]
#[tokio::test]
async fn an_audience_of_exactly_the_room_closes_with_the_walk(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.devices("d", 3, &["news"]).await;
    world.accept("p", channels(&["news"])).await;
    let push = android_leg(&world).await;
    assert!(!world.walk(push, ANDROID, 2).await.unwrap().closed);
    assert!(world.walk(push, ANDROID, 3).await.unwrap().closed);
}

#[rstest]
#[tokio::test]
async fn of_two_expanders_one_is_stale(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.devices("d", 10, &["news"]).await;
    world.accept("p", channels(&["news"])).await;
    let push = android_leg(&world).await;
    for room in [4, 100] {
        let walks = [
            world.walk(push, ANDROID, room).await.unwrap(),
            world.walk(push, ANDROID, room).await.unwrap(),
        ];
        let [one, other] = walks.map(|walk| world.expand(walk));
        let answers = (one.await, other.await);
        assert_eq!(answers, (Expansion::Done, Expansion::Stale));
    }
    world.drive(|_| Fate::Sent).await;
    assert_eq!(sent(&world.status("p").await), 10);
}

#[rstest]
#[tokio::test]
async fn a_first_walk_with_another_bound_is_stale(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.accept("p", channels(&["news"])).await;
    let push = android_leg(&world).await;
    let early = world.walk(push, ANDROID, 10).await.unwrap();
    world.devices("d", 1, &["news"]).await;
    let late = world.walk(push, ANDROID, 10).await.unwrap();
    assert_eq!((early.bound, late.bound), (DeviceKey(0), DeviceKey(1)));
    assert_eq!(world.expand(early).await, Expansion::Done);
    assert_eq!(world.expand(late).await, Expansion::Stale);
}

#[rstest]
#[tokio::test]
async fn a_push_to_an_empty_channel_ends_with_its_first_expansion(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.accept("p", channels(&["news"])).await;
    assert_eq!(world.ears.legs(), 1);
    assert_eq!(world.status("p").await.state, PushState::Running);
    world.expand_all().await;
    let status = world.status("p").await;
    assert_eq!((status.state, status.ended_at), (PushState::Done, Some(world.now())));
    assert!(status.legs.iter().all(|leg| leg.targeted == 0));
}

#[rstest]
#[tokio::test]
async fn open_legs_come_by_age_and_only_while_they_run(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.device("phone", ANDROID, &["news"]).await;
    let mut early = world.push("early", channels(&["news"]));
    early.expires_at = world.now().plus(HOUR);
    let mut scheduled = world.push("scheduled", channels(&["news"]));
    scheduled.due = world.now().plus(2 * HOUR);
    for push in [scheduled, early, world.push("late", channels(&["news"]))] {
        world.store().accept(push).await.unwrap();
    }
    let pushes = |legs: &[bugle_store::OpenLeg]| {
        let mut keys: Vec<i64> = legs.iter().map(|leg| leg.push.0).collect();
        keys.dedup();
        keys
    };
    let legs = world.store().open_legs(world.now(), 100).await.unwrap();
    assert_eq!(pushes(&legs), [2, 3]);
    assert_eq!(legs.len(), 6);
    assert_eq!(world.store().open_legs(world.now(), 4).await.unwrap().len(), 4);
    world.clock.advance(HOUR);
    assert_eq!(pushes(&world.store().open_legs(world.now(), 100).await.unwrap()), [3]);
    assert!(world.walk(PushKey(2), ANDROID, 10).await.is_none());
    world.clock.advance(HOUR);
    let legs = world.store().open_legs(world.now(), 100).await.unwrap();
    assert_eq!(pushes(&legs), [3, 1]);
}

#[rstest]
#[tokio::test]
async fn a_walk_of_a_push_that_ran_out_meanwhile_is_stale(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.device("phone", ANDROID, &["news"]).await;
    world.accept("p", channels(&["news"])).await;
    let push = android_leg(&world).await;
    let walk = world.walk(push, ANDROID, 10).await.unwrap();
    world.clock.advance(24 * HOUR);
    assert_eq!(world.expand(walk).await, Expansion::Stale);
    assert!(world.due().await.is_empty());
}

#[rstest]
#[tokio::test]
async fn settling_makes_room_and_says_so(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.devices("d", 10, &["news"]).await;
    world.accept("p", channels(&["news"])).await;
    let push = android_leg(&world).await;
    let walk = world.walk(push, ANDROID, 6).await.unwrap();
    world.expand(walk).await;
    let page = world.take_one().await;
    world.ears.legs();

    let later = world.now().plus(HOUR);
    let mut number = 0;
    let report = settle(&page, |_| {
        number += 1;
        if number <= 2 { Fate::Again(later) } else { Fate::Sent }
    });
    world.report(report).await;
    assert_eq!(world.ears.legs(), 1);
    assert_eq!(world.store().outstanding().await.unwrap(), [(app(), ANDROID, 2)]);
    let legs = world.store().open_legs(world.now(), 10).await.unwrap();
    assert_eq!(legs.iter().find(|l| l.route == ANDROID).unwrap().outstanding, 2);
}

#[rstest]
#[tokio::test]
async fn what_is_outstanding_counts_closed_legs_too(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.accept("p", tokens(1_200)).await;
    let raw = Route::raw(bugle_model::Provider::Fcm);
    assert_eq!(world.store().outstanding().await.unwrap(), [(app(), raw, 1_200)]);
    world.drive(|_| Fate::Sent).await;
    assert!(world.store().outstanding().await.unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn of_the_legs_of_a_push_only_those_that_moved_meanwhile_are_stale(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.devices("android", 5, &["news"]).await;
    world.device("ios", IOS, &["news"]).await;
    world.device("other", IOS, &["news"]).await;
    world.accept("p", channels(&["news"])).await;
    let push = android_leg(&world).await;

    let walks = world.store().walk(push, &[(ANDROID, 3), (IOS, 1)]).await.unwrap();
    let read: Vec<_> = walks.iter().map(|walk| (walk.route, walk.count())).collect();
    assert_eq!(read, [(ANDROID, 3), (IOS, 1)]);
    let faster = world.walk(push, IOS, 10).await.unwrap();
    assert!(faster.closed);
    assert_eq!(world.expand(faster).await, Expansion::Done);
    let answers = world.store().expand(walks, world.now()).await.unwrap();
    assert_eq!(answers, [Expansion::Done, Expansion::Stale]);

    let walks = world.store().walk(push, &[(ANDROID, 10), (IOS, 10)]).await.unwrap();
    let left: Vec<_> = walks.iter().map(|walk| (walk.route, walk.count())).collect();
    assert_eq!(left, [(ANDROID, 2)]);
    assert_eq!(world.expand(walks.into_iter().next().unwrap()).await, Expansion::Done);
    world.expand_all().await;
    world.drive(|_| Fate::Sent).await;
    assert_eq!(sent(&world.status("p").await), 7);
}

#[rstest]
#[tokio::test]
async fn pages_that_are_taken_together_have_each_their_own_targets(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    let many: Vec<String> = (1..=12).map(|number| format!("many-{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    world.devices("a", 3, &["a"]).await;
    world.devices("ab", 4, &["a", "b"]).await;
    world.devices("many", 5, &many).await;
    world.device("ios", IOS, &["b", "many-7"]).await;
    let audiences = [
        &["b"][..],
        &many,
        &["a"],
        &["a", "b"],
        &["b", "many-1", "many-12"],
        &["empty"],
    ];
    for (number, audience) in audiences.iter().enumerate() {
        world.accept(&format!("p{number}"), channels(audience)).await;
    }
    world.expand_all().await;

    let mut taken = world.take_due().await;
    taken.sort_by_key(|page| (page.id.push, page.id.leg == Some(IOS)));
    let found: Vec<(usize, &str)> = taken
        .iter()
        .map(|page| (page.targets.len(), token_texts(page)[0]))
        .collect();
    let expected = [
        (4, "token-ab0001"),
        (1, "token-ios"),
        (5, "token-many0001"),
        (1, "token-ios"),
        (7, "token-a0001"),
        (7, "token-a0001"),
        (1, "token-ios"),
        (9, "token-ab0001"),
        (1, "token-ios"),
    ];
    assert_eq!(found, expected);
    for page in &taken {
        assert!(
            page.targets
                .iter()
                .is_sorted_by(|one, next| one.position < next.position)
        );
        assert_eq!(world.store().reread(page.id, 0).await.unwrap(), page.targets);
    }
}

/// Whoever is older than the push and subscribes after its page was made stands within that page's range.
#[rstest]
#[tokio::test]
async fn a_page_in_which_many_have_subscribed_since_loses_nobody(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    const LATE: usize = 1_700;
    let world = World::new(backend).await;
    world.device("first", ANDROID, &["news"]).await;
    world.devices("late", LATE, &[]).await;
    world.device("last", ANDROID, &["news"]).await;
    world.accept("p", channels(&["news"])).await;
    world.expand_all().await;
    world.devices("late", LATE, &["news"]).await;
    let page = world.take_one().await;
    let tokens = token_texts(&page);
    assert_eq!(
        (tokens.len(), tokens[0], tokens[LATE + 1]),
        (LATE + 2, "token-first", "token-last")
    );
}
