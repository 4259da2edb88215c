//! From SQLite to PostgreSQL: everything, from wherever it was broken off, and never onto anything else.

mod broken_off;
mod dump;
mod filled;
mod refused;

use std::collections::BTreeMap;
use std::path::Path;

use bugle_model::{Clock, DeviceFilter, Listing, Paging, PushState, Timestamp};
use bugle_store::transfer::{self, Counted, Outcome, Source, Step, StepSize};
use bugle_store::{DatabaseUrl, Error, Ledger, Registry, Result, Store};
use bugle_testkit::postgres::Database;

use self::dump::{assert_same, both};
use self::filled::{BIG, Filled, PUSHES, drive, expand_all, open_postgres, open_sqlite, shop, token_of, when_free};
use crate::ledger::world::{Fate, HOUR, app, total, uid};

fn target() -> Database {
    bugle_testkit::postgres::database()
}

async fn run_with(
    path: &Path,
    database: &Database,
    rows: u64,
    watch: &mut (dyn FnMut(Step) + Send),
) -> Result<Outcome> {
    let size = StepSize {
        rows,
        ..StepSize::default()
    };
    let source = when_free(|| Source::open(path))?;
    transfer::run(source, &DatabaseUrl::new(database.url()), size, watch).await
}

async fn run(filled: &Filled, database: &Database) -> Result<Outcome> {
    run_with(&filled.path(), database, 1_000, &mut |_| {}).await
}

/// Runs until that many steps are done, and breaks off in the middle of the next one. `Some` = it came to its end before.
async fn run_steps(filled: &Filled, database: &Database, rows: u64, steps: u32) -> Option<Outcome> {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let path = filled.path();
    let mut watch = |step| told.send(step).expect("somebody listens");
    tokio::select! {
        biased;
        () = async { for _ in 0..steps { heard.recv().await; } } => None,
        outcome = run_with(&path, database, rows, &mut watch) => Some(outcome.unwrap()),
    }
}

fn words(outcome: Result<Outcome>) -> String {
    match outcome {
        Err(Error::Setup(words)) => words,
        other => panic!("not refused: {other:?}"),
    }
}

fn tables_of(database: &Database) -> String {
    database.query("SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_tables WHERE schemaname = 'public'")
}

/// Every file of the directory with what is in it, but for the locks.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let named = entries.map(|entry| {
        (
            entry.file_name().into_string().unwrap(),
            std::fs::read(entry.path()).unwrap(),
        )
    });
    named.filter(|(name, _)| !name.ends_with("lock")).collect()
}

/// What the API would tell, as text.
async fn told(store: &dyn Store) -> Vec<String> {
    let mut lines = Vec::new();
    let page = Paging {
        after: None,
        limit: 100_000,
        count_total: true,
    };
    for app in [app(), shop()] {
        let listing: Listing<_> = store
            .devices(&app, &DeviceFilter::default(), &page, true)
            .await
            .unwrap();
        lines.push(format!("{app}: {:?} devices", listing.total));
        lines.extend(
            listing
                .items
                .iter()
                .map(|device| format!("{device:?} {:?}", device.device.token.as_str())),
        );
    }
    for (app, push) in PUSHES {
        let app = bugle_model::AppId::parse(app).unwrap();
        let status = store.status(&app, &uid(push)).await.unwrap();
        lines.push(format!("{app} {:?}", status.expect("the push is known")));
    }
    let mut holds: Vec<_> = store
        .holds()
        .await
        .unwrap()
        .iter()
        .map(|hold| format!("{hold:?}"))
        .collect();
    holds.sort();
    lines.append(&mut holds);
    lines
}

#[tokio::test]
async fn everything_is_there_afterwards_and_the_source_is_as_it_was() {
    let filled = Filled::new().await;
    let before = files(filled.dir.path());
    let database = target();
    let mut steps = Vec::new();
    let outcome = run_with(&filled.path(), &database, 1_000, &mut |step| steps.push(step))
        .await
        .unwrap();
    let Outcome::Done(counted) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(files(filled.dir.path()) == before);
    assert_same(&database, &filled.path());
    for Counted { table, source, target } in &counted {
        assert_eq!(source, target);
        assert_eq!(
            database.query(&format!("SELECT count(*) FROM {table}")),
            target.to_string()
        );
        assert!(*source > 0, "{table}: nothing was tested");
    }
    assert_eq!(counted.len(), 8);
    let last = steps.last().unwrap();
    assert_eq!(
        (last.moved, last.total),
        (last.total, counted.iter().map(|table| table.source).sum())
    );
    assert!(steps.windows(2).all(|pair| pair[0].moved <= pair[1].moved));
    assert!(
        steps.iter().filter(|step| step.table == "devices").count() > 3,
        "{steps:?}"
    );
}

#[tokio::test]
async fn no_key_that_was_ever_given_is_given_again() {
    let filled = Filled::new().await;
    let database = target();
    run(&filled, &database).await.unwrap();
    let conn = rusqlite::Connection::open(filled.path()).unwrap();
    for (table, column) in [
        ("devices", "key"),
        ("pushes", "key"),
        ("gone", "seq"),
        ("pages", "id"),
        ("apps", "key"),
    ] {
        let sql = format!(
            "SELECT max((SELECT max({column}) FROM {table}), coalesce((SELECT seq FROM sqlite_sequence WHERE name = '{table}'), 0))"
        );
        let highest: i64 = conn.query_row(&sql, [], |row| row.get(0)).unwrap();
        let next = database.query(&format!(
            "SELECT nextval(pg_get_serial_sequence('{table}', '{column}'))"
        ));
        assert_eq!(next, (highest + 1).to_string(), "{table}");
    }
    let removed: i64 = conn
        .query_row(
            "SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'devices') - max(key) FROM devices",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!(removed > 0, "the newest device was not removed: nothing was tested");
}

#[tokio::test]
async fn apps_keep_their_names_whatever_their_numbers_are() {
    let filled = Filled::new().await;
    let database = target();
    // As after a first start on the target.
    drop(open_postgres(&database, &filled.clock).await.unwrap());
    assert_eq!(
        database.query("INSERT INTO apps (key, name) VALUES (1, 'shop'), (2, 'another'), (7, 'default')"),
        ""
    );
    run(&filled, &database).await.unwrap();
    assert_same(&database, &filled.path());
    assert_eq!(
        database.query("SELECT string_agg(name, ',' ORDER BY key) FROM apps"),
        "shop,another,default"
    );
    assert_eq!(database.query("SELECT DISTINCT app FROM legs ORDER BY app"), "1\n7");
}

#[tokio::test]
async fn an_empty_store_is_moved() {
    let filled = Filled::empty();
    let database = target();
    assert!(matches!(run(&filled, &database).await.unwrap(), Outcome::Done(counted) if counted.len() == 8));
    let store = open_postgres(&database, &filled.clock).await.unwrap();
    store.ping().await.unwrap();
    assert_eq!(database.query("SELECT nextval('devices_key_seq')"), "1");
}

#[tokio::test]
async fn what_a_crash_left_in_the_log_is_moved_too() {
    let filled = Filled::new().await;
    let store = open_sqlite(&filled.dir, &filled.clock);
    store.cancel(&app(), &uid("raw"), filled.clock.now()).await.unwrap();
    let crashed = tempfile::tempdir().unwrap();
    for file in ["bugle.db", "bugle.db-wal"] {
        std::fs::copy(filled.dir.path().join(file), crashed.path().join(file)).unwrap();
    }
    drop(store);
    let before = files(crashed.path());
    assert!(
        !before["bugle.db-wal"].is_empty(),
        "there is no log: nothing was tested"
    );
    let database = target();
    run_with(&crashed.path().join("bugle.db"), &database, 1_000, &mut |_| {})
        .await
        .unwrap();
    let mut after = files(crashed.path());
    after.remove("bugle.db-shm");
    assert!(after == before);
    assert_eq!(
        database.query("SELECT state FROM pushes WHERE uid = 'raw'"),
        "cancelled"
    );
    assert_same(&database, &filled.path());
}

#[tokio::test]
async fn the_api_tells_the_same_of_both() {
    let filled = Filled::new().await;
    let database = target();
    run(&filled, &database).await.unwrap();
    let there = open_postgres(&database, &filled.clock).await.unwrap();
    let here = open_sqlite(&filled.dir, &filled.clock);
    let (there, here) = (told(there.as_ref()).await, told(here.as_ref()).await);
    assert_eq!(there.len(), here.len());
    for (there, here) in there.iter().zip(&here) {
        assert_eq!(there, here);
    }
}

#[tokio::test]
async fn dead_devices_can_still_be_put_back() {
    let filled = Filled::new().await;
    let database = target();
    run(&filled, &database).await.unwrap();
    let there = open_postgres(&database, &filled.clock).await.unwrap();
    let here = open_sqlite(&filled.dir, &filled.clock);
    for app in [app(), shop()] {
        let restored = there.restore(&app, Timestamp(0)).await.unwrap();
        assert!(restored > 0);
        assert_eq!(restored, here.restore(&app, Timestamp(0)).await.unwrap());
    }
    drop(here);
    let (there, here) = both(&database, &filled.path());
    let subscribed = |rows: &[String]| rows.iter().filter(|row| row.starts_with("subscriptions")).count();
    assert_eq!(subscribed(&there), subscribed(&here));
}

#[tokio::test]
async fn pushes_in_progress_go_on_to_an_exact_end() {
    let mut filled = Filled::new().await;
    let database = target();
    run(&filled, &database).await.unwrap();
    let store = open_postgres(&database, &filled.clock).await.unwrap();
    let store: &dyn Store = store.as_ref();
    let before = filled.ended.len();
    assert!(
        (1_000..BIG - 1_000).contains(&before),
        "{before}: it is not in the middle"
    );
    // The held one stays behind.
    for _ in 0..3 {
        expand_all(store, &filled.clock).await;
        let (clock, ended) = (filled.clock.clone(), &mut filled.ended);
        drive(store, &clock, |target| {
            if let Some(token) = token_of(target).filter(|token| token.starts_with("big-token")) {
                assert!(ended.insert(token.clone()), "{token} was sent to before");
            }
            Fate::Sent
        })
        .await;
        filled.clock.advance(HOUR);
    }
    for push in ["big", "own", "raw", "scheduled", "scheduled-channel"] {
        let status = store.status(&app(), &uid(push)).await.unwrap().unwrap();
        let (targeted, counts) = total(&status);
        assert_eq!(
            (status.state, targeted),
            (PushState::Done, counts.total()),
            "{push}: {status:?}"
        );
    }
    // Three were removed before.
    assert_eq!(filled.ended.len(), BIG - 3);
    let status = store.status(&app(), &uid("big")).await.unwrap().unwrap();
    let (targeted, counts) = total(&status);
    assert_eq!(
        (targeted, counts.sent + counts.invalid),
        (BIG as u64 - 3, BIG as u64 - 3)
    );
    assert_eq!(counts.invalid, 200);
    let status = store.status(&app(), &uid("scheduled-channel")).await.unwrap().unwrap();
    assert!(total(&status).1.sent > 3, "{status:?}");
    let held = store.status(&app(), &uid("held")).await.unwrap().unwrap();
    assert_eq!(held.state, PushState::Running);
}
