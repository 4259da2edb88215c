//! What the lanes owe each other, over every queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bugle_model::Lane;
use bugle_queue::{Queue, Want};
use rstest::rstest;

use crate::backend::{Backend, Kind, PATIENCE, ids, single};

/// What a worker asks for that has room for four urgent pages and two bulk pages.
const SIX: Want = Want { urgent: 4, bulk: 2 };

/// Offers urgent pages so that some always wait, until it is told to stop.
async fn flood(backend: Arc<Backend>, queue: Arc<dyn Queue>, taken: Arc<AtomicI64>, stop: Arc<AtomicBool>) {
    let mut offered = 0;
    while !stop.load(Ordering::SeqCst) {
        while offered - taken.load(Ordering::SeqCst) < 400 {
            let pages = (1..=50).map(|n| backend.page("a", 1_000 + offered + n, 1, Lane::Urgent));
            queue.offer(pages.collect());
            offered += 50;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_urgent_pages_leaves_bulk_its_fifth(
    #[values(Kind::Memory, Kind::Postgres, Kind::Redis)] kind: Kind,
) {
    let (backend, queue) = single(kind, 10_000).await;
    let backend = Arc::new(backend);
    let (urgent_taken, stop) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
    queue.offer(backend.bulk("b", 1, 1..=2_000));
    let flooding = tokio::spawn(flood(
        Arc::clone(&backend),
        Arc::clone(&queue),
        Arc::clone(&urgent_taken),
        Arc::clone(&stop),
    ));
    let (mut urgent, mut bulk) = (0, 0);
    let begin = Instant::now();
    while urgent + bulk < 2_000 {
        let taken = tokio::time::timeout(PATIENCE, queue.take(SIX)).await.unwrap();
        let of_bulk = taken.iter().filter(|page| page.lane == Lane::Bulk).count();
        bulk += of_bulk;
        urgent += taken.len() - of_bulk;
        urgent_taken.store(i64::try_from(urgent).unwrap(), Ordering::SeqCst);
        queue.done(&ids(&taken));
        // The work.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.store(true, Ordering::SeqCst);
    flooding.await.unwrap();
    let took = begin.elapsed();
    assert!(
        bulk * 5 >= urgent + bulk,
        "{bulk} bulk, {urgent} urgent pages in {took:?}"
    );
    // The flood has its part, too: a worker's call is not answered with bulk pages alone.
    assert!(urgent * 2 >= bulk, "{bulk} bulk, {urgent} urgent pages in {took:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_urgent_page_is_taken_next_however_many_bulk_pages_wait(
    #[values(Kind::Memory, Kind::Postgres, Kind::Redis)] kind: Kind,
) {
    let (backend, queue) = single(kind, 10_000).await;
    queue.offer(backend.bulk("a", 1, 1..=5_000));
    let mut slowest = 0;
    for push in 2..20 {
        queue.offer(vec![backend.page("a", push, 1, Lane::Urgent)]);
        let mut calls = 0;
        loop {
            let taken = tokio::time::timeout(PATIENCE, queue.take(SIX)).await.unwrap();
            calls += 1;
            queue.done(&ids(&taken));
            if taken.iter().any(|page| page.lane == Lane::Urgent) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        slowest = slowest.max(calls);
    }
    // In memory it comes with the next call; through a server it is on its way for some milliseconds. Behind the bulk pages it would be thousands.
    let bound = if kind == Kind::Redis { 200 } else { 1 };
    assert!(slowest <= bound, "{slowest} calls");
}
