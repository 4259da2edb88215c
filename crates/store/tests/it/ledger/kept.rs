//! Pushes that are leased when they are accepted, for the process that accepts them.

use std::time::{Duration, Instant};

use bugle_model::{
    Accepted, Counts, Flow, Lane, NewPush, PageId, PageRef, Period, PushState, Recipient, Taken, Verdict,
};
use bugle_store::Store;

use super::cut_off::Afar;
use super::world::{ANDROID, Fate, HOUR, World, app, channels, ids, sent, settle, token_texts, tokens, total, uid};
use crate::backend::Backend;

/// A process that sends what it accepts.
async fn keeper() -> World {
    let world = World::new(Backend::Postgres).await;
    world.ears.keep_for(Some(HOUR));
    world
}

fn urgent(world: &World, uid: &str, recipient: Recipient) -> NewPush {
    NewPush {
        lane: Lane::Urgent,
        ..world.push(uid, recipient)
    }
}

async fn accept(world: &World, uid: &str, recipient: Recipient) {
    let push = urgent(world, uid, recipient);
    assert_eq!(world.store().accept(push).await.unwrap(), Accepted::New);
}

fn names(pages: &[PageRef]) -> Vec<PageId> {
    pages.iter().map(|page| page.id).collect()
}

async fn take(store: &dyn Store, pages: &[PageId]) -> Vec<Taken> {
    store.take(pages, HOUR).await.unwrap()
}

/// All leases run out.
fn expire(world: &World) {
    world.count(
        "WITH u AS (UPDATE pushes SET lease_until = clock_timestamp() - interval '1 s' WHERE lease_until IS NOT NULL RETURNING 1) SELECT count(*) FROM u",
    );
}

fn leases(world: &World) -> i64 {
    world.count("SELECT count(*) FROM pushes WHERE lease_until IS NOT NULL")
}

#[tokio::test]
async fn who_accepts_an_urgent_push_has_it_and_nobody_else_can_take_it() {
    let world = keeper().await;
    world.device("phone", ANDROID, &[]).await;
    let second = world.second().await;
    accept(&world, "p", ids(&["phone", "nobody"])).await;
    let kept = names(&world.ears.kept());
    assert_eq!((kept.len(), world.ears.pages()), (1, Vec::new()));
    assert!(world.due().await.is_empty(), "it is in somebody's hands");
    assert!(take(second.store.as_ref(), &kept).await.is_empty());

    let taken = take(world.store(), &kept).await;
    assert_eq!((taken.len(), taken[0].epoch, taken[0].flow), (1, 1, Flow::Running));
    assert_eq!(token_texts(&taken[0]), ["token-phone"]);
    assert_eq!(taken[0].body, Some(urgent(&world, "p", tokens(1)).body));
    assert!(take(world.store(), &kept).await.is_empty(), "it is taken once");
    let told = world.report(settle(&taken[0], |_| Fate::Sent)).await;
    assert_eq!(told, Verdict::Written(Flow::Running));
    let status = world.status("p").await;
    let expected = Counts {
        sent: 1,
        skipped: 1,
        ..Counts::default()
    };
    assert_eq!((status.state, total(&status)), (PushState::Done, (2, expected)));
}

#[tokio::test]
async fn the_targets_are_not_older_than_the_push_and_say_how_old_they_are() {
    let world = keeper().await;
    world.device("phone", ANDROID, &[]).await;
    world.device_with("phone", ANDROID, "newer", &[]).await;
    let began = Instant::now();
    accept(&world, "p", ids(&["phone"])).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let taken = take(world.store(), &names(&world.ears.kept())).await;
    assert_eq!(token_texts(&taken[0]), ["newer"]);
    let age = taken[0].age;
    assert!(age >= Duration::from_millis(50) && age <= began.elapsed(), "{age:?}");
}

#[tokio::test]
async fn they_can_be_taken_together_with_others() {
    let world = keeper().await;
    accept(&world, "p", tokens(2)).await;
    accept(&world, "q", tokens(1)).await;
    let kept = names(&world.ears.kept());
    world.accept("free", tokens(3)).await;
    let free = names(&world.ears.pages());
    let all = [&kept[..1], &free, &kept[1..], &kept[..1]].concat();
    let taken = take(world.store(), &all).await;
    let seen: Vec<_> = taken
        .iter()
        .map(|page| (page.id, page.epoch, page.targets.len()))
        .collect();
    assert_eq!(seen, [(all[0], 1, 2), (all[1], 1, 3), (all[2], 1, 1)]);
    assert_eq!(taken[1].age, Duration::ZERO);
}

#[tokio::test]
async fn what_is_not_for_at_once_is_everybodys() {
    let world = keeper().await;
    world.device("phone", ANDROID, &["news"]).await;
    let mut later = urgent(&world, "later", tokens(1));
    later.due = later.due.plus(HOUR);
    let mut large = urgent(&world, "large", tokens(1));
    large.body = vec![b' '; 9 << 10];
    for push in [
        world.push("bulk", tokens(1)),
        later,
        large,
        urgent(&world, "split", tokens(101)),
        urgent(&world, "channel", channels(&["news"])),
    ] {
        assert_eq!(world.store().accept(push).await.unwrap(), Accepted::New);
    }
    world.ears.keep_for(None);
    accept(&world, "no-sender", tokens(1)).await;
    assert_eq!(world.ears.kept(), []);
    assert_eq!(world.ears.pages().len(), 5);
    assert_eq!(leases(&world), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_are_kept_and_all_are_sent_once() {
    let world = keeper().await;
    let pushes: Vec<_> = (0..700)
        .map(|n| {
            let (store, push) = (world.shared(), urgent(&world, &format!("p{}", n % 600), tokens(1)));
            tokio::spawn(async move { store.accept(push).await.unwrap() })
        })
        .collect();
    let mut new = 0;
    for push in pushes {
        new += usize::from(push.await.unwrap() == Accepted::New);
    }
    assert_eq!(new, 600);
    let (kept, free) = (names(&world.ears.kept()), names(&world.ears.pages()));
    assert_eq!(kept.len() + free.len(), 600);
    // Each of two groups that are written at once may fill the room.
    assert!((256..=512).contains(&kept.len()), "{} are kept", kept.len());
    let taken = take(world.store(), &[kept, free].concat()).await;
    assert_eq!(taken.len(), 600);
    assert!(taken.iter().all(|page| page.epoch == 1));
    let reports = taken.iter().map(|page| settle(page, |_| Fate::Sent)).collect();
    world.store().report(reports, world.now()).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM pushes WHERE state = 'done'"), 600);
}

#[tokio::test]
async fn one_that_is_called_off_before_it_is_taken_is_not_sent() {
    let world = keeper().await;
    accept(&world, "p", tokens(3)).await;
    accept(&world, "q", tokens(1)).await;
    assert!(world.store().cancel(&app(), &uid("p"), world.now()).await.unwrap());
    let status = world.status("p").await;
    assert_eq!((status.state, total(&status).1.cancelled), (PushState::Cancelled, 3));
    assert_eq!(take(world.store(), &names(&world.ears.kept())).await.len(), 1);
}

#[tokio::test]
async fn a_process_that_ends_leaves_them_to_the_others() {
    let world = keeper().await;
    let second = world.second().await;
    accept(&world, "p", tokens(1)).await;
    world.store().close().await.unwrap();
    let taken = take(second.store.as_ref(), &names(&world.ears.kept())).await;
    assert_eq!((taken.len(), taken[0].epoch), (1, 2));
    assert!(world.due().await.is_empty());
    assert_eq!(leases(&world), 1, "the other's");
}

#[tokio::test]
async fn one_that_waited_for_long_is_read_anew() {
    let world = keeper().await;
    accept(&world, "p", tokens(1)).await;
    // Called off by somebody who does not know that it is kept.
    world.count("WITH u AS (UPDATE pushes SET state = 'cancelled' RETURNING 1) SELECT count(*) FROM u");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let taken = take(world.store(), &names(&world.ears.kept())).await;
    assert_eq!((taken[0].epoch, taken[0].flow), (2, Flow::Cancelled));
}

#[tokio::test]
async fn after_the_end_of_its_lease_another_has_it_and_the_first_is_told_so() {
    let world = keeper().await;
    let second = world.second().await;
    accept(&world, "p", tokens(1)).await;
    let pages = names(&world.ears.kept());
    let first = take(world.store(), &pages).await;
    expire(&world);
    let other = take(second.store.as_ref(), &pages).await;
    assert_eq!((first[0].epoch, other[0].epoch), (1, 2));
    assert_eq!(world.report(settle(&first[0], |_| Fate::Sent)).await, Verdict::Lost);
    let done = settle(&other[0], |_| Fate::Sent);
    let told = second.store.report(vec![done], world.now()).await.unwrap();
    assert_eq!(told, [Verdict::Written(Flow::Running)]);
    assert_eq!(sent(&world.status("p").await), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_taken_without_a_server_and_a_take_that_fails_hands_them_over_again() {
    let world = World::new(Backend::Postgres).await;
    world.device("phone", ANDROID, &[]).await;
    let afar = Afar::from(&world, Period::secs(1)).await;
    afar.ears.keep_for(Some(HOUR));
    for push in ["p", "q"] {
        let push = urgent(&world, push, ids(&["phone"]));
        assert_eq!(afar.store.accept(push).await.unwrap(), Accepted::New);
    }
    let pages = names(&afar.ears.kept());
    world.accept("free", tokens(1)).await;
    let free = names(&world.ears.pages());
    afar.proxy.cut();
    let first = take(afar.store.as_ref(), &pages[..1]).await;
    assert_eq!(token_texts(&first[0]), ["token-phone"]);
    let both = [&pages[1..], &free].concat();
    afar.store.take(&both, HOUR).await.unwrap_err();
    assert_eq!(names(&afar.ears.kept()), pages[1..]);
    afar.proxy.restore();
    // It took the time of two time-outs: then it is leased anew.
    let taken = take(afar.store.as_ref(), &both).await;
    assert_eq!((taken.len(), leases(&world)), (2, 3));
}
