use std::collections::BTreeSet;
use std::process::Command;

use bugle_testkit::redis::{self, Cluster, MASTER_NAME, Server};

use crate::{refuses, soon};

#[test]
fn the_shared_server_is_there_and_prefixes_differ() {
    let output = Command::new("redis-cli")
        .args(["-u", &redis::url(), "PING"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "PONG");
    let prefixes: BTreeSet<String> = (0..100).map(|_| redis::prefix()).collect();
    assert_eq!(prefixes.len(), 100);
}

#[test]
fn a_server_comes_back_empty_in_its_place() {
    let mut server = Server::new();
    let (url, address) = (server.url(), server.address());
    for end in [Server::stop as fn(&mut Server), Server::kill9] {
        assert_eq!(server.command(&["SET", "key", "a value"]), "OK");
        assert_eq!(server.command(&["GET", "key"]), "a value");
        end(&mut server);
        assert!(refuses(address));
        server.start();
        assert_eq!(server.url(), url);
        assert_eq!(server.command(&["DBSIZE"]), "0");
    }
}

#[test]
fn flushall_empties_a_server_that_stays() {
    let server = Server::new();
    assert_eq!(
        server.command(&["XADD", "stream", "*", "page", "1"]).split('-').count(),
        2
    );
    assert_eq!(server.command(&["DBSIZE"]), "1");
    server.flushall();
    assert_eq!(server.command(&["DBSIZE"]), "0");
}

#[test]
fn arguments_win_over_our_own() {
    let mut server = Server::with_args(&["--appendonly", "yes", "--maxmemory", "8mb"]);
    assert_eq!(server.command(&["CONFIG", "GET", "maxmemory"]), "maxmemory\n8388608");
    assert_eq!(server.command(&["SET", "key", "kept"]), "OK");
    server.restart();
    assert_eq!(server.command(&["GET", "key"]), "kept");
}

#[test]
fn a_server_with_a_password_is_ready_and_keeps_strangers_out() {
    let server = Server::with_args(&["--requirepass", "sesame"]);
    let ask = |args: &[&str]| {
        let port = server.address().port().to_string();
        let output = Command::new("redis-cli")
            .args(["-p", &port])
            .args(args)
            .arg("PING")
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(ask(&["--no-auth-warning", "-a", "sesame"]), "PONG");
    assert!(ask(&[]).starts_with("NOAUTH"));
}

#[test]
fn a_server_with_tls_shows_a_certificate_of_its_authority() {
    let server = Server::with_tls();
    let port = server.tls_url().rsplit(':').next().unwrap().to_owned();
    let other = Server::with_tls();
    let ask = |authority: &std::path::Path| {
        let mut command = Command::new("redis-cli");
        command
            .args(["-h", "127.0.0.1", "-p", &port, "--tls", "--cacert"])
            .arg(authority)
            .arg("PING");
        String::from_utf8_lossy(&command.output().unwrap().stdout)
            .trim()
            .to_owned()
    };
    assert_eq!(ask(server.authority()), "PONG");
    assert_ne!(ask(other.authority()), "PONG");
}

#[test]
fn a_cluster_spreads_keys_and_sends_clients_on() {
    let cluster = Cluster::new(3);
    let first = cluster.nodes()[0].address().port().to_string();
    for key in 0..100 {
        let key = format!("key{key}");
        let output = Command::new("redis-cli")
            .args(["-c", "-p", &first, "SET", &key, "1"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "OK");
    }
    let sizes: Vec<u32> = cluster
        .nodes()
        .iter()
        .map(|node| node.command(&["DBSIZE"]).parse().unwrap())
        .collect();
    assert_eq!(sizes.iter().sum::<u32>(), 100);
    assert!(sizes.iter().all(|&size| size > 0), "{sizes:?}");
}

#[test]
fn sentinels_make_the_replica_master_when_the_master_is_killed() {
    let mut master = Server::new();
    assert_eq!(master.command(&["SET", "key", "copied"]), "OK");
    let replica = Server::replica_of(&master);
    assert_eq!(replica.command(&["GET", "key"]), "copied");
    let sentinels = [Server::sentinel(&master, 1)];
    let told = || sentinels[0].command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME]);
    assert_eq!(told(), format!("127.0.0.1\n{}", master.address().port()));
    soon("the sentinel knows the replica", || {
        sentinels[0]
            .command(&["SENTINEL", "REPLICAS", MASTER_NAME])
            .contains("master-link-status\nok")
    });
    master.kill9();
    soon("the replica is master", || {
        told() == format!("127.0.0.1\n{}", replica.address().port())
            && replica.command(&["INFO", "replication"]).contains("role:master")
    });
    assert_eq!(replica.command(&["SET", "key", "new"]), "OK");
}
