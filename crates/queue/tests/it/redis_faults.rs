//! What a Redis may do to its queue.
//!
//! Each test has a Redis of its own, and a ledger as the queue sees it: what is due and in nobody's hands is told whenever a queue is hungry, and regularly.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bugle_model::{Clock, Lane, PageId, PageRef, SystemClock};
use bugle_queue::{Config, Queue, QueueUrl, Want};
use bugle_testkit::proxy::Proxy;
use bugle_testkit::redis::Server;

use crate::backend::{Backend, IDLE, android, app, ids, is_hungry, take};

/// Pages that are neither settled nor in somebody's hands, and the count of those that are settled.
#[derive(Default)]
struct Ledger {
    free: Mutex<BTreeMap<(i64, PageId), PageRef>>,
    settled: Mutex<usize>,
    takes: Mutex<usize>,
}

impl Ledger {
    fn accept(&self, pages: &[PageRef]) {
        let mut free = self.free.lock().unwrap();
        free.extend(pages.iter().map(|page| ((page.due.0, page.id), page.clone())));
    }

    fn due(&self, limit: usize) -> Vec<PageRef> {
        self.free.lock().unwrap().values().take(limit).cloned().collect()
    }

    /// Takes and settles.
    fn work(&self, pages: &[PageRef]) {
        let mut free = self.free.lock().unwrap();
        let worked = pages
            .iter()
            .filter(|page| free.remove(&(page.due.0, page.id)).is_some())
            .count();
        *self.settled.lock().unwrap() += worked;
        *self.takes.lock().unwrap() += pages.len();
    }

    fn settled(&self) -> usize {
        *self.settled.lock().unwrap()
    }

    fn takes(&self) -> usize {
        *self.takes.lock().unwrap()
    }
}

/// A process: a queue, a worker, and whoever reads the ledger for it.
struct Process {
    queue: Arc<dyn Queue>,
    working: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Process {
    async fn start(url: &str, references: usize, ledger: &Arc<Ledger>, refill: Duration) -> Self {
        let config = Config {
            url: QueueUrl::new(url),
            references,
            ..Config::default()
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let queue = bugle_queue::redis::open(&config, &[app("a")], clock, true, IDLE)
            .await
            .unwrap();
        let working = Arc::new(AtomicBool::new(true));
        let refiller = {
            let (queue, ledger) = (Arc::clone(&queue), Arc::clone(ledger));
            async move {
                loop {
                    for lane in [Lane::Urgent, Lane::Bulk] {
                        let limit = queue.room() * 2;
                        let mut pages = ledger.due(limit);
                        let complete = pages.len() < limit;
                        pages.retain(|page| page.lane == lane);
                        queue.refill(lane, pages, complete).await;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    let _ = tokio::time::timeout(refill, queue.hungry()).await;
                }
            }
        };
        let worker = {
            let (queue, ledger, working) = (Arc::clone(&queue), Arc::clone(ledger), Arc::clone(&working));
            async move {
                loop {
                    if !working.load(Ordering::SeqCst) {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        continue;
                    }
                    let want = Want { urgent: 64, bulk: 4 };
                    if let Ok(taken) = tokio::time::timeout(Duration::from_millis(200), queue.take(want)).await {
                        ledger.work(&taken);
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        queue.done(&ids(&taken));
                    }
                }
            }
        };
        Self {
            queue,
            working,
            tasks: vec![tokio::spawn(refiller), tokio::spawn(worker)],
        }
    }

    fn pause(&self) {
        self.working.store(false, Ordering::SeqCst);
    }

    fn resume(&self) {
        self.working.store(true, Ordering::SeqCst);
    }

    /// Accepts pushes to one device.
    fn accept(&self, ledger: &Ledger, pushes: std::ops::Range<i64>) {
        let backend = Backend::on("");
        let mut pages: Vec<PageRef> = pushes.map(|push| backend.page("a", push, 1, Lane::Urgent)).collect();
        for page in &mut pages {
            page.due = SystemClock.now();
        }
        ledger.accept(&pages);
        self.queue.offer(pages);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Waits until so many are settled; how long that took.
async fn settles(ledger: &Ledger, count: usize, within: Duration) -> Duration {
    let since = Instant::now();
    while ledger.settled() < count {
        assert!(
            since.elapsed() < within,
            "{} of {count} after {within:?}",
            ledger.settled()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    since.elapsed()
}

fn entries(server: &Server) -> usize {
    let lengths = ["bugle:{urgent}:fcm:a", "bugle:{bulk}:fcm:a"].map(|key| server.command(&["XLEN", key]));
    lengths.iter().map(|length| length.parse::<usize>().unwrap_or(0)).sum()
}

/// No read of the ledger but those that a queue asks for.
const NEVER: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_is_filled_again_at_once() {
    let server = Server::new();
    let ledger = Arc::new(Ledger::default());
    let one = Process::start(&server.url(), 10_000, &ledger, NEVER).await;
    let two = Process::start(&server.url(), 10_000, &ledger, NEVER).await;
    one.accept(&ledger, 1..101);
    settles(&ledger, 100, Duration::from_secs(5)).await;
    one.pause();
    two.pause();
    tokio::time::sleep(Duration::from_millis(300)).await;
    one.accept(&ledger, 101..2_101);
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.flushall();
    one.resume();
    two.resume();
    settles(&ledger, 2_100, Duration::from_secs(10)).await;
    two.accept(&ledger, 3_001..3_101);
    let took = settles(&ledger, 2_200, Duration::from_secs(5)).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_redis_is_filled_again_at_once() {
    let mut server = Server::new();
    let ledger = Arc::new(Ledger::default());
    let one = Process::start(&server.url(), 10_000, &ledger, NEVER).await;
    let two = Process::start(&server.url(), 10_000, &ledger, NEVER).await;
    for round in 0..3 {
        let first = round * 1_000;
        one.accept(&ledger, first..first + 500);
        server.kill9();
        two.accept(&ledger, first + 500..first + 1_000);
        server.start();
        let all = usize::try_from(first + 1_000).unwrap();
        settles(&ledger, all, Duration::from_secs(15)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_cut_off_or_silent_or_slow_holds_nobody_up() {
    let server = Server::new();
    let proxy = Proxy::start(server.address());
    let url = format!("redis://{}", proxy.address());
    let ledger = Arc::new(Ledger::default());
    let one = Process::start(&url, 1_000, &ledger, NEVER).await;
    let two = Process::start(&url, 1_000, &ledger, NEVER).await;
    let mut all = 0;
    for fault in [Proxy::cut as fn(&Proxy), Proxy::stall] {
        fault(&proxy);
        // Many more than have room.
        for _ in 0..10 {
            let since = Instant::now();
            one.accept(&ledger, all..all + 400);
            two.accept(&ledger, all + 400..all + 500);
            all += 500;
            assert!(
                since.elapsed() < Duration::from_millis(500),
                "a caller waited {:?}",
                since.elapsed()
            );
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        proxy.restore();
        settles(&ledger, usize::try_from(all).unwrap(), Duration::from_secs(20)).await;
    }
    proxy.delay(Duration::from_millis(500));
    one.accept(&ledger, all..all + 500);
    settles(&ledger, usize::try_from(all + 500).unwrap(), Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_process_had_read_is_claimed() {
    let server = Server::new();
    let backend = Backend::on(&server.url());
    let dead = backend.open(1_000, true).await;
    let alive = backend.open(1_000, true).await;
    dead.offer((1..=50).map(|push| backend.page("a", push, 1, Lane::Urgent)).collect());
    let lost = take(&dead, 20, Want { urgent: 20, bulk: 0 }).await;
    drop(dead);
    // It had read ahead; nobody tells the ledger's pages to the one that lives.
    let mut found = Vec::new();
    while found.len() < 50 {
        let taken = tokio::time::timeout(Duration::from_secs(30), alive.take(Want { urgent: 100, bulk: 0 }))
            .await
            .unwrap_or_else(|_| panic!("{} of 50 were found", found.len()));
        alive.done(&ids(&taken));
        found.extend(ids(&taken));
    }
    assert!(ids(&lost).iter().all(|id| found.contains(id)));
    let since = Instant::now();
    while entries(&server) > 0 {
        assert!(
            since.elapsed() < Duration::from_secs(5),
            "{} entries are left",
            entries(&server)
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A backlog that is longer than the queue, three processes that read the ledger again and again: the streams stay within their bound, and hardly
/// anything is taken twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_backlog_and_many_refills_do_not_make_the_streams_grow() {
    let server = Server::new();
    let ledger = Arc::new(Ledger::default());
    let mut processes = Vec::new();
    for _ in 0..3 {
        processes.push(Process::start(&server.url(), 1_000, &ledger, Duration::from_millis(100)).await);
    }
    for process in &processes {
        process.pause();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    for part in 0..50 {
        let first = part * 100;
        processes[usize::try_from(part).unwrap() % 3].accept(&ledger, first..first + 100);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Nobody works: thirty refills a second find the same pages.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let waiting = entries(&server);
    assert!(
        (500..=2_000).contains(&waiting),
        "{waiting} entries for 1 000 references"
    );
    for process in &processes {
        process.resume();
    }
    let mut most = 0;
    let since = Instant::now();
    while ledger.settled() < 5_000 {
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "{} of 5 000",
            ledger.settled()
        );
        most = most.max(entries(&server));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(most <= 2_500, "{most} entries at once");
    assert!(ledger.takes() < 10_000, "{} takes for 5 000 pages", ledger.takes());
}

/// A process that only sends does not read the ledger: those that do must notice what it sees, a Redis that was emptied and a route that was released.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_mere_sender_sees_is_passed_on() {
    let server = Server::new();
    let backend = Backend::on(&server.url());
    let fanout = backend.open(1_000, false).await;
    let sender = backend.open(1_000, true).await;
    for lane in [Lane::Urgent, Lane::Bulk] {
        fanout.refill(lane, Vec::new(), true).await;
    }
    fanout.offer(backend.bulk("a", 1, 1..=10));
    let taken = take(&sender, 10, Want { urgent: 0, bulk: 20 }).await;
    sender.done(&ids(&taken));
    // Long enough for a look, so that nothing of the start is left.
    tokio::time::sleep(Duration::from_secs(2)).await;
    while tokio::time::timeout(Duration::from_millis(1_500), fanout.hungry())
        .await
        .is_ok()
    {}
    sender.release(&app("a"), android());
    is_hungry(&fanout).await;
    while tokio::time::timeout(Duration::from_millis(1_500), fanout.hungry())
        .await
        .is_ok()
    {}
    let reading = tokio::spawn(async move { sender.take(Want { urgent: 1, bulk: 1 }).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.flushall();
    is_hungry(&fanout).await;
    reading.abort();
}
