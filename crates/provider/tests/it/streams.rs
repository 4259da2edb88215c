//! How many requests are open, and what becomes of one without harm to the others.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bugle_model::{Outcome, Period};
use tempfile::NamedTempFile;
use tokio::task::spawn_local;

use crate::support::frames::{Act, Peer};
use crate::support::google::Google;
use crate::support::{Sending, client, config, credentials, is_accepted, run, until, waits};

async fn start(limit: Option<u32>) -> (std::rc::Rc<Peer>, NamedTempFile) {
    let google = Google::start().await;
    (Peer::start(limit).await, credentials(&google.token_uri(), "a"))
}

/// Sends in the background.
fn spawn(fcm: &Sending, count: usize) -> tokio::task::JoinHandle<Vec<Outcome>> {
    let fcm = fcm.clone();
    spawn_local(async move { fcm.send_many(count).await })
}

#[test]
fn never_more_streams_than_the_peer_allows() {
    run(async {
        let (peer, file) = start(Some(10)).await;
        peer.script(|_| Act::Hold);
        let fcm = client(&config(&peer.url(), &file));
        let sending = spawn(&fcm, 1_000);
        until("all that is allowed is open", || peer.open.get() == 10).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        peer.script(|_| Act::Accept);
        peer.release();
        assert!(sending.await.unwrap().iter().all(is_accepted));
        assert_eq!((peer.violations.get(), peer.most_open.get()), (0, 10));
        assert_eq!(peer.connections.get(), 1);
        assert_eq!(fcm.client.capacity(), 10);
    });
}

#[test]
fn never_more_streams_than_configured() {
    run(async {
        let (peer, file) = start(None).await;
        let mut config = config(&peer.url(), &file);
        (config.streams, config.connections) = (7, 2);
        peer.script(|_| Act::Hold);
        let fcm = client(&config);
        let sending = spawn(&fcm, 50);
        until("all streams are taken", || peer.open.get() == 14).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(peer.most_open.get(), 14);
        peer.script(|_| Act::Accept);
        peer.release();
        assert!(sending.await.unwrap().iter().all(is_accepted));
        assert_eq!((peer.most_open.get(), peer.connections.get()), (14, 2));
    });
}

#[test]
fn a_limit_that_is_lowered_and_raised_again_is_obeyed() {
    run(async {
        let (peer, file) = start(Some(20)).await;
        peer.script(|_| Act::Hold);
        let fcm = client(&config(&peer.url(), &file));
        let sending = spawn(&fcm, 200);
        until("the first limit is reached", || peer.open.get() == 20).await;
        peer.announce(3);
        until("the client knows", || peer.acked.get() == 2).await;
        peer.release();
        until("the lower limit is reached", || {
            peer.accepted.borrow().len() >= 20 && peer.open.get() == 3
        })
        .await;
        assert_eq!(fcm.client.capacity(), 3);
        peer.announce(50);
        until("the higher limit is reached", || peer.open.get() == 50).await;
        peer.script(|_| Act::Accept);
        peer.release();
        assert!(sending.await.unwrap().iter().all(is_accepted));
        assert_eq!((peer.violations.get(), peer.most_open.get()), (0, 50));
    });
}

/// With few answers at a time and many streams open the connection is read after pauses, and nothing that arrives meanwhile wakes its driver.
#[test]
fn answers_that_trickle_in_are_all_heard_and_so_are_the_last_one_and_the_end_of_the_connection() {
    run(async {
        let (peer, file) = start(None).await;
        peer.script(|token| if token == "last" { Act::Cut } else { Act::Hold });
        let mut config = config(&peer.url(), &file);
        // No ping and no deadline wakes the driver either.
        (config.ping_after, config.request_timeout) = (Period::millis(40_000), Period::millis(40_000));
        config.streams = 500;
        let fcm = client(&config);
        let outcomes = Rc::<RefCell<Vec<Outcome>>>::default();
        for n in 0..400 {
            let (fcm, outcomes) = (fcm.clone(), Rc::clone(&outcomes));
            spawn_local(async move {
                let outcome = fcm.send(&format!("t{n}")).await;
                outcomes.borrow_mut().push(outcome);
            });
        }
        let heard = || outcomes.borrow().len();
        until("all are open", || peer.open.get() == 400).await;
        for _ in 0..50 {
            peer.release_some(5);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        until("all of them are heard", || heard() == 250).await;
        peer.release_some(1);
        until("so is one alone", || heard() == 251).await;
        for _ in 0..10 {
            peer.release_some(3);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let cut = tokio::time::timeout(Duration::from_secs(20), fcm.send("last"));
        let cut = cut.await.expect("the end is seen");
        until("nobody is left without an outcome", || heard() == 400).await;
        assert!(outcomes.borrow()[..281].iter().all(is_accepted));
        for outcome in outcomes.borrow()[281..].iter().chain([&cut]) {
            assert!(
                matches!(
                    outcome,
                    Outcome::Transient {
                        reason: "connection lost",
                        ..
                    }
                ),
                "{outcome:?}"
            );
        }
    });
}

#[test]
fn a_refused_stream_counts_as_unprocessed() {
    run(async {
        let (peer, file) = start(None).await;
        peer.script(|token| if token == "no" { Act::Refuse } else { Act::Accept });
        let fcm = client(&config(&peer.url(), &file));
        assert_eq!(fcm.send("no").await, Outcome::Unprocessed);
        assert!(is_accepted(&fcm.send("yes").await));
        assert_eq!(peer.connections.get(), 1);
    });
}

#[test]
fn a_peer_that_refuses_everything_is_not_called_in_a_loop() {
    run(async {
        let (peer, file) = start(None).await;
        peer.script(|_| Act::Refuse);
        let fcm = client(&config(&peer.url(), &file));
        let mut tries = 0_u32;
        let hour = tokio::time::timeout(Duration::from_millis(500), async {
            loop {
                assert_eq!(fcm.send("x").await, Outcome::Unprocessed);
                tries += 1;
            }
        });
        assert!(hour.await.is_err());
        assert!((10..100).contains(&tries), "{tries}");
        peer.script(|_| Act::Accept);
        assert!(is_accepted(&fcm.send("x").await), "and it is tried again");
    });
}

#[test]
fn another_reset_is_transient() {
    run(async {
        let (peer, file) = start(None).await;
        peer.script(|_| Act::Reset);
        let fcm = client(&config(&peer.url(), &file));
        let reset = Outcome::Transient {
            reason: "stream reset",
            after: None,
            connection: None,
        };
        assert_eq!(fcm.send("x").await, reset);
    });
}

#[test]
fn silent_targets_time_out_and_hold_up_nobody() {
    run(async {
        let (peer, file) = start(Some(100)).await;
        peer.script(|token| {
            if token.starts_with("silent") {
                Act::Hold
            } else {
                Act::Accept
            }
        });
        let mut config = config(&peer.url(), &file);
        config.request_timeout = Period::millis(300);
        let fcm = client(&config);
        let silent = {
            let fcm = fcm.clone();
            spawn_local(async move {
                let all = (0..20)
                    .map(|n| (fcm.clone(), n))
                    .map(|(fcm, n)| async move { fcm.send(&format!("silent{n}")).await });
                futures_util::future::join_all(all).await
            })
        };
        let outcomes = fcm.send_many(500).await;
        assert!(outcomes.iter().all(is_accepted), "{outcomes:?}");
        assert!(!silent.is_finished(), "the others did not wait for them");
        let timeout = Outcome::Transient {
            reason: "timeout",
            after: None,
            connection: None,
        };
        assert!(silent.await.unwrap().iter().all(|outcome| *outcome == timeout));
        until("the streams are reset", || {
            peer.resets.get() == 20 && peer.open.get() == 0
        })
        .await;
        assert!(fcm.send_many(500).await.iter().all(is_accepted));
        assert_eq!((peer.connections.get(), peer.violations.get()), (1, 0));
    });
}

#[test]
fn late_answers_to_many_reset_streams_do_no_harm() {
    run(async {
        let (peer, file) = start(None).await;
        peer.script(|token| if token == "x" { Act::Accept } else { Act::Hold });
        peer.stubborn.set(true);
        let mut config = config(&peer.url(), &file);
        config.request_timeout = Period::millis(100);
        let fcm = client(&config);
        // More than h2 remembers by default, and more than it forgives by default.
        for _ in 0..6 {
            assert!(!fcm.send_many(400).await.iter().any(is_accepted));
        }
        until("all streams are reset", || peer.open.get() == 0).await;
        assert!(
            peer.accepted.borrow().values().sum::<usize>() > 2_000,
            "all but a few were answered in vain"
        );
        assert!(is_accepted(&fcm.send("x").await));
        assert_eq!(peer.connections.get(), 1);
    });
}

#[test]
fn hundreds_of_small_answers_at_once_are_no_attack() {
    run(async {
        let (peer, file) = start(None).await;
        peer.script(|_| Act::Hold);
        let fcm = client(&config(&peer.url(), &file));
        let sending = spawn(&fcm, 500);
        until("all are open", || peer.open.get() == 500).await;
        peer.release();
        assert!(sending.await.unwrap().iter().all(is_accepted));
        assert_eq!(peer.connections.get(), 1);
    });
}

#[test]
fn a_dropped_request_is_reset_and_its_stream_is_free_again() {
    run(async {
        let (peer, file) = start(Some(1)).await;
        peer.script(|_| Act::Hold);
        let fcm = client(&config(&peer.url(), &file));
        let held = spawn(&fcm, 1);
        until("it is open", || peer.open.get() == 1).await;
        held.abort();
        until("it is reset", || peer.resets.get() == 1).await;
        peer.script(|_| Act::Accept);
        assert!(is_accepted(&fcm.send("x").await));
        assert_eq!(peer.violations.get(), 0);
    });
}

#[test]
fn slots_come_in_order_and_a_dropped_one_goes_to_the_next() {
    run(async {
        let (peer, file) = start(Some(1)).await;
        let fcm = client(&config(&peer.url(), &file));
        let first = fcm.slot().await.unwrap();
        let mut second = Box::pin(fcm.slot());
        let mut third = Box::pin(fcm.slot());
        let mut fourth = Box::pin(fcm.slot());
        assert!(waits(&mut second).await);
        assert!(waits(&mut third).await);
        assert!(waits(&mut fourth).await);
        drop(second);
        drop(first);
        assert!(waits(&mut fourth).await, "it is the third's turn");
        let slot = third.await.unwrap();
        let mut fifth = Box::pin(fcm.slot());
        assert!(waits(&mut fifth).await);
        assert!(waits(&mut fourth).await);
        assert!(is_accepted(&fcm.over(slot, "x").await));
        // The fourth was given the stream and has not looked: it goes to the fifth.
        drop(fourth);
        drop(fifth.await.unwrap());
    });
}
