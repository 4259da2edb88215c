//! The kinds of Redis that a URL can name.

use std::sync::Arc;
use std::time::Duration;

use bugle_model::{Clock, Lane, SystemClock};
use bugle_queue::{Config, Error, Queue, QueueUrl};
use bugle_testkit::redis::{Cluster, MASTER_NAME, Server};

use crate::backend::{ALL, Backend, IDLE, PATIENCE, app, ids, take};

async fn open(config: &Config) -> Result<Arc<dyn Queue>, Error> {
    // As the binary does; the second test to come here finds it done.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    bugle_queue::redis::open(config, &[app("a"), app("b")], clock, true, IDLE).await
}

fn at(url: impl Into<String>) -> Config {
    Config {
        url: QueueUrl::new(url),
        ..Config::default()
    }
}

/// Both lanes, several streams, two processes.
async fn works(config: &Config) {
    let (one, two) = (open(config).await.unwrap(), open(config).await.unwrap());
    let backend = Backend::on("");
    one.offer(backend.bulk("a", 1, 1..=20));
    one.offer(backend.bulk("b", 2, 1..=20));
    one.offer((3..=22).map(|push| backend.page("a", push, 1, Lane::Urgent)).collect());
    let mut own_row = backend.page("a", 30, 0, Lane::Urgent);
    own_row.id.leg = None;
    one.offer(vec![own_row]);
    let taken = take(&two, 61, ALL).await;
    assert_eq!(taken.len(), 61);
    two.done(&ids(&taken));
    one.close().await;
    two.close().await;
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut said = format!("{error} {error:?}");
    let mut next = error.source();
    while let Some(error) = next {
        said = format!("{said}: {error}");
        next = error.source();
    }
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_user_and_a_database_works() {
    let server = Server::new();
    let _ = server.command(&["ACL", "SETUSER", "bugle", "on", ">s@same", "~*", "+@all"]);
    let host = server.address();
    works(&at(format!("redis://bugle:s%40same@{host}/3"))).await;
    assert!(server.command(&["INFO", "keyspace"]).contains("db3:keys="));
    let wrong = open(&at(format!("redis://bugle:wr0ng@{host}"))).await.err().unwrap();
    let said = chain(&wrong);
    assert!(
        said.contains("queue.url") && said.contains("authentication failed") && !said.contains("wr0ng"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_for_a_password_and_gets_none_is_an_error_at_the_start() {
    let server = Server::with_args(&["--requirepass", "sesame"]);
    let said = chain(&open(&at(server.url())).await.err().unwrap());
    assert!(said.contains("NOAUTH") || said.contains("uthentication"), "{said}");
    works(&at(format!("redis://:sesame@{}", server.address()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_an_error_at_the_start() {
    let port = bugle_testkit::free_port();
    for url in [
        format!("redis://u:sesame@127.0.0.1:{port}"),
        format!("redis+sentinel://u:sesame@127.0.0.1:{port}/m"),
        format!("redis+cluster://u:sesame@127.0.0.1:{port}"),
    ] {
        let said = chain(&open(&at(url)).await.err().unwrap());
        assert!(said.contains("queue.url") && !said.contains("sesame"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_works_with_the_right_authority_only() {
    let server = Server::with_tls();
    let stranger = Server::with_tls();
    let with = |authority: &std::path::Path| Config {
        ca_file: authority.to_str().unwrap().to_owned(),
        ..at(server.tls_url())
    };
    works(&with(server.authority())).await;
    assert!(open(&with(stranger.authority())).await.is_err());
    assert!(
        open(&at(server.tls_url())).await.is_err(),
        "the system does not know it"
    );
    let nowhere = with(std::path::Path::new("/nowhere/ca.pem"));
    let said = chain(&open(&nowhere).await.err().unwrap());
    assert!(
        said.contains("queue.ca_file") && said.contains("/nowhere/ca.pem"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_works_from_any_of_its_nodes() {
    let cluster = Cluster::new(3);
    let hosts: Vec<String> = cluster.nodes().iter().map(|node| node.address().to_string()).collect();
    works(&at(format!("redis+cluster://{},{}", hosts[0], hosts[1]))).await;
    works(&at(format!("redis+cluster://{}", hosts[2]))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_cluster_node_is_filled_again() {
    let cluster = Cluster::new(3);
    let queue = open(&at(format!("redis+cluster://{}", cluster.nodes()[0].address())))
        .await
        .unwrap();
    let backend = Backend::on("");
    queue.offer(vec![backend.page("a", 1, 1, Lane::Urgent)]);
    let first = take(&queue, 1, ALL).await;
    queue.done(&ids(&first));
    for node in cluster.nodes() {
        node.flushall();
    }
    let again = async {
        for push in 2.. {
            queue.offer(vec![backend.page("a", push, 1, Lane::Urgent)]);
            if tokio::time::timeout(Duration::from_millis(200), queue.take(ALL))
                .await
                .is_ok()
            {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("it works again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_is_found_through_its_sentinels_and_found_again_after_a_failover() {
    let mut master = Server::new();
    let replica = Server::replica_of(&master);
    let sentinels = [Server::sentinel(&master, 1), Server::sentinel(&master, 1)];
    let until = std::time::Instant::now() + PATIENCE;
    while !sentinels[0]
        .command(&["SENTINEL", "REPLICAS", MASTER_NAME])
        .contains("master-link-status\nok")
    {
        assert!(
            std::time::Instant::now() < until,
            "the sentinel does not see the replica"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let hosts: Vec<String> = sentinels
        .iter()
        .map(|sentinel| sentinel.address().to_string())
        .collect();
    let config = at(format!("redis+sentinel://{}/{MASTER_NAME}", hosts.join(",")));
    works(&config).await;
    let queue = open(&config).await.unwrap();
    let backend = Backend::on("");
    queue.offer(vec![backend.page("a", 1_000, 1, Lane::Urgent)]);
    let first = take(&queue, 1, ALL).await;
    queue.done(&ids(&first));
    master.kill9();
    let again = async {
        for push in 2_000.. {
            queue.offer(vec![backend.page("a", push, 1, Lane::Urgent)]);
            if tokio::time::timeout(Duration::from_millis(200), queue.take(ALL))
                .await
                .is_ok()
            {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(40), again)
        .await
        .expect("the new master is found");
    assert_eq!(replica.command(&["ROLE"]).lines().next(), Some("master"));
    // The sentinel that made it master may have been either.
    drop(sentinels);
}
