use bugle_testkit::postgres::{self, Server, Shutdown};
use bugle_testkit::proxy::Proxy;

use crate::refuses;

#[test]
fn a_database_is_fresh_and_is_dropped_with_whoever_is_connected() {
    let keeper = postgres::database();
    let exists = |name: &str| keeper.query(&format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'"));
    let one = postgres::database();
    let other = postgres::database();
    let _ = one.query("CREATE TABLE things (id int)");
    assert_eq!(
        other.query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"),
        "0"
    );
    assert_eq!(one.query("SELECT current_database()"), one.name());
    assert_eq!(exists(one.name()), "1");

    let (name, url) = (one.name().to_owned(), one.url());
    let sleeper = std::thread::spawn(move || {
        std::process::Command::new("psql")
            .args(["-c", "SELECT pg_sleep(60)", "-d", &url])
            .output()
            .unwrap()
    });
    crate::soon("somebody is connected", || {
        keeper.query(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"
        )) == "1"
    });
    drop(one);
    assert_eq!(exists(&name), "0");
    assert!(!sleeper.join().unwrap().status.success());
}

#[test]
fn a_server_keeps_what_was_committed_through_every_kind_of_restart() {
    let mut server = Server::new();
    let (url, address) = (server.url(), server.address());
    let _ = server.query("CREATE TABLE kept (how text)");
    let write = |server: &Server, how: &str| server.query(&format!("INSERT INTO kept VALUES ('{how}')"));

    let _ = write(&server, "stop");
    server.stop();
    assert!(refuses(address));
    server.start();
    let _ = write(&server, "fast");
    server.restart(Shutdown::Fast);
    let _ = write(&server, "immediate");
    server.restart(Shutdown::Immediate);
    for round in 0..3 {
        let _ = write(&server, &format!("kill{round}"));
        server.kill9();
        assert!(refuses(address));
        server.start();
    }

    assert_eq!(server.url(), url);
    assert_eq!(
        server.query("SELECT string_agg(how, ' ') FROM kept"),
        "stop fast immediate kill0 kill1 kill2"
    );
    assert_eq!(server.query("SHOW fsync"), "on");
}

#[test]
fn kill9_ends_a_statement_that_runs() {
    let mut server = Server::new();
    let url = server.url();
    let _ = server.query("CREATE TABLE late (id int)");
    let client = std::thread::spawn(move || {
        // Half a minute of work that never looks up, then a commit.
        let sql = "INSERT INTO late SELECT count(*) FROM generate_series(1, 300000000)";
        std::process::Command::new("psql")
            .args(["-c", sql, "-d", &url])
            .output()
            .unwrap()
    });
    crate::soon("the statement runs", || {
        server.query("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO late%' AND state = 'active'")
            == "1"
    });
    server.kill9();
    assert!(!client.join().unwrap().status.success());
    server.start();
    assert_eq!(server.query("SELECT count(*) FROM late"), "0");
}

#[test]
fn settings_of_a_private_server_hold_and_can_be_changed() {
    let mut server = Server::with_settings(&[("log_statement", "all"), ("max_connections", "17")]);
    assert_eq!(server.query("SHOW max_connections"), "17");
    assert_eq!(server.query("SHOW log_statement"), "all");
    server.configure("max_connections", "18");
    server.restart(Shutdown::Fast);
    assert_eq!(server.query("SHOW max_connections"), "18");
}

#[test]
fn a_server_with_tls_takes_no_connection_without() {
    let server = Server::with_tls();
    assert_eq!(
        server.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"),
        "t"
    );
    let database = server.database();
    assert_eq!(
        database.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"),
        "t"
    );
    let plain = server.url().replace("sslmode=verify-full", "sslmode=disable");
    assert_ne!(plain, server.url());
    let output = std::process::Command::new("psql")
        .args(["-c", "SELECT 1", "-d", &plain])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("no encryption"));
}

#[test]
fn a_database_is_reached_through_a_proxy() {
    let database = postgres::database();
    let proxy = Proxy::start(database.address());
    let ask = || {
        let url = database.url_through(proxy.address());
        std::process::Command::new("psql")
            .args(["-c", "SELECT 1", "-d", &url])
            .output()
            .unwrap()
    };
    assert!(ask().status.success());
    proxy.cut();
    assert!(!ask().status.success());
    proxy.restore();
    assert!(ask().status.success());
}

#[test]
fn a_replica_has_what_its_server_has_unless_it_is_paused_or_away_and_takes_no_writes() {
    let server = Server::new();
    let database = server.database();
    let _ = database.query("CREATE TABLE things (id int); INSERT INTO things VALUES (1)");
    let mut replica = server.replica();
    let things = |replica: &Server| database.query_on(replica, "SELECT count(*) FROM things");
    assert_eq!(things(&replica), "1");
    assert_eq!(replica.query("SELECT pg_is_in_recovery()"), "t");

    replica.pause_replay();
    let _ = database.query("INSERT INTO things VALUES (2)");
    assert_eq!(things(&replica), "1");
    replica.resume_replay();
    server.wait_for_replica(&replica);
    assert_eq!(things(&replica), "2");

    replica.kill9();
    let _ = database.query("INSERT INTO things VALUES (3)");
    replica.start();
    server.wait_for_replica(&replica);
    assert_eq!(things(&replica), "3");
}

#[test]
fn a_replica_of_a_server_with_tls_has_it_too() {
    let server = Server::with_tls();
    let replica = server.replica();
    assert_eq!(
        replica.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"),
        "t"
    );
    server.wait_for_replica(&replica);
}
