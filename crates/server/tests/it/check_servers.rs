//! `bugle check` and `bugle migrate` where processes share servers.

use std::path::Path;
use std::process::{Output, Stdio};

use bugle_testkit::postgres::{self, Database};
use bugle_testkit::redis;
use serde_json::Value;

use crate::world::bugle;

/// A command with these settings, which are `section.key` and value.
fn run(dir: &Path, args: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = bugle(dir);
    command
        .args(args)
        .env("BUGLE__HTTP__LISTEN", "127.0.0.1:0")
        .env("BUGLE__API__KEYS", "k");
    for (key, value) in settings {
        command.env(format!("BUGLE__{}", key.replace('.', "__").to_uppercase()), value);
    }
    command.output().unwrap()
}

/// The report of `bugle check --json`; its outputs hold no password.
fn report(settings: &[(&str, &str)]) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &["check", "--json"], settings);
    for text in [&output.stdout, &output.stderr] {
        let text = String::from_utf8_lossy(text);
        assert!(!text.contains("bugle-test") && !text.contains("SECRET"), "{text}");
    }
    assert!(!dir.path().join("bugle-data").exists(), "a check makes nothing");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(report["ok"], output.status.success());
    report
}

fn item<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["item"] == name);
    found.unwrap_or_else(|| panic!("{name}: {report:#}"))
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]]
        .map(String::from_utf8_lossy)
        .concat()
}

#[test]
fn postgresql_is_looked_at_before_and_after_its_migration() {
    let (database, dir) = (postgres::database(), tempfile::tempdir().unwrap());
    let url = database.url();
    let settings = [("store.url", url.as_str())];
    let whole = report(&settings);
    assert_eq!(whole["ok"], true, "{whole:#}");
    let server = item(&whole, "PostgreSQL")["finding"].as_str().unwrap();
    assert!(
        server.contains(database.name()) && server.contains("not encrypted"),
        "{server}"
    );
    assert!(
        item(&whole, "database")["finding"].as_str().unwrap().contains("empty"),
        "{whole:#}"
    );
    assert_eq!(item(&whole, "PostgreSQL connections")["state"], "ok");

    let whole = report(&[settings[0], ("store.migrate", "false")]);
    assert_eq!(
        item(&whole, "database")["state"],
        "failed",
        "a start would refuse it: {whole:#}"
    );
    let refused = run(dir.path(), &["serve"], &[settings[0], ("store.migrate", "false")]);
    assert!(
        !refused.status.success() && text(&refused).contains("`bugle migrate`"),
        "{refused:?}"
    );
    let whole = report(&settings);
    assert!(
        item(&whole, "database")["finding"].as_str().unwrap().contains("empty"),
        "a refusal makes nothing"
    );

    let migrated = run(dir.path(), &["migrate"], &settings);
    assert!(
        migrated.status.success() && text(&migrated).contains("made the database"),
        "{migrated:?}"
    );
    assert!(!text(&migrated).contains("bugle-test"), "no password: {migrated:?}");
    let again = run(dir.path(), &["migrate"], &settings);
    assert!(
        again.status.success() && text(&again).contains("nothing to do"),
        "{again:?}"
    );
    let whole = report(&[settings[0], ("store.migrate", "false")]);
    assert!(
        whole["ok"] == true
            && item(&whole, "database")["finding"]
                .as_str()
                .unwrap()
                .contains("as this version writes it"),
        "{whole:#}"
    );
}

#[test]
fn what_is_wrong_with_postgresql_is_told_with_a_remedy_and_without_its_password() {
    let database = postgres::database();
    let good = database.url();
    let failing = |settings: &[(&str, &str)], name: &str| {
        let whole = report(settings);
        let found = item(&whole, name);
        assert!(whole["ok"] == false && found["state"] == "failed", "{name}: {whole:#}");
        assert!(!found["remedy"].as_str().unwrap().is_empty(), "{found}");
        found["finding"].as_str().unwrap().to_owned()
    };
    let wrong_password = good.replace("bugle-test@", "SECRET@");
    assert_ne!(wrong_password, good);
    failing(&[("store.url", &wrong_password)], "PostgreSQL");
    let said = failing(&[("store.url", "postgres://u:SECRET@127.0.0.1:1/bugle")], "PostgreSQL");
    assert!(said.contains("127.0.0.1:1"), "{said}");
    failing(
        &[("store.url", &good.replace(database.name(), "no_such_database"))],
        "PostgreSQL",
    );
    failing(
        &[("store.url", &good), ("store.connections", "1000")],
        "PostgreSQL connections",
    );
    let said = failing(
        &[("store.url", &good), ("store.replica_url", &good)],
        "PostgreSQL replica",
    );
    assert!(said.contains("no replica"), "{said}");
    failing(
        &[
            ("store.url", &good),
            ("store.replica_url", "postgres://u:SECRET@127.0.0.1:1/bugle"),
        ],
        "PostgreSQL replica",
    );
    drop(database.query("CREATE TABLE devices (x integer)"));
    failing(&[("store.url", &good)], "database");
}

#[test]
fn a_database_without_keys_for_its_processes_is_told() {
    let database = postgres::database();
    let whole = report(&[("store.url", &database.url()), ("api.keys", "")]);
    assert_eq!(item(&whole, "API keys")["state"], "failed", "{whole:#}");
    let sender = report(&[("store.url", &database.url()), ("api.keys", ""), ("roles", "sender")]);
    assert_eq!(sender["ok"], true, "who serves no API needs none: {sender:#}");
}

/// A PostgreSQL, which every Redis needs beside it, and this Redis.
fn beside<'a>(database: &'a str, redis: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("store.url", database), ("queue.url", redis)]
}

#[test]
fn redis_is_looked_at_and_an_evicting_one_is_warned_of() {
    let fresh = postgres::database();
    let database = fresh.url();
    let whole = report(&beside(&database, &redis::url()));
    let found = item(&whole, "Redis");
    assert!(whole["ok"] == true && found["state"] == "ok", "{whole:#}");
    assert!(found["finding"].as_str().unwrap().contains("not encrypted"), "{found}");
    assert_eq!(found["remedy"], Value::Null, "{found}");

    let evicting = redis::Server::with_args(&["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"]);
    let whole = report(&beside(&database, &evicting.url()));
    let found = item(&whole, "Redis");
    assert_eq!(found["state"], "ok", "it is no failure: {whole:#}");
    assert!(found["finding"].as_str().unwrap().contains("allkeys-lru"), "{found}");
    assert!(found["remedy"].as_str().unwrap().contains("noeviction"), "{found}");

    let replica = redis::Server::replica_of(&evicting);
    let whole = report(&beside(&database, &replica.url()));
    assert!(
        item(&whole, "Redis")["finding"].as_str().unwrap().contains("a replica"),
        "{whole:#}"
    );
    assert_eq!(whole["ok"], false);

    let dir = tempfile::tempdir().unwrap();
    let refused = run(dir.path(), &["serve"], &beside(&database, &replica.url()));
    let said = text(&refused);
    assert!(!refused.status.success() && said.contains("queue.url: "), "{said}");
    let nobody = run(
        dir.path(),
        &["serve"],
        &beside(&database, "redis://:SECRET@127.0.0.1:1"),
    );
    let said = text(&nobody);
    assert!(
        said.contains("queue.url: cannot use Redis at 127.0.0.1:1: ")
            && said.matches("refused").count() == 1
            && !said.contains("SECRET"),
        "{said}"
    );
}

#[test]
fn what_is_wrong_with_redis_is_told_with_a_remedy_and_without_its_password() {
    let fresh = postgres::database();
    let database = fresh.url();
    let guarded = redis::Server::with_args(&["--requirepass", "bugle-test"]);
    let wrong = guarded.url().replace("redis://", "redis://:SECRET@");
    for url in ["redis://:SECRET@127.0.0.1:1", wrong.as_str()] {
        let whole = report(&beside(&database, url));
        let found = item(&whole, "Redis");
        assert!(whole["ok"] == false && found["state"] == "failed", "{whole:#}");
        assert!(found["remedy"].as_str().unwrap().contains("queue.url"), "{found}");
    }
    let right = guarded.url().replace("redis://", "redis://:bugle-test@");
    let whole = report(&beside(&database, &right));
    assert_eq!(whole["ok"], true, "{whole:#}");
}

#[test]
fn encryption_is_told_of_both() {
    let (database, cache) = (postgres::Server::with_tls(), redis::Server::with_tls());
    let (url, cache_url) = (database.url(), cache.tls_url());
    let authority = cache.authority().to_str().unwrap().to_owned();
    let mut settings = beside(&url, &cache_url);
    settings.push(("queue.ca_file", &authority));
    let whole = report(&settings);
    assert_eq!(whole["ok"], true, "{whole:#}");
    for name in ["PostgreSQL", "Redis"] {
        let words = item(&whole, name)["finding"].as_str().unwrap();
        assert!(words.ends_with(", encrypted"), "{words}");
    }
    settings.pop();
    let whole = report(&settings);
    assert_eq!(
        item(&whole, "Redis")["state"],
        "failed",
        "nobody vouches for its certificate: {whole:#}"
    );
}

fn tables(database: &Database) -> String {
    database.query("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'")
}

#[test]
fn many_processes_may_migrate_at_once() {
    let (database, dir) = (postgres::database(), tempfile::tempdir().unwrap());
    let started: Vec<_> = (0..6)
        .map(|_| {
            let mut command = bugle(dir.path());
            command.arg("migrate").env("BUGLE__STORE__URL", database.url());
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let said: Vec<String> = started
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
            text(&output)
        })
        .collect();
    let made = said.iter().filter(|said| said.contains("made the database")).count();
    assert_eq!(made, 1, "one migrates, the others find it done: {said:?}");
    assert!(tables(&database).trim().parse::<u32>().unwrap() >= 5);
}
