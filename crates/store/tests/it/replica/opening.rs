//! Opening a store whose replica is not there, or is none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bugle_store::{Config, DatabaseUrl, Error, Store, postgres};
use bugle_testkit::postgres::{Database, Server, database};
use bugle_testkit::{TestClock, free_port};

use super::listed;
use crate::fixture::Deaf;
use crate::ledger::world::{ANDROID, World};

fn config(url: &str, replica: &str) -> Config {
    Config {
        url: DatabaseUrl::new(url),
        replica_url: Some(DatabaseUrl::new(replica)),
        connections: 4,
        ..Config::default()
    }
}

async fn open(url: &str, replica: &str) -> bugle_store::Result<Arc<postgres::Store>> {
    let config = config(url, replica);
    postgres::open(&config, Arc::new(TestClock::new()), Arc::new(Deaf)).await
}

async fn refusal(url: &str, replica: &str) -> String {
    match open(url, replica).await {
        Err(Error::Setup(text)) => text,
        Err(other) => panic!("not a refusal in words: {other:?}"),
        Ok(_) => panic!("it was opened"),
    }
}

async fn assert_lists_come_at_once(store: &dyn Store, expected: &[&str]) {
    let began = Instant::now();
    for _ in 0..50 {
        assert_eq!(listed(store).await, expected);
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_replica_that_is_not_there_is_done_without() {
    let database = database();
    let nowhere = format!("postgres://bugle:geheim@127.0.0.1:{}/bugle", free_port());
    let began = Instant::now();
    let world = World::with_replica(database, &nowhere).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    world.device("phone", ANDROID, &["news"]).await;
    assert_lists_come_at_once(world.store(), &["phone"]).await;
}

#[tokio::test]
async fn a_replica_that_has_not_heard_of_the_database_is_done_without() {
    let primary = Server::new();
    let replica = primary.replica();
    replica.pause_replay();
    let database = primary.database();
    let url = database.url_through(replica.address());
    let store = open(&database.url(), &url).await.unwrap();
    assert_lists_come_at_once(&*store, &[]).await;
}

fn as_user(database: &Database, address: std::net::SocketAddr, password: &str) -> String {
    format!("postgres://plain:{password}@{address}/{}", database.name())
}

#[tokio::test]
async fn a_server_that_is_no_replica_or_one_of_something_else_is_refused() {
    let primary = Server::new();
    let replica = primary.replica();
    let (mine, other) = (primary.database(), primary.database());
    primary.wait_for_replica(&replica);
    let text = refusal(&mine.url(), &mine.url()).await;
    assert!(
        text.starts_with("store.replica_url") && text.contains("no replica"),
        "{text}"
    );
    assert!(
        text.contains(&mine.address().to_string()) && !text.contains("bugle-test"),
        "{text}"
    );
    // Of the same server, or of another one.
    for replica_url in [other.url_through(replica.address()), database().url()] {
        let text = refusal(&mine.url(), &replica_url).await;
        assert!(text.contains("another database"), "{text}");
    }
    let (elsewhere, replica_url) = (database(), mine.url_through(replica.address()));
    let text = refusal(&elsewhere.url(), &replica_url).await;
    assert!(text.contains("another database"), "{text}");
    // Whoever asks before it is started is told the same.
    let told = postgres::inspect_replica(&config(&elsewhere.url(), &replica_url)).await;
    assert!(matches!(&told, Err(Error::Setup(said)) if *said == text), "{told:?}");
    let seen = postgres::inspect_replica(&config(&mine.url(), &replica_url))
        .await
        .unwrap();
    assert!(seen.unwrap().lag.is_some());
}

#[tokio::test]
async fn a_user_without_privileges_is_enough_and_one_whom_the_replica_does_not_let_in_is_told() {
    let primary = Server::new();
    let replica = primary.replica();
    let database = primary.database();
    drop(database.query(&format!(
        "CREATE ROLE plain LOGIN PASSWORD 'right'; ALTER DATABASE {} OWNER TO plain; GRANT ALL ON SCHEMA public TO plain",
        database.name()
    )));
    primary.wait_for_replica(&replica);
    let url = as_user(&database, database.address(), "right");
    drop(
        open(&url, &as_user(&database, replica.address(), "right"))
            .await
            .unwrap(),
    );
    let text = refusal(&url, &as_user(&database, replica.address(), "geheim")).await;
    assert!(
        text.starts_with("store.replica_url") && text.contains("password"),
        "{text}"
    );
    assert!(!text.contains("geheim"), "{text}");

    drop(database.query("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"));
    let text = refusal(&url, &as_user(&database, replica.address(), "right")).await;
    assert!(text.contains("pg_control_system"), "{text}");
}
