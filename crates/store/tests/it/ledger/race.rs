//! Workers who steal each other's pages: their leases expire while their reports are being written.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bugle_model::{Flow, Lane, Next, PushState, Taken, Target, Timestamp, Verdict};
use bugle_store::Store;
use rstest::rstest;

use super::world::{ANDROID, Fate, World, app, channels, enter, report_on, sent, total, uid};
use crate::backend::Backend;

const DEVICES: usize = 300;

/// How often each position of the push was written down as ended.
type Ended = Arc<Mutex<BTreeMap<i64, u32>>>;

/// Expands a little, takes a page, ends a few of its targets at a time; what it is told was written it notes down.
async fn work(store: Arc<dyn Store>, now: Timestamp, number: usize, push: String, ended: Ended) {
    for round in 0_usize.. {
        for leg in store.open_legs(now, 10).await.unwrap() {
            let walks = store.walk(leg.push, &[(leg.route, 40)]).await.unwrap();
            store.expand(walks, now).await.unwrap();
        }
        let due = store.due_pages(Lane::Bulk, now, 100).await.unwrap();
        if due.is_empty() {
            let status = store.status(&app(), &uid(&push)).await.unwrap().unwrap();
            if status.ended_at.is_some() {
                return;
            }
            tokio::task::yield_now().await;
            continue;
        }
        let mix = round * 7 + number * 13;
        // Most leases are over before they are used.
        let lease = Duration::from_millis(if mix.is_multiple_of(4) { 20 } else { 0 });
        let page = due[mix % due.len()].id;
        for taken in store.take(&[page], lease).await.unwrap() {
            send(&*store, now, &taken, 1 + mix % 9, &ended).await;
        }
    }
}

async fn send(store: &dyn Store, now: Timestamp, taken: &Taken, step: usize, ended: &Ended) {
    let mut report = report_on(taken, Next::Continue);
    for (number, some) in taken.targets.chunks(step).enumerate() {
        let rest: &[Target] = &taken.targets[(number * step + some.len()).min(taken.targets.len())..];
        for target in some {
            enter(&mut report, target, Fate::Sent);
        }
        let begun = rest
            .iter()
            .map(|t| t.position)
            .filter(|p| *p <= report.progress.position);
        report.progress.open = begun.collect();
        if rest.is_empty() {
            report.next = Next::Settle;
        }
        match store.report(vec![report.clone()], now).await.unwrap()[0] {
            Verdict::Lost => return,
            Verdict::Written(flow) => assert_eq!(flow, Flow::Running),
        }
        let mut ended = ended.lock().unwrap();
        for target in some {
            *ended.entry(target.position).or_default() += 1;
        }
    }
    if taken.targets.is_empty() {
        report.next = Next::Settle;
        store.report(vec![report], now).await.unwrap();
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stolen_page_is_counted_once(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    for n in 0..DEVICES {
        world.device(&format!("d{n}"), ANDROID, &["news"]).await;
    }
    // The unlucky moment is short: several rounds.
    for round in 0..6 {
        let push = format!("p{round}");
        world.accept(&push, channels(&["news"])).await;
        let ended = Ended::default();
        let worker = |n| work(world.shared(), world.now(), n, push.clone(), Arc::clone(&ended));
        let workers: Vec<_> = (0..6).map(|n| tokio::spawn(worker(n))).collect();
        for worker in workers {
            worker.await.unwrap();
        }
        let status = world.status(&push).await;
        assert_eq!(status.state, PushState::Done);
        assert_eq!((total(&status).0, sent(&status)), (DEVICES as u64, DEVICES as u64));
        let ended = ended.lock().unwrap();
        assert_eq!(ended.len(), DEVICES);
        let twice: Vec<_> = ended.iter().filter(|(_, times)| **times != 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }
}
