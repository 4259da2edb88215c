use bugle_model::{Next, PageId, PageRef, Progress, PushKey};
use bugle_store::Handover;
use bugle_testkit::TestClock;
use tempfile::TempDir;

use super::*;

const NOW: Timestamp = Timestamp(1_000);

struct Deaf;

impl Handover for Deaf {
    fn pages(&self, _: Vec<PageRef>) {}
    fn legs(&self) {}
}

async fn store() -> (Arc<dyn Store>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let config = bugle_store::Config::default();
    let store = bugle_store::open(&config, dir.path(), Arc::new(TestClock::new()), Arc::new(Deaf)).await;
    (store.unwrap(), dir)
}

/// Reports of pages that nobody has: all are lost.
fn reports(count: usize) -> Vec<Report> {
    let report = Report {
        id: PageId {
            push: PushKey(1),
            leg: None,
            seq: 0,
        },
        epoch: 1,
        progress: Progress::default(),
        next: Next::Continue,
        dead: Vec::new(),
        answered: 0,
        payload: 0,
    };
    vec![report; count]
}

fn lost(count: usize) -> Vec<Verdict> {
    vec![Verdict::Lost; count]
}

#[tokio::test]
async fn a_round_takes_what_every_thread_has_and_calls_each_once() {
    let (store, _dir) = store().await;
    let mut seats = seats(&store, 2);
    let (other, first) = (seats.remove(1), seats.remove(0));
    let bell = other.bell();
    let comes = async {
        bell.notified().await;
        let called = other.called();
        (called, other.submit(reports(2), false, NOW).await.unwrap())
    };
    let (led, (called, came)) = tokio::join!(first.submit(reports(3), true, NOW), comes);
    assert_eq!((led.unwrap(), came), (lost(3), lost(2)));
    let both = Called {
        round: true,
        thorough: true,
    };
    assert_eq!(called, both);
    for seat in [&first, &other] {
        assert_eq!(seat.called(), Called::default());
    }
}

#[tokio::test]
async fn nobody_is_called_who_has_come_by_himself() {
    let (store, _dir) = store().await;
    let seats = seats(&store, 2);
    let (one, two) = tokio::join!(
        seats[0].submit(reports(1), true, NOW),
        seats[1].submit(reports(4), false, NOW)
    );
    assert_eq!((one.unwrap(), two.unwrap()), (lost(1), lost(4)));
    for seat in &seats {
        assert_eq!(seat.called(), Called::default());
    }
}

#[tokio::test]
async fn a_round_does_not_wait_for_a_thread_that_does_not_come() {
    let (store, _dir) = store().await;
    let seats = seats(&store, 2);
    assert_eq!(seats[0].submit(reports(1), true, NOW).await.unwrap(), lost(1));
    assert_eq!(seats[1].called(), Called::default(), "the round is over");
}

#[tokio::test]
async fn who_has_nothing_and_comes_too_late_leads_no_round() {
    let (store, _dir) = store().await;
    let seats = seats(&store, 2);
    assert_eq!(seats[1].submit(Vec::new(), false, NOW).await.unwrap(), lost(0));
    assert_eq!(seats[0].called(), Called::default());
    assert!(seats[0].desk.asked().is_empty());
}

#[tokio::test]
async fn a_thread_that_is_gone_is_not_waited_for() {
    let (store, _dir) = store().await;
    let mut seats = seats(&store, 3);
    seats.truncate(1);
    seats[0].desk.lay_down(0, reports(1));
    assert!(seats[0].desk.is_complete());
}

#[tokio::test]
async fn a_round_that_its_leader_gives_up_is_an_error_to_the_others() {
    let (store, _dir) = store().await;
    let seats = seats(&store, 2);
    let waiting = seats[1].desk.lay_down(1, reports(1));
    drop(seats[0].desk.take_round());
    assert!(waiting.await.is_err());
    // And the next round is as any.
    assert_eq!(seats[1].submit(reports(1), false, NOW).await.unwrap(), lost(1));
}

/// Whatever meets whatever: everybody gets as many verdicts as he laid down reports, and nobody waits for ever.
#[test]
fn many_threads_for_many_rounds() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (store, _dir) = runtime.block_on(store());
    let threads = seats(&store, 4).into_iter().map(|seat| {
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                for round in 0..200 {
                    let count = (round * 7 + seat.number) % 5;
                    let verdicts = seat.submit(reports(count), round % 3 == 0, NOW).await.unwrap();
                    assert_eq!(verdicts, lost(count));
                }
            });
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().unwrap();
    }
}
