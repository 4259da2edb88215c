//! Broken off anywhere, and run again.

use super::*;

#[tokio::test]
async fn a_transfer_that_is_broken_off_again_and_again_ends_with_the_same() {
    let filled = Filled::new().await;
    let database = target();
    let mut runs = 0;
    // The steps are odd in number, so that each table is broken off in its middle and at its end.
    while run_steps(&filled, &database, 611, 1 + runs % 3).await.is_none() {
        runs += 1;
        let half = open_postgres(&database, &filled.clock)
            .await
            .err()
            .expect("half a database was opened");
        assert!(
            matches!(&half, Error::Setup(words) if words.contains("migrate-data")),
            "{half}"
        );
        assert!(runs < 100);
    }
    assert!(runs > 5, "{runs} runs");
    assert_same(&database, &filled.path());
    assert_eq!(run(&filled, &database).await.unwrap(), Outcome::WasDone);
    assert!(open_postgres(&database, &filled.clock).await.is_ok());
}

#[tokio::test]
async fn a_crash_of_postgresql_costs_some_steps_at_most() {
    let filled = Filled::new().await;
    let mut server = bugle_testkit::postgres::Server::new();
    let database = server.database();
    for steps in [1, 4, 7] {
        assert!(run_steps(&filled, &database, 700, steps).await.is_none());
        if steps == 7 {
            // Some of it is safe from now on.
            assert_eq!(database.query("CHECKPOINT"), "");
        }
        server.kill9();
        server.start();
    }
    let mut first = None;
    let mut watch = |step| first = first.or(Some(step));
    let outcome = run_with(&filled.path(), &database, 700, &mut watch).await.unwrap();
    assert!(matches!(outcome, Outcome::Done(_)));
    assert!(first.unwrap().moved > 700, "nothing had survived: nothing was tested");
    assert_same(&database, &filled.path());
    server.kill9();
    server.start();
    assert_same(&database, &filled.path());
    assert_eq!(run(&filled, &database).await.unwrap(), Outcome::WasDone);
}

#[tokio::test]
async fn one_that_is_broken_off_while_it_counts_is_not_at_its_end() {
    let filled = Filled::empty();
    let database = target();
    // A step for each table, and then the counting.
    assert!(run_steps(&filled, &database, 1_000, 8).await.is_none());
    assert_eq!(
        database.query("SELECT count(*) FROM bugle_transfer WHERE done AND finished_at IS NULL"),
        "8"
    );
    assert!(open_postgres(&database, &filled.clock).await.is_err());
    assert!(matches!(run(&filled, &database).await.unwrap(), Outcome::Done(_)));
    assert!(open_postgres(&database, &filled.clock).await.is_ok());
}

#[tokio::test]
async fn a_row_at_a_time_is_as_good() {
    let filled = Filled::new().await;
    let database = target();
    let size = StepSize { rows: 1_000, bytes: 1 };
    // Only from where it matters: thousands of devices a row at a time are slow.
    assert!(run_steps(&filled, &database, 10_000, 3).await.is_none());
    let mut steps = 0;
    let source = when_free(|| Source::open(&filled.path())).unwrap();
    let url = DatabaseUrl::new(database.url());
    transfer::run(source, &url, size, &mut |_| steps += 1).await.unwrap();
    assert!(steps > PUSHES.len(), "{steps}");
    assert_same(&database, &filled.path());
}
