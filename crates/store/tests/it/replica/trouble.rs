//! Replicas that die, stand still or are promoted while they are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bugle_store::Expansion;
use bugle_testkit::postgres::Shutdown;
use bugle_testkit::proxy::Proxy;

use super::{Pair, listed, subscribers};
use crate::ledger::world::{ANDROID, Fate, sent, settle, token_texts, total};

/// The first who are caught by a failure wait for an answer; nobody after them does.
const FIRST: Duration = Duration::from_secs(3);

/// Waits until lists come from the replica, which stands still without the newest device.
async fn is_read_again(pair: &Pair) {
    pair.world.device("newest", ANDROID, &["news"]).await;
    let began = Instant::now();
    while subscribers(pair.world.store()).await.contains(&"newest".to_owned()) {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "the replica is not read again"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_while_lists_are_read_is_done_without_and_read_again_when_it_is_back() {
    let mut pair = Pair::new().await;
    pair.world.devices("d", 20, &["news"]).await;
    pair.catch_up();
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..6)
        .map(|_| {
            let (store, stop) = (pair.world.shared(), Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut lists, mut slowest) = (0, Duration::ZERO);
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    assert_eq!(listed(&*store).await.len(), 20);
                    lists += 1;
                    slowest = slowest.max(began.elapsed());
                }
                (lists, slowest)
            })
        })
        .collect();
    // Once for longer than it is left alone: somebody tries it in vain.
    for away in [Duration::from_millis(300), Duration::from_secs(6)] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        pair.replica.kill9();
        tokio::time::sleep(away).await;
        pair.replica.start();
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        let (lists, slowest) = reader.await.unwrap();
        assert!(lists > 60, "only {lists} lists");
        assert!(slowest < FIRST, "{slowest:?}");
    }
    pair.stand_still();
    is_read_again(&pair).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_goes_on_though_its_replica_is_killed_in_the_middle_and_comes_back() {
    const AUDIENCE: usize = 300;
    let mut pair = Pair::new().await;
    pair.world.devices("d", AUDIENCE, &["news"]).await;
    pair.accept("p").await;
    pair.catch_up();
    let began = Instant::now();
    let mut reached = Vec::new();
    for step in 0.. {
        match step {
            10 => pair.replica.kill9(),
            20 => pair.replica.start(),
            _ => {}
        }
        let legs = pair.world.store().open_legs(pair.world.now(), 100).await.unwrap();
        for leg in &legs {
            let walk = pair.world.walk(leg.push, leg.route, 10).await.unwrap();
            assert_eq!(pair.world.expand(walk).await, Expansion::Done);
        }
        let taken = pair.world.take_due().await;
        if legs.is_empty() && taken.is_empty() {
            break;
        }
        for page in &taken {
            reached.extend(token_texts(page).into_iter().map(str::to_owned));
            pair.world.report(settle(page, |_| Fate::Sent)).await;
        }
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    reached.sort();
    let everybody: Vec<_> = (1..=AUDIENCE).map(|number| format!("token-d{number:04}")).collect();
    assert_eq!(reached, everybody, "everybody, once");
    let status = pair.world.status("p").await;
    assert_eq!((total(&status).0, sent(&status)), (AUDIENCE as u64, AUDIENCE as u64));
    assert!(status.ended_at.is_some(), "{status:?}");
}

/// A server that comes back from a crash lets itself be read where its files are consistent, which may be before what it had replayed.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_forgot_in_a_crash_is_not_read_until_it_knows_again() {
    let mut pair = Pair::new().await;
    // It is consistent here: with the tables, and without a device.
    let _ = pair.primary.query("CHECKPOINT");
    pair.catch_up();
    let _ = pair.replica.query("CHECKPOINT");
    pair.world.devices("d", 3, &["news"]).await;
    pair.catch_up();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1_500) {
        assert_eq!(pair.listed().await.len(), 3);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pair.replica.configure("recovery_min_apply_delay", "1h");
    pair.replica.kill9();
    pair.replica.start();
    // Longer than it is left alone.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(7) {
        assert_eq!(pair.listed().await.len(), 3);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(pair.world.count_on(&pair.replica, "SELECT count(*) FROM devices"), 0);
    pair.replica.configure("recovery_min_apply_delay", "0");
    pair.replica.restart(Shutdown::Fast);
    pair.stand_still();
    is_read_again(&pair).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stops_answering_delays_the_first_readers_only_and_is_read_again_when_it_answers() {
    let mut proxy = None;
    let pair = Pair::by_way_of(|replica| {
        let started = proxy.insert(Proxy::start(replica.address()));
        started.address()
    })
    .await;
    let proxy = proxy.unwrap();
    pair.world.devices("d", 3, &["news"]).await;
    pair.accept("p").await;
    pair.catch_up();
    assert_eq!(pair.listed().await.len(), 3);
    assert!(proxy.connections() > 0, "lists are read through the proxy");
    proxy.stall();
    let began = Instant::now();
    let first = (0..8).map(|_| {
        let store = pair.world.shared();
        tokio::spawn(async move { listed(&*store).await.len() })
    });
    for list in first.collect::<Vec<_>>() {
        assert_eq!(list.await.unwrap(), 3);
    }
    assert!(began.elapsed() < FIRST, "{:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(pair.taken().await.1.len(), 3);
    for _ in 0..50 {
        assert_eq!(pair.listed().await.len(), 3);
    }
    assert!(began.elapsed() < FIRST, "{:?}", began.elapsed());
    pair.stand_still();
    proxy.restore();
    is_read_again(&pair).await;
}

/// After a fail-over the old primary may still be there, and both take writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_promoted_is_not_read_any_more() {
    let pair = Pair::new().await;
    pair.world.devices("d", 2, &["news"]).await;
    pair.accept("p").await;
    pair.catch_up();
    assert_eq!(pair.listed().await, ["d0001", "d0002"]);
    assert_eq!(pair.replica.query("SELECT pg_promote()"), "t");
    pair.world.remove("d0001").await;
    assert_eq!(pair.listed().await, ["d0002"]);
    let (taken, tokens) = pair.taken().await;
    assert_eq!(tokens, ["token-d0002"]);
    pair.settle(&taken, Fate::Sent).await;
}
