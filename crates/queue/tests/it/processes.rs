//! What the queues for many processes promise.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bugle_model::{Lane, PageId};
use bugle_queue::{Queue, Want};
use rstest::rstest;

use crate::backend::{ALL, Backend, Kind, PATIENCE, ids, is_hungry, nothing_comes, take};

/// The ledger, as far as a queue relies on it: a page is taken once.
#[derive(Default)]
struct Ledger {
    taken: Mutex<HashSet<PageId>>,
}

impl Ledger {
    fn take(&self, ids: &[PageId]) -> usize {
        let mut taken = self.taken.lock().unwrap();
        ids.iter().filter(|id| taken.insert(**id)).count()
    }

    fn len(&self) -> usize {
        self.taken.lock().unwrap().len()
    }
}

/// Takes and works pages; the number of those that it got.
async fn work(queue: Arc<dyn Queue>, ledger: Arc<Ledger>, all: usize) -> usize {
    let mut got = 0;
    while ledger.len() < all {
        if let Ok(taken) =
            tokio::time::timeout(Duration::from_millis(100), queue.take(Want { urgent: 8, bulk: 4 })).await
        {
            got += ledger.take(&ids(&taken));
            tokio::time::sleep(Duration::from_millis(2)).await;
            queue.done(&ids(&taken));
        }
    }
    got
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_share_the_work(#[values(Kind::Postgres, Kind::Redis)] kind: Kind) {
    let backend = Backend::new(kind);
    let ledger = Arc::new(Ledger::default());
    let (one, two) = (backend.open(10_000, true).await, backend.open(10_000, true).await);
    one.offer(backend.bulk("a", 1, 1..=400));
    let both = async {
        tokio::join!(
            work(Arc::clone(&one), Arc::clone(&ledger), 400),
            work(Arc::clone(&two), Arc::clone(&ledger), 400)
        )
    };
    let (one, two) = tokio::time::timeout(PATIENCE, both)
        .await
        .expect("all pages are worked");
    assert_eq!(one + two, 400);
    assert!(one >= 100 && two >= 100, "{one} and {two}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_does_not_send_gives_its_pages_to_others(#[values(Kind::Postgres, Kind::Redis)] kind: Kind) {
    let backend = Backend::new(kind);
    let api = backend.open(1_000, false).await;
    let sender = backend.open(1_000, true).await;
    api.offer(vec![backend.page("a", 1, 1, Lane::Urgent)]);
    api.offer(backend.bulk("a", 2, 1..=3));
    assert_eq!(take(&sender, 4, ALL).await.len(), 4);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_ends_leaves_its_pages_to_others(#[values(Kind::Postgres, Kind::Redis)] kind: Kind) {
    let backend = Backend::new(kind);
    let one = backend.open(1_000, true).await;
    let two = backend.open(1_000, true).await;
    one.offer((1..=20).map(|push| backend.page("a", push, 1, Lane::Urgent)).collect());
    let kept = tokio::time::timeout(PATIENCE, one.take(Want { urgent: 5, bulk: 0 }))
        .await
        .unwrap();
    one.done(&ids(&kept));
    one.close().await;
    let left = take(&two, 20 - kept.len(), ALL).await;
    assert!(ids(&left).iter().all(|id| !ids(&kept).contains(id)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_to_one_device_stays_with_its_process() {
    let backend = Backend::new(Kind::Postgres);
    let (one, two) = (backend.open(1_000, true).await, backend.open(1_000, true).await);
    one.offer(vec![backend.page("a", 1, 1, Lane::Urgent)]);
    nothing_comes(&two).await;
    let many = (2..=400).map(|push| backend.page("a", push, 1, Lane::Urgent)).collect();
    one.offer(many);
    let spilled = take(&two, 144, Want { urgent: 500, bulk: 0 }).await;
    assert_eq!(spilled.len(), 144, "what piles up is shared");
    assert_eq!(take(&one, 400, Want { urgent: 500, bulk: 0 }).await.len(), 400);
}

mod faults {
    use bugle_queue::{Config, postgres};
    use bugle_testkit::postgres::database;
    use bugle_testkit::proxy::Proxy;

    use super::*;

    /// Offers at `one` until `two` hears of one of them.
    async fn until_heard(backend: &Backend, one: &Arc<dyn Queue>, two: &Arc<dyn Queue>, push: i64) {
        let heard = async {
            for seq in 1.. {
                one.offer(vec![backend.page("a", push, seq, Lane::Bulk)]);
                let taken = tokio::time::timeout(Duration::from_millis(100), two.take(ALL)).await;
                if taken.is_ok_and(|taken| taken.iter().any(|page| page.id.push.0 == push)) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.expect("heard of again");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn cuts_and_stalls_heal_and_ask_for_the_ledger() {
        let backend = Backend::new(Kind::Memory);
        let database = database();
        let proxy = Proxy::start(database.address());
        let url = database.url_through(proxy.address());
        let config = Config::default();
        let one = postgres::open(&url, &config, backend.clock(), true).await.unwrap();
        let two = postgres::open(&url, &config, backend.clock(), true).await.unwrap();
        until_heard(&backend, &one, &two, 1).await;
        proxy.cut();
        // Nobody is held up, and more than fits is offered.
        for push in 100..130 {
            one.offer(backend.bulk("a", push, 1..=1_000));
        }
        proxy.restore();
        is_hungry(&two).await;
        is_hungry(&one).await;
        until_heard(&backend, &one, &two, 2).await;
        proxy.stall();
        one.offer(backend.bulk("a", 3, 1..=10));
        tokio::time::sleep(Duration::from_secs(11)).await;
        proxy.restore();
        until_heard(&backend, &one, &two, 4).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_database_that_is_not_there_is_said_so_without_the_password() {
        let port = bugle_testkit::free_port();
        let backend = Backend::new(Kind::Memory);
        let url = format!("postgres://user:sesame@127.0.0.1:{port}/bugle");
        let error = postgres::open(&url, &Config::default(), backend.clock(), true)
            .await
            .err()
            .unwrap();
        let said = format!("{error} {error:?}");
        assert!(said.contains("PostgreSQL") && !said.contains("sesame"), "{said}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_one_process_can_take_stays_there_until_it_ends(#[values(Kind::Postgres, Kind::Redis)] kind: Kind) {
    let backend = Backend::new(kind);
    let (one, two) = (backend.open(1_000, true).await, backend.open(1_000, true).await);
    one.keep((1..=300).map(|push| backend.page("a", push, 1, Lane::Urgent)).collect());
    nothing_comes(&two).await;
    let taken = take(&one, 295, Want { urgent: 59, bulk: 0 }).await;
    one.done(&ids(&taken));
    nothing_comes(&two).await;
    one.close().await;
    assert_eq!(take(&two, 5, ALL).await.len(), 5);
}
