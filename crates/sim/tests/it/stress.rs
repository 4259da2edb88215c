//! Everything at once: what the clients saw and what the simulator says must agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use bugle_sim::{Fault, Outcome, Settings, Sim};
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::Mutex;

use crate::client::{Http2, sim};

const TOKENS: usize = 3_000;

/// Sends to a token until its answer is definitive, over a new connection wherever the old one has ended.
async fn deliver(sim: &Sim, lane: &Mutex<Arc<Http2>>, token: &str) -> u16 {
    loop {
        let client = Arc::clone(&*lane.lock().await);
        match client.push(token).await {
            Ok(answer) if !matches!(answer.status.as_u16(), 429 | 500 | 503) => return answer.status.as_u16(),
            Ok(_) => {}
            Err(error) if error.reason() == Some(h2::Reason::REFUSED_STREAM) => {}
            Err(_) => {
                let mut lane = lane.lock().await;
                if Arc::ptr_eq(&client, &lane) {
                    *lane = Arc::new(Http2::authorized(sim).await);
                }
            }
        }
    }
}

/// How many tokens the clients saw end in each class, which must be the simulator's for every one of them.
fn classes_seen(sim: &Sim, seen: &[(String, u16)]) -> BTreeMap<Outcome, u64> {
    let mut classes = BTreeMap::new();
    for (token, status) in seen {
        let counts = sim.token(token).unwrap();
        let expected = match status {
            200 => Outcome::Accepted,
            404 => Outcome::Unregistered,
            400 => Outcome::Payload,
            status => panic!("{token}: {status}"),
        };
        assert_eq!(counts.class, Some(expected), "{token}");
        *classes.entry(expected).or_insert(0_u64) += 1;
    }
    classes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_faults_of_every_kind_the_tally_is_what_the_clients_saw() {
    let shares = [
        Fault::Unregistered,
        Fault::Payload,
        Fault::Quota,
        Fault::Unavailable,
        Fault::Slow,
        Fault::Refused,
    ];
    let sim = sim(Settings {
        shares: shares
            .into_iter()
            .map(|fault| (fault, 20))
            .chain([(Fault::Cut, 5)])
            .collect(),
        slow_ms: 3,
        goaway_every: Some(211),
        stream_limit: 20,
        ..Settings::default()
    })
    .await;
    let lane = Mutex::new(Arc::new(Http2::authorized(&sim).await));
    let seen: Vec<_> = stream::iter(0..TOKENS)
        .map(|n| {
            let (sim, lane) = (&sim, &lane);
            async move {
                let token = format!("token-{n}");
                let status = deliver(sim, lane, &token).await;
                (token, status)
            }
        })
        .buffer_unordered(60)
        .collect()
        .await;
    let classes = classes_seen(&sim, &seen);
    drop(lane);
    while sim.stats().connections_open > 0 {
        tokio::task::yield_now().await;
    }
    let stats = sim.stats();
    assert_eq!(stats.classes, classes);
    assert_eq!(stats.outcomes.values().sum::<u64>(), stats.requests);
    assert_eq!((stats.open_streams, stats.tokens), (0, u64::try_from(TOKENS).unwrap()));
    assert!(
        stats.peak_streams <= 20 && stats.goaways > 0 && stats.unprocessed > 0,
        "{stats:?}"
    );
    assert!(
        stats.outcome(Outcome::Cut) > 0 && stats.outcome(Outcome::Refused) > 0,
        "{stats:?}"
    );
    let listed = sim.tokens(None, None, TOKENS).unwrap();
    let summed: u32 = listed.tokens.iter().flat_map(|token| token.counts.values()).sum();
    assert_eq!((u64::from(summed), listed.next), (stats.requests, None));
}
