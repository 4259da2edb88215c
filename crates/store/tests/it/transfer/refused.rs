//! What is not moved, or not there: nothing is touched, and the words say what to do.

use super::*;

#[tokio::test]
async fn what_postgresql_cannot_hold_is_named() {
    let filled = Filled::empty();
    let conn = rusqlite::Connection::open(filled.path()).unwrap();
    conn.execute("INSERT INTO holds VALUES (1, 5, 'x' || char(0), 0, 0)", [])
        .unwrap();
    drop(conn);
    let refused = |outcome| match outcome {
        Err(error @ Error::Corrupt { .. }) => error.to_string(),
        other => panic!("not refused: {other:?}"),
    };
    let database = target();
    let words = refused(run(&filled, &database).await);
    assert!(words.contains("app of the row [1,5]: the number of no app"), "{words}");
    let conn = rusqlite::Connection::open(filled.path()).unwrap();
    conn.execute("INSERT INTO apps VALUES (1, 'default')", []).unwrap();
    drop(conn);
    let words = refused(run(&filled, &target()).await);
    assert!(
        words.contains("reason of the row [1,5]: a text with a NUL character"),
        "{words}"
    );
}

#[tokio::test]
async fn a_target_with_other_data_is_refused_and_unchanged() {
    let filled = Filled::new().await;
    let database = target();
    drop(open_postgres(&database, &filled.clock).await.unwrap());
    let tables = tables_of(&database);
    assert_eq!(
        database.query("INSERT INTO holds (app, route, since, paused_ms) VALUES (1, 5, 0, 0)"),
        ""
    );
    let words = words(run(&filled, &database).await);
    assert!(
        words.contains("holds data already") && words.contains("empty database"),
        "{words}"
    );
    assert_eq!(database.query("SELECT count(*) FROM holds"), "1");
    assert_eq!(database.query("SELECT count(*) FROM devices"), "0");
    assert_eq!(database.query("SELECT count(*) FROM apps"), "0");
    assert_eq!(tables_of(&database), tables);
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_and_unchanged() {
    let filled = Filled::empty();
    let database = target();
    assert_eq!(database.query("CREATE TABLE devices (name text)"), "");
    let words = words(run(&filled, &database).await);
    assert!(words.contains("not bugle's"), "{words}");
    assert_eq!(tables_of(&database), "devices");
}

#[tokio::test]
async fn a_part_of_another_source_is_refused_and_so_is_the_same_one_after_a_change() {
    let (filled, other) = (Filled::new().await, Filled::empty());
    let database = target();
    assert!(run_steps(&filled, &database, 1_000, 2).await.is_none());
    let rows = database.query("SELECT count(*) FROM devices");
    let refused = words(run(&other, &database).await);
    assert!(refused.contains("another SQLite database"), "{refused}");
    // A copy is no other source.
    let copy = tempfile::tempdir().unwrap();
    let copied = copy.path().join("copy.db");
    std::fs::copy(filled.path(), &copied).unwrap();
    let mut first = None;
    let mut watch = |step| first = first.or(Some(step));
    let moved = run_with(&copied, &database, 1_000, &mut watch).await.unwrap();
    assert!(matches!(moved, Outcome::Done(_)));
    assert!(first.unwrap().moved > rows.parse().unwrap(), "it began anew");

    let store = open_sqlite(&filled.dir, &filled.clock);
    store.cancel(&app(), &uid("big"), filled.clock.now()).await.unwrap();
    drop(store);
    let refused = words(run(&filled, &database).await);
    assert!(refused.contains("before it was changed"), "{refused}");
}

#[tokio::test]
async fn a_source_in_use_is_refused() {
    let filled = Filled::empty();
    let database = target();
    let running = open_sqlite(&filled.dir, &filled.clock);
    let refused = words(run(&filled, &database).await);
    assert!(refused.contains("another bugle is running"), "{refused}");
    assert_eq!(tables_of(&database), "");
    drop(running);
    // And the other way round.
    let source = when_free(|| Source::open(&filled.path())).unwrap();
    let config = bugle_store::Config::default();
    let started = bugle_store::sqlite::migrate(&config, filled.dir.path());
    assert!(matches!(started, Err(Error::Setup(words)) if words.contains("bugle.db.lock")));
    drop(source);
}

#[tokio::test]
async fn a_target_in_use_is_refused() {
    let filled = Filled::empty();
    let database = target();
    let running = open_postgres(&database, &filled.clock).await.unwrap();
    let refused = words(run(&filled, &database).await);
    assert!(refused.contains("a bugle is running on the target"), "{refused}");
    drop(running);
    run(&filled, &database).await.unwrap();
}

#[tokio::test]
async fn a_source_that_is_not_there_or_not_up_to_date_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bugle.db");
    assert!(matches!(Source::open(&path), Err(Error::Setup(words)) if words.contains("there is no database")));
    assert!(files(dir.path()).is_empty());
    let filled = Filled::empty();
    rusqlite::Connection::open(filled.path())
        .unwrap()
        .pragma_update(None, "user_version", 1)
        .unwrap();
    assert!(
        matches!(when_free(|| Source::open(&filled.path())), Err(Error::Setup(words)) if words.contains("`bugle migrate`"))
    );
}

#[tokio::test]
async fn what_somebody_else_writes_to_the_target_meanwhile_is_noticed() {
    for (sabotage, table) in [
        ("DELETE FROM devices WHERE id = 'long'", "devices: "),
        ("UPDATE devices SET token = 'x' WHERE id = 'long'", "devices.token: "),
        (
            "UPDATE subscriptions SET origins = 4 WHERE channel = 'all' AND route = 6",
            "subscriptions.origins: ",
        ),
    ] {
        let filled = Filled::new().await;
        let database = target();
        assert!(run_steps(&filled, &database, 10_000, 3).await.is_none());
        assert_eq!(database.query(sabotage), "");
        let refused = words(run(&filled, &database).await);
        assert!(
            refused.starts_with(table) && refused.contains("somebody has written"),
            "{refused}"
        );
        assert!(open_postgres(&database, &filled.clock).await.is_err());
    }
}
