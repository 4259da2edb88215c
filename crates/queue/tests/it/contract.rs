//! What every queue promises to one process.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bugle_model::Lane;
use bugle_queue::Want;
use rstest::rstest;

use crate::backend::{ALL, Kind, PATIENCE, android, app, ids, is_hungry, nothing_comes, single, take};

const ONE_BULK: Want = Want { urgent: 0, bulk: 1 };

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_pages_are_taken_in_turn_from_apps(#[values(Kind::Memory, Kind::Postgres, Kind::Redis)] kind: Kind) {
    let (backend, queue) = single(kind, 1_000).await;
    let mut pages = backend.bulk("a", 1, 1..=60);
    pages.extend(backend.bulk("b", 2, 1..=6));
    queue.offer(pages);
    let mut taken = Vec::new();
    while taken.len() < 30 {
        let pages = take(&queue, 1, ONE_BULK).await;
        queue.done(&ids(&pages));
        taken.extend(pages);
    }
    let of_b = taken.iter().filter(|page| page.app == app("b")).count();
    assert_eq!(of_b, 6, "an app with few pages is done while one with many goes on");
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_pages_are_taken_in_turn_from_legs(#[values(Kind::Memory, Kind::Postgres)] kind: Kind) {
    let (backend, queue) = single(kind, 100).await;
    let mut pages = backend.bulk("a", 1, 1..=4);
    pages.extend(backend.bulk("a", 2, 1..=2));
    pages.extend(backend.bulk("b", 3, 1..=2));
    queue.offer(pages);
    let mut order = Vec::new();
    for _ in 0..8 {
        let taken = take(&queue, 1, ONE_BULK).await;
        order.push((taken[0].id.push.0, taken[0].id.seq));
    }
    assert_eq!(order, [(1, 1), (3, 1), (2, 1), (3, 2), (1, 2), (2, 2), (1, 3), (1, 4)]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn urgent_pages_do_not_wait_behind_bulk_ones(#[values(Kind::Memory, Kind::Postgres, Kind::Redis)] kind: Kind) {
    let (backend, queue) = single(kind, 1_000).await;
    queue.offer(backend.bulk("a", 1, 1..=500));
    take(&queue, 1, ONE_BULK).await;
    queue.offer(vec![backend.page("a", 2, 1, Lane::Urgent)]);
    let taken = take(&queue, 1, Want { urgent: 1, bulk: 0 }).await;
    assert_eq!(taken[0].lane, Lane::Urgent);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_wanted_is_taken(#[values(Kind::Memory, Kind::Postgres, Kind::Redis)] kind: Kind) {
    let (backend, queue) = single(kind, 1_000).await;
    queue.offer(backend.bulk("a", 1, 1..=50));
    queue.offer((1..=50).map(|push| backend.page("a", push, 1, Lane::Urgent)).collect());
    for _ in 0..5 {
        let taken = tokio::time::timeout(PATIENCE, queue.take(Want { urgent: 3, bulk: 2 }))
            .await
            .unwrap();
        assert!(taken.iter().filter(|page| page.lane == Lane::Urgent).count() <= 3);
        assert!(taken.iter().filter(|page| page.lane == Lane::Bulk).count() <= 2);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_offered_twice_is_taken_once_and_again_after_it_is_done(
    #[values(Kind::Memory, Kind::Postgres, Kind::Redis)] kind: Kind,
) {
    let (backend, queue) = single(kind, 100).await;
    let one = backend.page("a", 1, 1, Lane::Bulk);
    queue.offer(vec![one.clone(), one.clone()]);
    assert_eq!(take(&queue, 1, ALL).await, std::slice::from_ref(&one));
    queue.offer(vec![one.clone()]);
    nothing_comes(&queue).await;
    queue.done(&[one.id]);
    let again = take(&queue, 1, ALL).await;
    assert_eq!(
        again,
        std::slice::from_ref(&one),
        "what was offered while it was in work comes back"
    );
    queue.done(&[one.id]);
    nothing_comes(&queue).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_not_taken_before_it_is_due(#[values(Kind::Memory, Kind::Postgres, Kind::Redis)] kind: Kind) {
    let (backend, queue) = single(kind, 100).await;
    let mut later = backend.page("a", 1, 1, Lane::Bulk);
    later.due = later.due.plus(Duration::from_secs(5));
    queue.offer(vec![later.clone()]);
    nothing_comes(&queue).await;
    backend.clock.advance(Duration::from_secs(5));
    // A clock that is moved wakes nobody; the next offer does.
    queue.offer(vec![backend.page("a", 2, 1, Lane::Bulk)]);
    let taken = take(&queue, 2, ALL).await;
    assert!(taken.contains(&later), "{taken:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_lane_drops_and_asks_for_the_ledger_when_half_empty(
    #[values(Kind::Memory, Kind::Postgres, Kind::Redis)] kind: Kind,
) {
    let (backend, queue) = single(kind, 100).await;
    let ledger = backend.bulk("a", 1, 1..=150);
    for part in ledger.chunks(10) {
        queue.offer(part.to_vec());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut seen = HashSet::new();
    let want = Want { urgent: 0, bulk: 10 };
    while seen.len() < 150 {
        let step = async {
            tokio::select! {
                taken = queue.take(want) => {
                    queue.done(&ids(&taken));
                    seen.extend(ids(&taken));
                }
                () = queue.hungry() => {
                    let left: Vec<_> = ledger.iter().filter(|page| !seen.contains(&page.id)).cloned().collect();
                    queue.refill(Lane::Bulk, left, true).await;
                }
            }
        };
        let came = tokio::time::timeout(PATIENCE, step).await;
        assert!(came.is_ok(), "{} of 150 came", seen.len());
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_route_gives_nothing_until_it_is_released(
    #[values(Kind::Memory, Kind::Postgres, Kind::Redis)] kind: Kind,
) {
    let (backend, queue) = single(kind, 100).await;
    queue.offer(backend.bulk("a", 1, 1..=20));
    queue.hold(&app("a"), android());
    queue.offer(vec![
        backend.page("b", 2, 1, Lane::Bulk),
        backend.page("a", 1, 7, Lane::Bulk),
    ]);
    let taken = take(&queue, 1, ALL).await;
    assert_eq!(taken.iter().map(|page| page.id.push.0).collect::<Vec<_>>(), [2]);
    nothing_comes(&queue).await;
    queue.release(&app("a"), android());
    is_hungry(&queue).await;
    queue.offer(vec![backend.page("a", 1, 7, Lane::Bulk)]);
    assert_eq!(take(&queue, 1, ALL).await.len(), 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_worker_wakes_for_an_offer(#[values(Kind::Memory, Kind::Postgres, Kind::Redis)] kind: Kind) {
    let (backend, queue) = single(kind, 100).await;
    let waiting = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { take(&queue, 1, ALL).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    queue.offer(vec![backend.page("a", 1, 1, Lane::Urgent)]);
    assert_eq!(waiting.await.unwrap().len(), 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_dropped_has_taken_nothing(#[values(Kind::Memory, Kind::Postgres, Kind::Redis)] kind: Kind) {
    let (backend, queue) = single(kind, 1_000).await;
    let all = backend.bulk("a", 1, 1..=200);
    let mut seen = HashSet::new();
    for part in all.chunks(10) {
        queue.offer(part.to_vec());
        for patience in 0..4 {
            let want = Want { urgent: 0, bulk: 1 };
            if let Ok(taken) = tokio::time::timeout(Duration::from_millis(patience), queue.take(want)).await {
                seen.extend(ids(&taken));
            }
        }
    }
    while seen.len() < all.len() {
        seen.extend(ids(&take(&queue, 1, ALL).await));
    }
}

/// Sender threads have runtimes of their own, of one thread, which end before the queue does.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_taken_on_other_runtimes(#[values(Kind::Memory, Kind::Postgres, Kind::Redis)] kind: Kind) {
    let (backend, queue) = single(kind, 1_000).await;
    for round in 1..=3 {
        queue.offer(backend.bulk("a", round, 1..=10));
        let queue = Arc::clone(&queue);
        let sender = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let taken = take(&queue, 10, ALL).await;
                queue.done(&ids(&taken));
            });
        });
        tokio::task::spawn_blocking(|| sender.join().unwrap()).await.unwrap();
    }
}
