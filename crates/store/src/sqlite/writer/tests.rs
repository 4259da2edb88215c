mod failures;

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
