use std::sync::Mutex;
use std::sync::mpsc;

use bugle_model::{AppId, Lane, PageId, PageRef, PushKey, Timestamp};

use super::group::{MAX_REMOVALS, MAX_ROWS, MAX_ROWS_WITH_URGENT};
use super::*;

/// Records what it is told, in order, and what the database held at that moment.
#[derive(Default)]
struct Recorder {
    heard: Mutex<Vec<String>>,
    database: Option<std::path::PathBuf>,
}

impl Recorder {
    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    fn durable_rows(&self) -> i64 {
        self.database
            .as_ref()
            .map_or(-1, |path| count(&Connection::open(path).unwrap()))
    }
}

impl Handover for Recorder {
    fn pages(&self, pages: Vec<PageRef>) {
        let keys: Vec<_> = pages.iter().map(|page| page.id.push.0).collect();
        let text = format!("pages {keys:?} at {} rows", self.durable_rows());
        self.heard.lock().unwrap().push(text);
    }

    fn legs(&self) {
        self.heard.lock().unwrap().push("legs".to_owned());
    }
}

struct Fixture {
    writer: Arc<Writer>,
    recorder: Arc<Recorder>,
    other: Connection,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let open = || Connection::open(&path).unwrap();
        let conn = open();
        conn.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x INTEGER UNIQUE)")
            .unwrap();
        let recorder = Arc::new(Recorder {
            database: Some(path.clone()),
            ..Recorder::default()
        });
        let writer = Writer::start(conn, Arc::clone(&recorder) as Arc<dyn Handover>).unwrap();
        Self {
            writer: Arc::new(writer),
            recorder,
            other: open(),
            _dir: dir,
        }
    }

    /// Stops the writer within a job of its own until the returned sender is dropped, so that what comes meanwhile becomes the next group.
    async fn gate(&self) -> mpsc::Sender<()> {
        let (open, opened) = mpsc::channel::<()>();
        let (inside, is_inside) = tokio::sync::oneshot::channel();
        let inside = Mutex::new(Some(inside));
        let writer = Arc::clone(&self.writer);
        tokio::spawn(async move {
            let job = move |_: &Tx<'_>| {
                inside.lock().unwrap().take().unwrap().send(()).unwrap();
                let _ = opened.recv();
                Ok(())
            };
            writer.run(true, Cost::rows(5_000), job).await
        });
        is_inside.await.unwrap();
        open
    }

    /// Queues a job that is run by nobody yet, and returns its answer to come.
    async fn queue<T: Send + 'static>(
        &self,
        urgent: bool,
        cost: Cost,
        job: impl Fn(&Tx<'_>) -> Result<T> + Send + 'static,
    ) -> tokio::task::JoinHandle<Result<T>> {
        let writer = Arc::clone(&self.writer);
        let before = self.writer.inbox.len();
        let task = tokio::spawn(async move { writer.run(urgent, cost, job).await });
        while self.writer.inbox.len() == before {
            tokio::task::yield_now().await;
        }
        task
    }
}

fn count(conn: &Connection) -> i64 {
    conn.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

fn insert(tx: &Tx<'_>, x: i64) -> Result<()> {
    tx.conn().prepare_cached("INSERT INTO t VALUES (?)")?.execute([x])?;
    Ok(())
}

fn page(key: i64) -> PageRef {
    PageRef {
        id: PageId {
            push: PushKey(key),
            leg: None,
            seq: 0,
        },
        app: AppId::default_app(),
        lane: Lane::Urgent,
        due: Timestamp(0),
    }
}

#[tokio::test]
async fn what_was_answered_is_seen_by_others() {
    let f = Fixture::new();
    f.writer.run(false, Cost::rows(1), |tx| insert(tx, 1)).await.unwrap();
    assert_eq!(count(&f.other), 1);
}

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

/// Queues a neighbour, a job that fails (having changed something or not) and another neighbour, each with a row and a page to hand over. Answers how often the neighbours ran.
async fn runs_beside_a_failure(f: &Fixture, changes: bool) -> usize {
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
    let failing = f.queue(false, Cost::rows(1), failing).await;
    let after = f.queue(false, Cost::rows(1), neighbour(3)).await;
    drop(gate);
    before.await.unwrap().unwrap();
    assert!(matches!(failing.await.unwrap(), Err(Error::Unavailable(e)) if e.to_string() == "refused"));
    after.await.unwrap().unwrap();
    assert_eq!(count(&f.other), 2);
    assert_eq!(f.recorder.heard(), ["pages [1, 3] at 2 rows"]);
    *runs.lock().unwrap()
}

#[tokio::test]
async fn who_refuses_before_anything_is_changed_costs_nobody_a_second_run() {
    assert_eq!(runs_beside_a_failure(&Fixture::new(), false).await, 2);
}

#[tokio::test]
async fn who_fails_in_the_middle_makes_those_before_run_again_and_their_pages_go_out_once() {
    assert_eq!(runs_beside_a_failure(&Fixture::new(), true).await, 3);
}

#[tokio::test]
async fn pages_are_handed_over_after_the_commit_in_order_and_at_once() {
    let f = Fixture::new();
    let gate = f.gate().await;
    let mut tasks = Vec::new();
    for x in 1..=3 {
        let job = move |tx: &Tx<'_>| {
            tx.hand_over(page(x));
            tx.wake_legs();
            insert(tx, x)
        };
        tasks.push(f.queue(false, Cost::rows(1), job).await);
    }
    assert!(f.recorder.heard().is_empty());
    drop(gate);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(f.recorder.heard(), ["pages [1, 2, 3] at 3 rows", "legs"]);
}

#[tokio::test]
async fn a_caller_that_hangs_up_strands_nothing() {
    let f = Fixture::new();
    let gate = f.gate().await;
    let job = |tx: &Tx<'_>| {
        tx.hand_over(page(7));
        insert(tx, 7)
    };
    let caller = f.queue(true, Cost::rows(1), job).await;
    caller.abort();
    drop(gate);
    f.writer.run(false, Cost::rows(1), |tx| insert(tx, 8)).await.unwrap();
    // Whether the later write got into the same group is open.
    assert!(f.recorder.heard()[0].starts_with("pages [7] at "));
}

#[tokio::test]
async fn urgent_jobs_go_first() {
    let f = Fixture::new();
    let gate = f.gate().await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (urgent, name) in [(false, "a"), (false, "b"), (true, "u"), (true, "v")] {
        let order = Arc::clone(&order);
        let job = move |_: &Tx<'_>| {
            order.lock().unwrap().push(name);
            Ok(())
        };
        tasks.push(f.queue(urgent, Cost::rows(1), job).await);
    }
    drop(gate);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(*order.lock().unwrap(), ["u", "v", "a", "b"]);
}

/// Runs jobs of these costs, all queued before the first runs, and returns in how many groups they were committed.
async fn groups(jobs: &[(bool, Cost)]) -> usize {
    let f = Fixture::new();
    let gate = f.gate().await;
    let mut tasks = Vec::new();
    for (key, (urgent, cost)) in (1..).zip(jobs) {
        let job = move |tx: &Tx<'_>| {
            tx.hand_over(page(key));
            Ok(())
        };
        tasks.push(f.queue(*urgent, *cost, job).await);
    }
    drop(gate);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    f.recorder.heard().len()
}

#[tokio::test]
async fn a_group_stops_at_its_limits() {
    let rows = |rows| (false, Cost { rows, removals: 0 });
    let removals = |removals| (false, Cost { rows: 0, removals });
    assert_eq!(groups(&[rows(MAX_ROWS / 2); 4]).await, 2);
    assert_eq!(groups(&[rows(MAX_ROWS), rows(1)]).await, 2);
    assert_eq!(groups(&[removals(MAX_REMOVALS), removals(1), rows(1)]).await, 2);
    assert_eq!(
        groups(&[rows(1), rows(5 * MAX_ROWS), rows(1)]).await,
        3,
        "a bigger job runs alone"
    );
    assert_eq!(groups(&[rows(u32::MAX), rows(u32::MAX)]).await, 2);
}

#[tokio::test]
async fn a_group_with_an_urgent_job_does_not_grow_long() {
    let urgent = (true, Cost::rows(1));
    let normal = (false, Cost::rows(MAX_ROWS_WITH_URGENT as usize / 2));
    assert_eq!(groups(&[urgent, normal, normal, normal]).await, 2);
    assert_eq!(groups(&[normal, normal, normal]).await, 1);
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

#[tokio::test]
async fn dropping_the_writer_finishes_what_is_queued() {
    let f = Fixture::new();
    let gate = f.gate().await;
    let last = f.queue(false, Cost::rows(1), |tx| insert(tx, 1)).await;
    last.abort();
    let Fixture { writer, other, .. } = f;
    drop(gate);
    let mut writer = Some(writer);
    while let Err(shared) = Arc::try_unwrap(writer.take().unwrap()) {
        writer = Some(shared);
        tokio::task::yield_now().await;
    }
    assert_eq!(count(&other), 1);
}

#[tokio::test]
async fn the_log_is_started_anew_when_asked() {
    let f = Fixture::new();
    for x in 0..100 {
        f.writer
            .run(false, Cost::rows(1), move |tx| insert(tx, x))
            .await
            .unwrap();
    }
    let wal = super::super::checkpoint::wal_of(f.recorder.database.as_ref().unwrap());
    assert!(std::fs::metadata(&wal).unwrap().len() > 100_000);
    f.writer.restart_flag().store(true, Ordering::Relaxed);
    // The first is followed by the restart, the second shows that it is over.
    for x in 100..102 {
        f.writer
            .run(false, Cost::rows(1), move |tx| insert(tx, x))
            .await
            .unwrap();
    }
    assert!(std::fs::metadata(&wal).unwrap().len() < 50_000);
}
