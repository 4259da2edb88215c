//! Jobs and transactions that fail.

use super::*;

#[tokio::test]
async fn a_failing_job_hurts_no_neighbour_and_leaves_nothing() {
    let f = Fixture::new();
    let gate = f.gate().await;
    let before = f.queue(false, Cost::rows(1), |tx| insert(tx, 1)).await;
    let failing = f
        .queue(false, Cost::rows(2), |tx| {
            insert(tx, 2)?;
            tx.hand_over(page(2));
            tx.wake_legs();
            insert(tx, 1)
        })
        .await;
    let after = f.queue(false, Cost::rows(1), |tx| insert(tx, 3)).await;
    drop(gate);
    before.await.unwrap().unwrap();
    assert!(matches!(failing.await.unwrap(), Err(Error::Unavailable(_))));
    after.await.unwrap().unwrap();
    let rows: Vec<i64> = f
        .other
        .prepare("SELECT x FROM t ORDER BY x")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(std::result::Result::unwrap)
        .collect();
    assert_eq!(rows, [1, 3]);
    assert!(f.recorder.heard().is_empty(), "what a failed job said is not passed on");
}

#[tokio::test]
async fn a_panicking_job_hurts_no_neighbour_and_leaves_nothing() {
    let f = Fixture::new();
    let gate = f.gate().await;
    let before = f.queue(false, Cost::rows(1), |tx| insert(tx, 1)).await;
    let panicking = f
        .queue(false, Cost::rows(1), |tx| -> Result<()> {
            insert(tx, 2)?;
            tx.after_commit(|| unreachable!("it was rolled back"));
            let mut open = tx.conn().prepare_cached("SELECT x FROM t")?;
            let _row = open.query([])?.next()?.is_some();
            panic!("a bug, on purpose")
        })
        .await;
    let after = f.queue(false, Cost::rows(1), |tx| insert(tx, 3)).await;
    drop(gate);
    before.await.unwrap().unwrap();
    assert!(matches!(panicking.await.unwrap(), Err(Error::Unavailable(_))));
    after.await.unwrap().unwrap();
    assert_eq!(count(&f.other), 2);
    f.writer.run(false, Cost::rows(1), |tx| insert(tx, 4)).await.unwrap();
}

/// Queues neighbours, each with a row and a page to hand over, and behind each of the first two a job that fails (having changed something or not). Answers how often the neighbours ran.
async fn runs_beside_failures(f: &Fixture, changes: bool) -> usize {
    let gate = f.gate().await;
    let runs = Arc::new(Mutex::new(0));
    let neighbour = |x: i64| {
        let runs = Arc::clone(&runs);
        move |tx: &Tx<'_>| {
            *runs.lock().unwrap() += 1;
            tx.hand_over(page(x));
            insert(tx, x)
        }
    };
    let before = f.queue(false, Cost::rows(1), neighbour(1)).await;
    let failing = move |tx: &Tx<'_>| -> Result<()> {
        tx.hand_over(page(2));
        if changes {
            insert(tx, 2)?;
        }
        Err(Error::Unavailable("refused".into()))
    };
    let first = f.queue(false, Cost::rows(1), failing).await;
    let between = f.queue(false, Cost::rows(1), neighbour(3)).await;
    let second = f.queue(false, Cost::rows(1), failing).await;
    let after = f.queue(false, Cost::rows(1), neighbour(4)).await;
    drop(gate);
    for failed in [first, second] {
        assert!(matches!(failed.await.unwrap(), Err(Error::Unavailable(e)) if e.to_string() == "refused"));
    }
    for neighbour in [before, between, after] {
        neighbour.await.unwrap().unwrap();
    }
    assert_eq!(count(&f.other), 3);
    assert_eq!(f.recorder.heard(), ["pages [1, 3, 4] at 3 rows"]);
    *runs.lock().unwrap()
}

#[tokio::test]
async fn who_refuses_before_anything_is_changed_costs_nobody_a_second_run() {
    assert_eq!(runs_beside_failures(&Fixture::new(), false).await, 3);
}

#[tokio::test]
async fn who_fails_in_the_middle_makes_those_before_run_again_and_their_pages_go_out_once() {
    assert_eq!(runs_beside_failures(&Fixture::new(), true).await, 4);
}

#[tokio::test]
async fn when_sqlite_gives_up_the_transaction_everybody_hears_and_nothing_is_left() {
    let f = Fixture::new();
    let gate = f.gate().await;
    let before = f
        .queue(false, Cost::rows(1), |tx| {
            tx.hand_over(page(1));
            insert(tx, 1)
        })
        .await;
    let failing = f
        .queue(false, Cost::rows(1), |tx| -> Result<()> {
            // What a full disk does.
            tx.conn().execute_batch("ROLLBACK")?;
            Err(Error::Unavailable("disk full".into()))
        })
        .await;
    let after = f.queue(false, Cost::rows(1), |tx| insert(tx, 3)).await;
    drop(gate);
    assert!(matches!(before.await.unwrap(), Err(Error::Unavailable(_))));
    assert!(matches!(failing.await.unwrap(), Err(Error::Unavailable(e)) if e.to_string() == "disk full"));
    after.await.unwrap().unwrap();
    assert_eq!(count(&f.other), 1);
    assert!(f.recorder.heard().is_empty());
}

#[tokio::test]
async fn a_locked_database_fails_who_waits_and_later_writes_work() {
    let f = Fixture::new();
    f.writer
        .run(false, Cost::rows(0), |tx| {
            Ok(tx.conn().busy_timeout(Duration::from_millis(1))?)
        })
        .await
        .unwrap();
    f.other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let locked = f.writer.run(false, Cost::rows(1), |tx| insert(tx, 1)).await;
    assert!(matches!(locked, Err(Error::Unavailable(_))));
    f.other.execute_batch("ROLLBACK").unwrap();
    f.writer.run(false, Cost::rows(1), |tx| insert(tx, 2)).await.unwrap();
    assert_eq!(count(&f.other), 1);
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_over_when_there_is_room() {
    let f = Fixture::new();
    let limit = |pages: i64| {
        let writer = Arc::clone(&f.writer);
        async move {
            let job = move |tx: &Tx<'_>| {
                let sql = format!("PRAGMA max_page_count = {pages}");
                Ok(tx.conn().query_row(&sql, [], |row| row.get::<_, i64>(0))?)
            };
            writer.run(false, Cost::default(), job).await.unwrap()
        }
    };
    limit(4).await;
    let big = |tx: &Tx<'_>| {
        insert(tx, 1)?;
        tx.conn()
            .execute("CREATE TABLE big AS SELECT zeroblob(100000) AS x", [])?;
        Ok(())
    };
    let full = f.writer.run(false, Cost::rows(2), big).await;
    assert!(matches!(full, Err(Error::Unavailable(_))), "{full:?}");
    assert_eq!(count(&f.other), 0);
    limit(1_000_000).await;
    f.writer.run(false, Cost::rows(2), big).await.unwrap();
    assert_eq!(count(&f.other), 1);
}
