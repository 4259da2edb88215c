//! Opening, refusing, closing.

mod postgres;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bugle_store::{Config, DatabaseUrl, Error};

use crate::backend::Backend;
use crate::fixture::{Fresh, open, open_with};

fn refusal(result: bugle_store::Result<std::sync::Arc<bugle_store::sqlite::Store>>) -> String {
    match result {
        Err(Error::Setup(text)) => text,
        Err(other) => panic!("not a refusal in words: {other:?}"),
        Ok(_) => panic!("it was opened"),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_second_store_on_the_same_directory_is_refused_until_the_first_is_closed() {
    let first = Fresh::new(Backend::Sqlite).await;
    let text = refusal(open(first.place.dir()));
    let lock = first.place.dir().join("lock");
    assert!(text.contains("another bugle is running"), "{text}");
    assert!(text.contains(lock.to_str().unwrap()), "{text}");
    drop(first.store);
    open(first.place.dir()).unwrap();
}

#[tokio::test]
async fn two_directories_do_not_meet_in_one_file() {
    let first = Fresh::new(Backend::Sqlite).await;
    let other = tempfile::tempdir().unwrap();
    let database = first.place.dir().join("bugle.db");
    let link = other.path().join("link.db");
    std::os::unix::fs::symlink(&database, &link).unwrap();
    for path in [&database, &link] {
        let config = Config {
            url: DatabaseUrl::new(format!("sqlite:{}", path.display())),
            ..Config::default()
        };
        let text = refusal(open_with(&config, other.path()));
        assert!(text.contains("bugle.db.lock"), "{text}");
    }
}

#[tokio::test]
async fn the_database_may_be_elsewhere() {
    let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = elsewhere.path().join("deeper/registry.db");
    let config = Config {
        url: DatabaseUrl::new(format!("sqlite:{}", path.display())),
        ..Config::default()
    };
    let _store = open_with(&config, data.path()).unwrap();
    assert!(path.exists() && !data.path().join("bugle.db").exists());
}

#[tokio::test]
async fn what_bugle_creates_is_private() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("a/b");
    let _store = open(&dir).unwrap();
    assert_eq!(mode(&dir), 0o700);
    for file in ["bugle.db", "bugle.db-wal", "bugle.db-shm", "lock", "bugle.db.lock"] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let outer = tempfile::tempdir().unwrap();
    fs::write(outer.path().join("file"), "").unwrap();
    let dir = outer.path().join("file/data");
    let text = refusal(open(&dir));
    assert!(
        text.contains(dir.to_str().unwrap()) && text.contains("[data] dir"),
        "{text}"
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bugle.db");
    let letter = "Dear Sir or Madam, this is a letter. ".repeat(100);
    fs::write(&path, &letter).unwrap();
    let text = refusal(open(dir.path()));
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    assert_eq!(fs::read_to_string(&path).unwrap(), letter);
}

#[tokio::test]
async fn an_unknown_kind_of_store_is_refused_without_its_password() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        url: DatabaseUrl::new("mysql://bugle:geheim@db"),
        ..Config::default()
    };
    let text = refusal(open_with(&config, dir.path()));
    assert!(text.starts_with("[store] url") && !text.contains("geheim"), "{text}");
}

#[tokio::test]
async fn closing_leaves_one_file_without_a_log() {
    let fresh = Fresh::new(Backend::Sqlite).await;
    let place = fresh.place;
    drop(fresh.store);
    assert!(!place.dir().join("bugle.db-wal").exists());
    open(place.dir()).unwrap();
}
