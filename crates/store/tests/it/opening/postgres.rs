//! Opening a PostgreSQL store: by many at once, and refusals in words, without the password.

use std::sync::Arc;
use std::time::Duration;

use bugle_store::{Config, DatabaseUrl, Error, Result, Store, postgres};
use bugle_testkit::postgres::{Database, Server, database};
use bugle_testkit::{TestClock, free_port};
use tokio::task::JoinSet;

use crate::fixture::Deaf;

fn config(url: &str) -> Config {
    Config {
        url: DatabaseUrl::new(url),
        connections: 4,
        ..Config::default()
    }
}

async fn open(config: &Config) -> Result<Arc<dyn Store>> {
    let data = tempfile::tempdir().unwrap();
    bugle_store::open(config, data.path(), Arc::new(TestClock::new()), Arc::new(Deaf)).await
}

async fn refusal(config: &Config) -> String {
    match open(config).await {
        Err(Error::Setup(text)) => text,
        Err(other) => panic!("not a refusal in words: {other:?}"),
        Ok(_) => panic!("it was opened"),
    }
}

/// The database's URL with another name and password.
fn url_of(database: &Database, user: &str) -> String {
    format!("postgres://{user}:geheim@{}/{}", database.address(), database.name())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_open_an_empty_database_at_once() {
    let database = database();
    let mut opening = JoinSet::new();
    for _ in 0..8 {
        let config = config(&database.url());
        opening.spawn(async move { open(&config).await });
    }
    for opened in opening.join_all().await {
        opened.unwrap().ping().await.unwrap();
    }
    let forms = database.query("SELECT string_agg(version::text, ' ' ORDER BY version) FROM bugle_migrations");
    let (before, known) = postgres::form(&config(&database.url())).await.unwrap();
    let all: Vec<_> = (1..=known).map(|form| form.to_string()).collect();
    assert_eq!((forms, before), (all.join(" "), known), "each migration ran once");
}

#[tokio::test]
async fn who_waits_for_a_migration_waits_as_long_as_it_takes() {
    let database = database();
    let (locked, unlock) = (
        Arc::new(tokio::sync::Notify::new()),
        Arc::new(tokio::sync::Notify::new()),
    );
    let holder = {
        let (url, locked, unlock) = (database.url(), Arc::clone(&locked), Arc::clone(&unlock));
        tokio::spawn(async move {
            use sqlx::Connection as _;
            let mut conn = sqlx::PgConnection::connect(&url).await.unwrap();
            sqlx::raw_sql("SELECT pg_advisory_lock(x'6275676c65'::bigint)")
                .execute(&mut conn)
                .await
                .unwrap();
            locked.notify_one();
            unlock.notified().await;
        })
    };
    locked.notified().await;
    let waiter = {
        let config = config(&database.url());
        tokio::spawn(async move { open(&config).await.map(drop) })
    };
    // Longer than any other lock is waited for.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert!(!waiter.is_finished(), "it gave up: {:?}", waiter.await);
    unlock.notify_one();
    holder.await.unwrap();
    waiter.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_wrong_password_is_refused_without_telling_it() {
    let database = database();
    let text = refusal(&config(&url_of(&database, "postgres"))).await;
    assert!(
        text.starts_with("store.url") && text.contains("password authentication failed"),
        "{text}"
    );
    assert!(
        text.contains(&database.address().to_string()) && !text.contains("geheim"),
        "{text}"
    );
}

#[tokio::test]
async fn a_url_that_is_none_is_refused_without_its_password() {
    for url in [
        "postgres://bugle:geheim@host:port/bugle",
        "postgres://bugle:geheim@[::1/x",
    ] {
        let text = refusal(&config(url)).await;
        assert!(text.starts_with("store.url") && !text.contains("geheim"), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let port = free_port();
    let text = refusal(&config(&format!("postgres://bugle:geheim@127.0.0.1:{port}/bugle"))).await;
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    assert!(text.contains("refused") && !text.contains("geheim"), "{text}");
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_named() {
    let text = refusal(&config("postgres://bugle:geheim@localhost:5433/bugle?host=/nowhere")).await;
    assert!(text.contains("/nowhere/.s.PGSQL.5433"), "{text}");
    assert!(text.contains("No such file") && !text.contains("geheim"), "{text}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named() {
    let database = database();
    let url = database.url().replace(database.name(), "no_such_database");
    let text = refusal(&config(&url)).await;
    assert!(text.contains("no_such_database"), "{text}");
}

#[tokio::test]
async fn tables_of_another_program_are_left_alone() {
    let database = database();
    drop(database.query("CREATE TABLE devices (x integer); INSERT INTO devices VALUES (7)"));
    let text = refusal(&config(&database.url())).await;
    assert!(text.contains("a table devices that is not bugle's"), "{text}");
    assert_eq!(database.query("SELECT x FROM devices"), "7");
    assert_eq!(database.query("SELECT to_regclass('apps') IS NULL"), "t");
}

#[tokio::test]
async fn a_newer_form_is_refused() {
    let database = database();
    open(&config(&database.url())).await.map(drop).unwrap();
    drop(database.query("INSERT INTO bugle_migrations (version) VALUES (99)"));
    let text = refusal(&config(&database.url())).await;
    assert!(text.contains("newer bugle") && text.contains("99"), "{text}");
}

#[tokio::test]
async fn nothing_is_migrated_where_that_is_not_wanted() {
    let database = database();
    let config = Config {
        migrate: false,
        ..config(&database.url())
    };
    let text = refusal(&config).await;
    assert!(text.contains("bugle migrate"), "{text}");
    assert_eq!(database.query("SELECT to_regclass('devices') IS NULL"), "t");
    let (before, after) = postgres::migrate(&config).await.unwrap();
    assert_eq!((before, after), (0, postgres::form(&config).await.unwrap().1));
    open(&config).await.map(drop).unwrap();
}

#[tokio::test]
async fn a_user_who_may_not_create_tables_is_told_so() {
    let database = database();
    let user = format!("user_of_{}", database.name());
    drop(database.query(&format!("CREATE ROLE {user} LOGIN PASSWORD 'geheim'")));
    let text = refusal(&config(&url_of(&database, &user))).await;
    drop(database.query(&format!("DROP ROLE {user}")));
    assert!(
        text.starts_with("store.url") && text.contains("permission denied"),
        "{text}"
    );
}

#[tokio::test]
async fn a_server_that_demands_tls_is_reached_with_it_and_checked() {
    let server = Server::with_tls();
    let database = server.database();
    open(&config(&database.url())).await.unwrap().ping().await.unwrap();
    let (plain, _) = database
        .url()
        .split_once('?')
        .map(|(url, query)| (url.to_owned(), query.to_owned()))
        .unwrap();
    let text = refusal(&config(&format!("{plain}?sslmode=disable"))).await;
    assert!(text.starts_with("store.url"), "{text}");
    // Its certificate is of an authority that no browser knows.
    let text = refusal(&config(&format!("{plain}?sslmode=verify-full"))).await;
    assert!(text.starts_with("store.url"), "{text}");
}
