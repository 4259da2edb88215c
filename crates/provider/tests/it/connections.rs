//! Connections that end, well or badly, and those that never come about.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bugle_model::{Outcome, Period};
use bugle_provider::Provider;
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio::task::spawn_local;
use tokio::time::Instant;

use crate::support::frames::{Act, Peer};
use crate::support::google::Google;
use crate::support::{Sending, client, config, credentials, is_accepted, open, run, until};

async fn start(limit: Option<u32>) -> (Rc<Peer>, NamedTempFile) {
    let google = Google::start().await;
    (Peer::start(limit).await, credentials(&google.token_uri(), "a"))
}

fn lost(outcome: &Outcome) -> Option<u64> {
    match outcome {
        Outcome::Transient {
            reason: "connection lost",
            connection,
            ..
        } => *connection,
        _ => None,
    }
}

/// Sends to each of many targets until it is accepted; returns how often any was unprocessed. Nothing else may come back.
async fn send_all(fcm: &Sending, count: usize) -> usize {
    let again = Cell::new(0);
    let one = async |n: usize| {
        loop {
            match fcm.send(&format!("t{n}")).await {
                Outcome::Accepted => return,
                Outcome::Unprocessed => again.set(again.get() + 1),
                other => panic!("t{n}: {other:?}"),
            }
        }
    };
    futures_util::future::join_all((0..count).map(one)).await;
    again.get()
}

#[test]
fn goaway_under_load_loses_and_repeats_nothing() {
    run(async {
        let (peer, file) = start(Some(50)).await;
        let count = Cell::new(0);
        peer.script(move |_| {
            count.set(count.get() + 1);
            if count.get() % 97 == 0 {
                Act::GoAway
            } else {
                Act::Accept
            }
        });
        let mut config = config(&peer.url(), &file);
        config.connections = 2;
        let again = send_all(&client(&config), 2_000).await;
        let accepted = peer.accepted.borrow();
        assert_eq!(accepted.len(), 2_000);
        assert!(accepted.values().all(|times| *times == 1), "each exactly once");
        assert!(again > 0, "some were above the last id");
        assert!(peer.connections.get() >= 20);
        assert_eq!(peer.violations.get(), 0);
    });
}

#[test]
fn open_requests_outlive_a_goaway_and_new_ones_go_elsewhere() {
    run(async {
        let (peer, file) = start(None).await;
        peer.script(|_| Act::Hold);
        let fcm = client(&config(&peer.url(), &file));
        let held = spawn_local({
            let fcm = fcm.clone();
            async move { fcm.send_many(5).await }
        });
        until("they are open", || peer.open.get() == 5).await;
        peer.go_away();
        peer.script(|token| if token == "new" { Act::Accept } else { Act::Hold });
        until("a new connection is used", || {
            peer.connections.get() == 2 || held.is_finished()
        })
        .await;
        assert!(is_accepted(&fcm.send("new").await));
        peer.release();
        assert!(held.await.unwrap().iter().all(is_accepted));
    });
}

#[test]
fn requests_lost_with_one_connection_share_its_number() {
    run(async {
        let (peer, file) = start(None).await;
        peer.script(|token| if token == "t9" { Act::Cut } else { Act::Hold });
        let fcm = client(&config(&peer.url(), &file));
        let numbers: Vec<_> = fcm.send_many(10).await.iter().map(lost).collect();
        assert!(numbers[0].is_some());
        assert!(numbers.iter().all(|n| *n == numbers[0]), "{numbers:?}");
        let next = lost(&fcm.send("t9").await);
        assert!(
            next.is_some() && next != numbers[0],
            "the next connection has another number"
        );
        peer.script(|_| Act::Accept);
        assert!(is_accepted(&fcm.send("x").await));
    });
}

#[test]
fn a_dead_connection_is_found_out_before_its_requests_time_out() {
    run(async {
        let (peer, file) = start(None).await;
        peer.script(|_| Act::Hold);
        let mut config = config(&peer.url(), &file);
        (config.ping_after, config.ping_timeout, config.request_timeout) =
            (Period::millis(100), Period::millis(200), Period::millis(30_000));
        let fcm = client(&config);
        let held = spawn_local({
            let fcm = fcm.clone();
            async move { fcm.send_many(5).await }
        });
        until("they are open", || peer.open.get() == 5).await;
        until("it answers a ping, so it lives", || peer.pings.get() >= 2).await;
        assert!(!held.is_finished());
        peer.freeze();
        let frozen = Instant::now();
        assert!(held.await.unwrap().iter().all(|outcome| lost(outcome).is_some()));
        assert!(frozen.elapsed() < Duration::from_secs(5));
        peer.script(|_| Act::Accept);
        assert!(is_accepted(&fcm.send("x").await), "a new connection takes its place");
    });
}

#[test]
fn an_idle_connection_is_asked_rarely() {
    run(async {
        let (peer, file) = start(None).await;
        let mut config = config(&peer.url(), &file);
        (config.ping_after, config.idle_ping_after) = (Period::millis(100), Period::millis(600));
        let fcm = client(&config);
        assert!(is_accepted(&fcm.send("x").await));
        let (begin, before) = (Instant::now(), peer.pings.get());
        until("it is asked", || peer.pings.get() > before).await;
        assert!(begin.elapsed() >= Duration::from_millis(500));
    });
}

#[test]
fn nobody_waits_for_ever_for_a_peer_that_is_not_there() {
    run(async {
        let google = Google::start().await;
        let file = credentials(&google.token_uri(), "a");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let fcm = client(&config(&format!("http://{address}"), &file));
        let outcomes = fcm.send_many(50).await;
        let Outcome::Transient {
            reason: "connect",
            connection: Some(number),
            ..
        } = outcomes[0]
        else {
            panic!("{:?}", outcomes[0]);
        };
        assert!(
            outcomes.iter().all(|outcome| *outcome == outcomes[0]),
            "one attempt is one piece of evidence"
        );
        let begin = Instant::now();
        let Outcome::Transient {
            connection: Some(second),
            ..
        } = fcm.send("x").await
        else {
            panic!()
        };
        assert_ne!(second, number);
        assert!(begin.elapsed() >= Duration::from_millis(40), "attempts keep a distance");

        let peer = Peer::start(None).await;
        let relay = TcpListener::bind(address).await.unwrap();
        spawn_local(async move {
            while let Ok((mut near, _)) = relay.accept().await {
                let mut far = tokio::net::TcpStream::connect(("127.0.0.1", peer.port)).await.unwrap();
                spawn_local(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
            }
        });
        assert!(is_accepted(&fcm.send("x").await), "and it is found when it is back");
    });
}

#[test]
fn a_peer_that_never_sends_settings_is_not_waited_for() {
    run(async {
        let (peer, file) = start(None).await;
        peer.mute.set(true);
        let mut config = config(&peer.url(), &file);
        config.connect_timeout = Period::millis(100);
        let fcm = client(&config);
        assert!(matches!(
            fcm.send("x").await,
            Outcome::Transient { reason: "connect", .. }
        ));
        peer.mute.set(false);
        assert!(is_accepted(&fcm.send("x").await));
    });
}

#[test]
fn a_peer_that_sends_everybody_away_is_not_called_in_a_loop() {
    run(async {
        let (peer, file) = start(None).await;
        peer.script(|_| Act::SendAway);
        let fcm = client(&config(&peer.url(), &file));
        let hour = tokio::time::timeout(Duration::from_millis(700), async {
            loop {
                assert_eq!(fcm.send("x").await, Outcome::Unprocessed);
            }
        });
        assert!(hour.await.is_err());
        assert!((2..12).contains(&peer.connections.get()), "{}", peer.connections.get());
        peer.script(|_| Act::Accept);
        assert!(is_accepted(&fcm.send("x").await));
    });
}

#[test]
fn connections_are_opened_as_they_are_needed() {
    run(async {
        let (peer, file) = start(Some(10)).await;
        peer.script(|_| Act::Hold);
        let mut config = config(&peer.url(), &file);
        config.connections = 3;
        let fcm = client(&config);
        assert_eq!(peer.connections.get(), 0);
        let sending = [1, 20].map(|count| {
            let fcm = fcm.clone();
            spawn_local(async move { fcm.send_many(count).await })
        });
        until("all are open", || peer.open.get() == 21).await;
        assert_eq!(peer.connections.get(), 3);
        assert_eq!(fcm.client.capacity(), 30);
        peer.release();
        for sent in sending {
            assert!(sent.await.unwrap().iter().all(is_accepted));
        }
    });
}

#[test]
fn closing_ends_idle_connections_and_grants_nothing() {
    run(async {
        let (peer, file) = start(Some(2)).await;
        peer.script(|token| if token == "x" { Act::Accept } else { Act::Hold });
        let mut config = config(&peer.url(), &file);
        config.connections = 1;
        let fcm = client(&config);
        assert!(is_accepted(&fcm.send("x").await));
        let held = spawn_local({
            let fcm = fcm.clone();
            async move { fcm.send_many(3).await }
        });
        until("two are open, one waits", || peer.open.get() == 2).await;
        fcm.client.close();
        assert_eq!(fcm.slot().await.err(), Some(Outcome::Unprocessed));
        assert_eq!(fcm.client.capacity(), 0);
        assert_eq!(peer.alive.get(), 1, "what is open goes on");
        peer.release();
        let outcomes = held.await.unwrap();
        assert_eq!(outcomes.iter().filter(|outcome| is_accepted(outcome)).count(), 2);
        assert_eq!(outcomes[2], Outcome::Unprocessed);
        until("the connection is closed", || peer.alive.get() == 0).await;

        let other = client(&config);
        assert!(is_accepted(&other.send("x").await));
        drop(other);
        until("a dropped client closes too", || peer.alive.get() == 0).await;
    });
}

#[test]
fn threads_share_the_configured_connections() {
    run(async {
        let (peer, file) = start(Some(10)).await;
        let mut config = config(&peer.url(), &file);
        (config.connections, config.streams) = (5, 10);
        let fcm = open(&config);
        assert_eq!(fcm.max_open(), 50);
        let mut shares: Vec<usize> = (0..3).map(|_| Sending::new(fcm.clone(), 3).client.capacity()).collect();
        shares.sort_unstable();
        assert_eq!(shares, [10, 20, 20]);
        config.connections = 1;
        let fcm = open(&config);
        let _clients: Vec<_> = (0..3).map(|_| Sending::new(fcm.clone(), 3)).collect();
        assert_eq!(fcm.max_open(), 30, "each thread has at least one");
    });
}
