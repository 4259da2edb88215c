//! Nothing grows with the audience.

use std::time::Duration;

use serde_json::json;

use crate::world::{World, tokens};

/// The sizes at their highest during a broadcast.
#[derive(Debug, Default)]
struct Peak {
    pages: u64,
    ledger_kib: u64,
    memory_kib: u64,
}

/// A field of the process's status, in KiB.
fn proc_status_kib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What the file takes.
fn file_kib(db: &rusqlite::Connection) -> u64 {
    let sql = "SELECT page_count * page_size / 1024 FROM pragma_page_count, pragma_page_size";
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// What the ledger's tables and indexes take of it. Reads them all: not for every look.
fn ledger_kib(db: &rusqlite::Connection) -> u64 {
    let sql = "SELECT sum(pgsize) / 1024 FROM dbstat WHERE aggregate = TRUE
        AND name IN (SELECT name FROM sqlite_schema WHERE tbl_name IN ('pushes', 'legs', 'pages', 'page_targets', 'holds'))";
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// A broadcast with 30 % of the answers 503 and short retries, watched.
async fn broadcast(audience: usize) -> Peak {
    let settings = [
        ("fanout.window", "4000"),
        ("fanout.push_window", "4000"),
        ("sender.max_attempts", "60"),
        ("sender.backoff", "50ms"),
        ("sender.backoff_max", "200ms"),
    ];
    let mut world = World::start(json!({"shares": {"unavailable": 300}}), &settings).await;
    // One platform, hence one window, which the smaller audience, too, fills several times.
    world.api.register_on(&["android"], tokens("growth-", audience)).await;
    // Registration has its own peaks: they are left behind with the process.
    assert!(world.server.stop().await.success());
    world.server.restart();
    world.api = crate::world::Api::new(world.server.addr, crate::world::KEY);
    let db = rusqlite::Connection::open_with_flags(
        world.server.dir.path().join("data/bugle.db"),
        rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
    )
    .unwrap();
    // Nothing but the ledger grows during a broadcast.
    let registry = file_kib(&db) - ledger_kib(&db);
    let uid = world.api.broadcast().await;
    let mut peak = Peak::default();
    loop {
        let pages: u64 = db
            .query_row("SELECT count(*) FROM pages", [], |row| row.get(0))
            .unwrap();
        peak.pages = peak.pages.max(pages);
        peak.ledger_kib = peak.ledger_kib.max(file_kib(&db) - registry);
        let status = world.api.status(&uid).await;
        if status.get("ended_at").is_some() {
            assert_eq!(status["sent"], audience as u64, "{status}");
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    peak.memory_kib = proc_status_kib(world.server.pid(), "VmHWM");
    peak
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_ledger_and_memory_are_those_of_a_tenth_of_the_audience() {
    let small = broadcast(20_000).await;
    let large = broadcast(200_000).await;
    eprintln!("20 000 devices: {small:?}; 200 000 devices: {large:?}");
    let within = |what: &str, small: u64, large: u64| {
        // What grows with the audience is ten times as large; twice is what a look every 20 ms may have missed.
        assert!(
            large <= small * 2,
            "{what}: {small} for 20 000 devices, {large} for 200 000"
        );
    };
    within("pages", small.pages, large.pages);
    within("ledger", small.ledger_kib, large.ledger_kib);
    within("memory", small.memory_kib, large.memory_kib);
}
