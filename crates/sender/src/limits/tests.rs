use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use bugle_model::{Lane, PageRef, SystemClock};
use bugle_store::{Config, Handover};
use proptest::prelude::*;
use tokio::task::LocalSet;

use super::*;

struct Nobody;

impl Handover for Nobody {
    fn pages(&self, _: Vec<PageRef>) {}
    fn legs(&self) {}
}

fn store(dir: &tempfile::TempDir) -> Arc<dyn Store> {
    bugle_store::sqlite::open(&Config::default(), dir.path(), Arc::new(SystemClock), Arc::new(Nobody)).unwrap()
}

fn fcm() -> (AppId, Provider) {
    (AppId::default_app(), Provider::Fcm)
}

/// One process's limits, with its keeper running.
fn process(store: &Arc<dyn Store>, pace: Pace, stop: &CancellationToken, heard: &Rc<Cell<Duration>>) -> Arc<Limits> {
    let limits = Limits::new(&[fcm()], &Paces::from([(fcm(), pace)]), 2);
    let heard = Rc::clone(heard);
    limits.keep(store, stop, move |_, _, wait| heard.set(wait));
    limits
}

fn permits(limits: &Limits) -> Permits {
    limits.permits(&fcm().0, Provider::Fcm).unwrap()
}

/// Sends as fast as it is let, until then; how many.
async fn flood(permits: Permits, lane: Lane, until: Instant) -> u32 {
    let mut sent = 0;
    while Instant::now() < until {
        match permits.admit(lane) {
            Ok(()) => sent += 1,
            Err(wait) => tokio::time::sleep(wait).await,
        }
    }
    sent
}

fn pace(per_second: f64) -> Pace {
    Pace {
        per_second,
        ramp_up: Duration::ZERO,
    }
}

async fn locally<T>(work: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(work).await
}

#[tokio::test]
async fn processes_together_keep_the_pace_and_use_it() {
    locally(async {
        let dir = tempfile::tempdir().unwrap();
        let (store, stop, heard) = (store(&dir), CancellationToken::new(), Rc::default());
        let all: Vec<_> = (0..3).map(|_| process(&store, pace(2_000.0), &stop, &heard)).collect();
        let until = Instant::now() + Duration::from_secs(2);
        let senders = all
            .iter()
            .flat_map(|limits| [permits(limits), permits(limits)])
            .map(|permits| tokio::task::spawn_local(flood(permits, Lane::Bulk, until)));
        let mut sent = 0;
        for sender in senders.collect::<Vec<_>>() {
            sent += sender.await.unwrap();
        }
        stop.cancel();
        // Four thousand; a piece before and after, what may be used late, and three reserves.
        assert!(sent <= 4_000 + 900 + 3 * 100, "{sent}");
        assert!(sent >= 2_400, "{sent}");
    })
    .await;
}

#[tokio::test]
async fn bulk_has_its_fifth_and_urgent_the_rest_when_both_are_short() {
    locally(async {
        let dir = tempfile::tempdir().unwrap();
        let (store, stop, heard) = (store(&dir), CancellationToken::new(), Rc::default());
        let limits = process(&store, pace(1_000.0), &stop, &heard);
        let until = Instant::now() + Duration::from_secs(2);
        let flooding: Vec<_> = (0..8)
            .map(|_| tokio::task::spawn_local(flood(permits(&limits), Lane::Urgent, until)))
            .collect();
        let bulk = f64::from(flood(permits(&limits), Lane::Bulk, until).await);
        let mut urgent = 0.0;
        for sender in flooding {
            urgent += f64::from(sender.await.unwrap());
        }
        stop.cancel();
        assert!(bulk >= 0.15 * (bulk + urgent), "bulk {bulk}, urgent {urgent}");
        assert!(urgent >= 0.6 * (bulk + urgent), "bulk {bulk}, urgent {urgent}");
    })
    .await;
}

#[tokio::test]
async fn an_urgent_message_finds_a_permit_behind_a_flood_of_bulk_and_after_a_quiet_time() {
    locally(async {
        let dir = tempfile::tempdir().unwrap();
        let (store, stop, heard) = (store(&dir), CancellationToken::new(), Rc::default());
        let limits = process(&store, pace(1_000.0), &stop, &heard);
        let until = Instant::now() + Duration::from_millis(1_500);
        let flooding = tokio::task::spawn_local(flood(permits(&limits), Lane::Bulk, until));
        let urgent = permits(&limits);
        let mut refused = 0;
        tokio::time::sleep(Duration::from_millis(300)).await;
        for _ in 0..20 {
            refused += u32::from(urgent.admit(Lane::Urgent).is_err());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(refused, 0);
        assert!(flooding.await.unwrap() > 500);
        // What was drawn has lapsed by then; the reserve has not.
        tokio::time::sleep(Duration::from_millis(800)).await;
        assert_eq!(permits(&limits).admit(Lane::Urgent), Ok(()));
        assert!(permits(&limits).admit(Lane::Bulk).is_err());
        stop.cancel();
    })
    .await;
}

#[tokio::test]
async fn a_throttle_that_one_process_is_told_is_heard_by_the_others() {
    locally(async {
        let dir = tempfile::tempdir().unwrap();
        let (store, stop) = (store(&dir), CancellationToken::new());
        let (mine, other) = (Rc::<Cell<Duration>>::default(), Rc::<Cell<Duration>>::default());
        let limits = process(&store, Pace::UNLIMITED, &stop, &mine);
        let _other = process(&store, Pace::UNLIMITED, &stop, &other);
        assert!(
            limits.permits(&fcm().0, Provider::Fcm).is_none(),
            "without a limit there is nothing to ask for"
        );
        limits.throttled(&fcm().0, Provider::Fcm, Some(Duration::from_secs(30)));
        let told = async {
            while other.get().is_zero() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), told)
            .await
            .expect("heard of it");
        assert!(other.get() > Duration::from_secs(20), "{:?}", other.get());
        stop.cancel();
    })
    .await;
}

#[test]
fn a_message_that_did_not_leave_gives_its_permit_back() {
    let limits = Limits::new(&[fcm()], &Paces::from([(fcm(), pace(10.0))]), 1);
    let quota = &limits.quotas[&fcm()];
    quota.budget.add(1, 1, 0);
    let permits = permits(&limits);
    assert_eq!(permits.admit(Lane::Urgent), Ok(()));
    assert!(permits.admit(Lane::Urgent).is_err());
    permits.refund(Lane::Urgent);
    assert_eq!(permits.admit(Lane::Urgent), Ok(()));
}

#[test]
fn what_a_thread_holds_lapses_with_the_rest() {
    let limits = Limits::new(&[fcm()], &Paces::from([(fcm(), pace(10_000.0))]), 1);
    let quota = &limits.quotas[&fcm()];
    quota.budget.add(1_000, 1_000, 0);
    let permits = permits(&limits);
    assert_eq!(permits.admit(Lane::Bulk), Ok(()));
    quota.budget.lapse();
    assert!(permits.admit(Lane::Bulk).is_err(), "bulk has no part in the reserve");
    let urgent = (0..1_000).take_while(|_| permits.admit(Lane::Urgent).is_ok()).count();
    assert_eq!(urgent, 100);
}

proptest! {
    /// Whoever takes what in whatever order: no permit is made up, and bulk's part is bulk's.
    #[test]
    fn no_more_is_taken_than_was_added(
        steps in prop::collection::vec((0u8..8, 1u32..500), 1..200),
    ) {
        let budget = Budget::new(2);
        let (mut added, mut taken, mut owed) = (0u64, 0u64, 0);
        for (step, permits) in steps {
            match step {
                0 => {
                    owed = budget.add(permits, permits.max(50), owed);
                    added += u64::from(permits);
                }
                1 => budget.lapse(),
                2..=4 => taken += u64::from(budget.take(Lane::Bulk).permits),
                _ => taken += u64::from(budget.take(Lane::Urgent).permits),
            }
            prop_assert!(taken <= added);
        }
    }

    #[test]
    fn a_fifth_of_what_is_added_while_bulk_is_refused_is_bulk_s(adds in prop::collection::vec(1u32..50, 20..100)) {
        let budget = Budget::new(1);
        let (mut owed, mut bulk, mut all) = (0, 0u32, 0u32);
        for permits in adds {
            owed = budget.add(permits, 5_000, owed);
            all += permits;
            // The flood takes what it finds, bulk what is left.
            while budget.take(Lane::Urgent).permits > 0 {}
            loop {
                let got = budget.take(Lane::Bulk).permits;
                if got == 0 {
                    break;
                }
                bulk += got;
            }
        }
        prop_assert!(bulk + 12 >= all / 5, "{bulk} of {all}");
    }
}
