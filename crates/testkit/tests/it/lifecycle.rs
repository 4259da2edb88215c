//! Nothing is left behind, however a test ends.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::time::Duration;

use bugle_testkit::{postgres, redis};

use crate::{refuses, soon};

/// What the killed test process does.
#[test]
#[ignore = "only runs inside the test below, which kills it"]
fn starts_servers_and_waits() {
    let (postgres, redis) = (postgres::Server::new(), redis::Server::new());
    println!("\nservers {} {}", postgres.address(), redis.address());
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn servers_and_their_directories_do_not_outlive_a_killed_test_process() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "lifecycle::starts_servers_and_waits",
            "--ignored",
            "--nocapture",
        ])
        .env("TMPDIR", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let addresses: Vec<_> = loop {
        let line = lines.next().unwrap().unwrap();
        if let Some(addresses) = line.strip_prefix("servers ") {
            break addresses.split(' ').map(|text| text.parse().unwrap()).collect();
        }
    };
    let left = || std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(addresses.len(), 2);
    assert!(!addresses.iter().any(|&address| refuses(address)));
    assert_eq!(left(), 2);

    process.kill().unwrap();
    process.wait().unwrap();

    soon("the servers end", || addresses.iter().all(|&address| refuses(address)));
    soon("the directories go", || left() == 0);
}

#[test]
fn servers_end_with_a_test_that_panics() {
    let mut addresses = Vec::new();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let (postgres, redis) = (postgres::Server::new(), redis::Server::new());
        addresses.extend([postgres.address(), redis.address()]);
        panic!("as a failing test does");
    }));
    assert!(panicked.is_err());
    assert_eq!(addresses.len(), 2);
    assert!(addresses.iter().all(|&address| refuses(address)));
}

#[test]
fn without_a_backend_a_test_fails_and_says_what_to_run() {
    let wanted = [
        ("TEST_POSTGRES_URL", "postgres::a_database_is_reached_through_a_proxy"),
        (
            "TEST_REDIS_URL",
            "redis::the_shared_server_is_there_and_prefixes_differ",
        ),
    ];
    for (variable, test) in wanted {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env_remove(variable)
            .output()
            .unwrap();
        assert!(!output.status.success());
        let words = format!("{variable} is not set: run the tests with scripts/with-backends (scripts/test does)");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(&words), "{said}");
    }
}
