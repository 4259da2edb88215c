//! What only the embedded queue promises; the contract of all queues is in `tests/it/contract.rs`.

use std::sync::Arc;
use std::time::Duration;

use bugle_model::{AppId, Clock, Lane, PageId, PageRef, Platform, Provider, PushKey, Route};
use bugle_testkit::TestClock;
use proptest::prelude::*;

use super::Memory;
use crate::{Config, Queue, Want};

const ALL: Want = Want { urgent: 100, bulk: 100 };

fn app(name: &str) -> AppId {
    AppId::parse(name).unwrap()
}

fn android() -> Route {
    Route::of(Provider::Fcm, Platform::Android)
}

fn page(app_name: &str, push: i64, seq: i64, lane: Lane, clock: &TestClock) -> PageRef {
    PageRef {
        id: PageId {
            push: PushKey(push),
            leg: Some(android()),
            seq,
        },
        app: app(app_name),
        lane,
        due: clock.now(),
    }
}

fn queue(references: usize) -> (Arc<TestClock>, Memory) {
    let clock = Arc::new(TestClock::new());
    let queue = Memory::new(
        &Config {
            references,
            ..Config::default()
        },
        Arc::<TestClock>::clone(&clock),
    );
    (clock, queue)
}

async fn nothing_comes(queue: &Memory) {
    let taken = tokio::time::timeout(Duration::from_millis(20), queue.take(ALL)).await;
    assert!(taken.is_err(), "took {taken:?}");
}

#[tokio::test]
async fn a_full_lane_drops_and_asks_for_the_ledger_when_half_empty() {
    let (clock, queue) = queue(100);
    queue.offer((1..=150).map(|seq| page("a", 1, seq, Lane::Bulk, &clock)).collect());
    assert!(
        tokio::time::timeout(Duration::from_millis(10), queue.hungry())
            .await
            .is_err()
    );
    let mut seen = 0;
    while seen < 50 {
        seen += queue.take(Want { urgent: 0, bulk: 10 }).await.len();
    }
    tokio::time::timeout(Duration::from_secs(1), queue.hungry())
        .await
        .expect("hungry");
    // The ledger still has all of them; those in work are in somebody's hands there, too, but the queue must not rely on it.
    let ledger = (1..=150).map(|seq| page("a", 1, seq, Lane::Bulk, &clock)).collect();
    queue.refill(Lane::Bulk, ledger, true).await;
    while seen < 150 {
        seen += queue.take(Want { urgent: 0, bulk: 10 }).await.len();
    }
    nothing_comes(&queue).await;
}

#[tokio::test]
async fn a_held_route_gives_nothing_and_makes_room() {
    let (clock, queue) = queue(100);
    queue.offer((1..=100).map(|seq| page("a", 1, seq, Lane::Bulk, &clock)).collect());
    queue.hold(&app("a"), android());
    queue.offer(vec![
        page("b", 2, 1, Lane::Bulk, &clock),
        page("a", 1, 7, Lane::Bulk, &clock),
    ]);
    let taken = queue.take(ALL).await;
    assert_eq!(taken.iter().map(|p| p.id.push.0).collect::<Vec<_>>(), [2]);
    queue.release(&app("a"), android());
    tokio::time::timeout(Duration::from_secs(1), queue.hungry())
        .await
        .expect("a release asks for the ledger");
    queue.offer(vec![page("a", 1, 7, Lane::Bulk, &clock)]);
    assert_eq!(queue.take(ALL).await.len(), 1);
}

proptest! {
    /// Whatever is offered, taken, done and held in whatever order: no page is in two hands, and none is lost that has room.
    #[test]
    fn no_page_is_in_two_hands(moves in proptest::collection::vec((0u8..5, 1i64..6, 1i64..8), 1..200)) {
        let (clock, queue) = queue(100);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut hands = std::collections::HashSet::new();
        for (kind, push, seq) in moves {
            let one = page(if push % 2 == 0 { "a" } else { "b" }, push, seq, Lane::Bulk, &clock);
            match kind {
                0 | 1 => queue.offer(vec![one]),
                2 => {
                    let taken = runtime.block_on(async {
                        tokio::time::timeout(Duration::ZERO, queue.take(Want { urgent: 0, bulk: 2 })).await.unwrap_or_default()
                    });
                    for page in taken {
                        prop_assert!(hands.insert(page.id), "in two hands");
                    }
                }
                3 => {
                    hands.remove(&one.id);
                    queue.done(&[one.id]);
                }
                _ => {
                    queue.hold(&one.app, android());
                    queue.release(&one.app, android());
                }
            }
        }
    }
}
