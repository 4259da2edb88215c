//! `bugle check` and `bugle migrate`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::world::{KEY, World, bugle, sending_to, simulator};

/// `bugle check` on a server's settings.
fn check(dir: &Path, settings: &[(String, String)], args: &[&str]) -> Command {
    let mut command = bugle(dir);
    command.arg("check").args(args);
    for (key, value) in settings {
        command.env(format!("BUGLE__{}", key.replace('.', "__").to_uppercase()), value);
    }
    command
}

/// Its report, and whether it succeeded.
fn report(mut command: Command) -> (bool, Value) {
    let output = command.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(report["ok"], output.status.success());
    (output.status.success(), report)
}

fn item<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks
        .iter()
        .find(|check| check["item"] == name)
        .unwrap_or_else(|| panic!("{name}: {report:#}"))
}

fn set(settings: &mut [(String, String)], key: &str, value: impl Into<String>) {
    settings.iter_mut().find(|(name, _)| name == key).unwrap().1 = value.into();
}

async fn settings(dir: &Path) -> (bugle_sim::Sim, Vec<(String, String)>) {
    let sim = simulator(dir, true, json!({})).await;
    let mut settings: Vec<_> = sending_to(&sim, dir).into_iter().collect();
    settings.push(("http.listen".to_owned(), "127.0.0.1:0".to_owned()));
    settings.push(("data.dir".to_owned(), dir.join("data").display().to_string()));
    (sim, settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_running_server_everything_is_well_and_nobody_gets_a_push() {
    let world = World::start(json!({}), &[]).await;
    let mut settings: Vec<_> = world.server.settings.clone().into_iter().collect();
    let dir = world.server.dir.path();
    settings.push(("http.listen".to_owned(), world.server.addr.to_string()));
    settings.push(("data.dir".to_owned(), dir.join("data").display().to_string()));
    settings.push(("api.keys".to_owned(), KEY.to_owned()));
    let (ok, report) = report(check(dir, &settings, &["--json"]));
    assert!(ok, "{report:#}");
    for name in [
        "data directory",
        "database",
        "disk",
        "database file",
        "FCM endpoint",
        "clock",
        "FCM token exchange",
        "FCM validate-only push",
    ] {
        assert_eq!(item(&report, name)["state"], "ok", "{report:#}");
    }
    assert!(
        item(&report, "http.listen")["finding"]
            .as_str()
            .unwrap()
            .contains("a healthy bugle answers")
    );
    assert_eq!(world.sim.stats().class(bugle_sim::Outcome::Accepted), 0);
    let output = check(dir, &settings, &[]).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.contains("✓ FCM validate-only push  FCM would have taken it"),
        "{table}"
    );
    assert!(!table.contains('✗') && !table.contains(KEY), "{table}");
    world.api.register_all(["still-there".to_owned()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_is_told_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (_sim, good) = settings(dir).await;
    let (ok, whole) = report(check(dir, &good, &["--json"]));
    assert!(ok, "{whole:#}");
    assert!(!dir.join("data").exists(), "a check makes nothing");

    let failing = |settings: &[(String, String)], name: &str| {
        let (ok, whole) = report(check(dir, settings, &["--json"]));
        let found = item(&whole, name);
        assert!(!ok && found["state"] == "failed", "{name}: {whole:#}");
        assert!(!found["remedy"].as_str().unwrap().is_empty(), "{found}");
        whole
    };
    let with = |key: &str, value: &str| {
        let mut settings = good.clone();
        set(&mut settings, key, value);
        settings
    };
    failing(&with("fcm.credentials_file", "/nowhere/key.json"), "FCM credentials");
    failing(&with("tls.extra_ca_file", "/nowhere/ca.pem"), "TLS authorities");
    failing(&with("fcm.endpoint", "https://127.0.0.1:1"), "FCM endpoint");
    failing(&with("data.dir", "/proc/nowhere"), "data directory");
    let untrusted = failing(&with("tls.extra_ca_file", ""), "FCM endpoint");
    assert!(
        item(&untrusted, "FCM endpoint")["remedy"]
            .as_str()
            .unwrap()
            .contains("tls.extra_ca_file"),
        "{untrusted:#}"
    );
    assert_eq!(item(&untrusted, "FCM validate-only push")["state"], "skipped");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    drop(std::thread::spawn({
        let taken = taken.try_clone().unwrap();
        move || taken.incoming().for_each(drop)
    }));
    failing(
        &with("http.listen", &taken.local_addr().unwrap().to_string()),
        "http.listen",
    );

    let credentials = dir.join("sim/service-account.json");
    fs::set_permissions(&credentials, fs::Permissions::from_mode(0o644)).unwrap();
    let open = failing(&good, "FCM credentials file");
    assert!(
        item(&open, "FCM credentials file")["remedy"]
            .as_str()
            .unwrap()
            .starts_with("chmod o= "),
        "{open:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_account_and_a_refused_push_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (sim, good) = settings(dir).await;
    let path = dir.join("sim/service-account.json");
    let account: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (field, value, name) in [
        ("client_email", "nobody@nowhere.example", "FCM token exchange"),
        ("project_id", "another-project", "FCM validate-only push"),
    ] {
        let mut wrong = account.clone();
        wrong[field] = value.into();
        fs::write(&path, wrong.to_string()).unwrap();
        let (ok, whole) = report(check(dir, &good, &["--json"]));
        assert!(!ok && item(&whole, name)["state"] == "failed", "{field}: {whole:#}");
        let checks = whole["checks"].as_array().unwrap();
        assert_eq!(
            checks.iter().filter(|check| check["state"] == "failed").count(),
            1,
            "{field}: {whole:#}"
        );
    }
    drop(sim);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (_sim, good) = settings(dir).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let answer =
                    b"HTTP/1.1 404 Not Found\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n";
                let _ = stream.write_all(answer).await;
            });
        }
    });
    let mut settings = good.clone();
    set(&mut settings, "fcm.endpoint", format!("http://{addr}"));
    let (ok, whole) = report(check(dir, &settings, &["--json"]));
    assert!(!ok && item(&whole, "clock")["state"] == "failed", "{whole:#}");
    assert!(
        item(&whole, "clock")["remedy"].as_str().unwrap().contains("NTP"),
        "{whole:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_a_finding_too() {
    let dir = tempfile::tempdir().unwrap();
    let (ok, whole) = report(check(
        dir.path(),
        &[("http.listn".to_owned(), "x".to_owned())],
        &["--json"],
    ));
    assert!(
        !ok && item(&whole, "configuration")["finding"]
            .as_str()
            .unwrap()
            .contains("listn"),
        "{whole:#}"
    );
    let (ok, whole) = report(check(dir.path(), &[], &["--json", "--config", "gone.toml"]));
    assert!(
        !ok && item(&whole, "configuration")["finding"]
            .as_str()
            .unwrap()
            .contains("gone.toml"),
        "{whole:#}"
    );
    let (ok, whole) = report(check(dir.path(), &[], &["--json"]));
    assert!(
        ok && item(&whole, "FCM credentials")["state"] == "skipped",
        "without a provider it is well: {whole:#}"
    );
}

fn run(dir: &Path, command: &str, migrate: &str) -> (bool, String) {
    let output = bugle(dir)
        .arg(command)
        .env("BUGLE__STORE__MIGRATE", migrate)
        .env("BUGLE__HTTP__LISTEN", "127.0.0.1:not-a-port")
        .env_remove(if command == "serve" { "" } else { "BUGLE__HTTP__LISTEN" })
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn a_server_that_may_not_migrate_names_the_command_that_does() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let serve = || {
        let output = bugle(dir)
            .arg("serve")
            .env("BUGLE__STORE__MIGRATE", "false")
            .env("BUGLE__HTTP__LISTEN", "192.0.2.1:1")
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let told = serve();
    assert!(
        told.contains("no database") && told.contains("`bugle migrate`"),
        "{told}"
    );
    assert!(!dir.join("bugle-data/bugle.db").exists());

    fs::create_dir_all(dir.join("bugle-data")).unwrap();
    let old = rusqlite::Connection::open(dir.join("bugle-data/bugle.db")).unwrap();
    old.execute_batch(include_str!("../../../store/migrations/sqlite/0001_registry.sql"))
        .unwrap();
    old.execute_batch("PRAGMA application_id = 1651861356; PRAGMA user_version = 1;")
        .unwrap();
    drop(old);
    let told = serve();
    assert!(told.contains("form 1") && told.contains("`bugle migrate`"), "{told}");
    let (ok, told) = run(dir, "check", "false");
    assert!(!ok && told.contains("`bugle migrate`"), "{told}");
    let files = fs::read_dir(dir.join("bugle-data"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut files: Vec<_> = files.map(|name| name.into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, ["bugle.db", "bugle.db.lock", "lock"], "a check leaves nothing");

    let (ok, told) = run(dir, "migrate", "false");
    assert!(ok && told.contains("from form 1 to "), "{told}");
    let (ok, told) = run(dir, "migrate", "false");
    assert!(ok && told.contains("nothing to do"), "{told}");
    assert!(serve().contains("http.listen"), "it gets as far as listening");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_beside_a_running_server_is_refused() {
    let world = World::start(json!({}), &[]).await;
    let output = bugle(world.server.dir.path())
        .arg("migrate")
        .env("BUGLE__DATA__DIR", "data")
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && told.contains("another bugle is running"),
        "{told}"
    );
}
