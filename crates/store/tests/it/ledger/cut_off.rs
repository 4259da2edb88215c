//! A process whose connection breaks at the wrong moment.

use std::sync::Arc;
use std::time::Duration;

use bugle_model::{Accepted, Flow, Lane, NewPush, PageId, Period, Taken, Verdict};
use bugle_store::{Config, DatabaseUrl, Result, Store, postgres};
use bugle_testkit::proxy::Proxy;
use tokio::task::JoinHandle;

use super::world::{Ears, Fate, HOUR, World, sent, settle, tokens};
use crate::backend::{Backend, Place};

/// Longer than a test waits for anything.
const NEVER: Duration = Duration::from_mins(10);

/// A process on the world's database whose one connection passes a proxy.
pub(super) struct Afar {
    pub(super) store: Arc<dyn Store>,
    pub(super) ears: Arc<Ears>,
    pub(super) proxy: Proxy,
}

impl Afar {
    pub(super) async fn from(world: &World, timeout: Period) -> Self {
        let Place::Postgres(database) = &world.place else {
            unreachable!("it is PostgreSQL")
        };
        let proxy = Proxy::start(database.address());
        let config = Config {
            url: DatabaseUrl::new(database.url_through(proxy.address())),
            connections: 1,
            timeout,
            ..Config::default()
        };
        let ears = Arc::<Ears>::default();
        let store = postgres::open(&config, world.clock.clone(), ears.clone()).await;
        Self {
            store: store.unwrap(),
            ears,
            proxy,
        }
    }

    /// Takes a push like this one: from then on the connection knows the statements, and taking is one message there and one back.
    async fn practise(&self, world: &World, targets: usize) {
        world.accept("practice", tokens(targets)).await;
        let taken = self.store.take(&world.due().await, HOUR).await.unwrap();
        let reports = taken.iter().map(|page| settle(page, |_| Fate::Sent)).collect();
        self.store.report(reports, world.now()).await.unwrap();
        assert_eq!(leases(world), 0);
    }

    /// Begins to take these pages, and comes back when they are leased and nobody has been told.
    async fn take_unanswered(&self, world: &World, pages: &[PageId]) -> JoinHandle<Result<Vec<Taken>>> {
        self.proxy.delay(NEVER);
        let (store, pages) = (Arc::clone(&self.store), pages.to_vec());
        let taking = tokio::spawn(async move { store.take(&pages, HOUR).await });
        wait_for(|| leases(world) == 1, "the lease").await;
        assert!(!taking.is_finished(), "it was answered");
        taking
    }
}

async fn wait_for(is_so: impl Fn() -> bool, what: &str) {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.expect(what);
}

/// Leases that stand.
fn leases(world: &World) -> i64 {
    world.count(
        "SELECT (SELECT count(*) FROM pushes WHERE lease_until IS NOT NULL) + (SELECT count(*) FROM pages WHERE lease_until IS NOT NULL)",
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_answer_was_lost_is_found_again_by_its_taker() {
    // A push's own page, and one of a leg.
    for targets in [1, 101] {
        let world = World::new(Backend::Postgres).await;
        let afar = Afar::from(&world, Period::secs(15)).await;
        afar.practise(&world, targets).await;
        world.accept("p", tokens(targets)).await;
        let due = world.due().await;
        let taking = afar.take_unanswered(&world, &due).await;
        afar.proxy.cut();
        afar.proxy.restore();
        let taken = taking.await.unwrap().unwrap();
        assert_eq!((taken.len(), taken[0].targets.len()), (1, targets));
        assert!(world.due().await.is_empty(), "it is in good hands");
        let done = settle(&taken[0], |_| Fate::Sent);
        let told = afar.store.report(vec![done], world.now()).await.unwrap();
        assert_eq!(told, [Verdict::Written(Flow::Running)]);
        assert_eq!(sent(&world.status("p").await), targets as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_has_taken_meanwhile_stays_the_others() {
    for targets in [1, 101] {
        let world = World::new(Backend::Postgres).await;
        let afar = Afar::from(&world, Period::secs(15)).await;
        afar.practise(&world, targets).await;
        world.accept("p", tokens(targets)).await;
        let due = world.due().await;
        let taking = afar.take_unanswered(&world, &due).await;
        afar.proxy.cut();
        // The lease runs out, and another process takes the page.
        for table in ["pushes", "pages"] {
            let expired = format!(
                "WITH u AS (UPDATE {table} SET lease_until = clock_timestamp() - interval '1 s' WHERE lease_until IS NOT NULL RETURNING 1) SELECT count(*) FROM u"
            );
            world.count(&expired);
        }
        let held = world.take_one().await;
        afar.proxy.restore();
        assert!(taking.await.unwrap().unwrap().is_empty());
        assert_eq!(
            world.report(settle(&held, |_| Fate::Sent)).await,
            Verdict::Written(Flow::Running)
        );
        assert_eq!(sent(&world.status("p").await), targets as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gave_up_waiting_for_a_lease_gives_it_back() {
    for targets in [1, 101] {
        let world = World::new(Backend::Postgres).await;
        let afar = Afar::from(&world, Period::secs(2)).await;
        afar.practise(&world, targets).await;
        world.accept("p", tokens(targets)).await;
        let due = world.due().await;
        let taking = afar.take_unanswered(&world, &due).await;
        // What is answered now passes at once, but that answer has its time.
        afar.proxy.delay(Duration::ZERO);
        taking.await.unwrap().unwrap_err();
        assert_eq!(leases(&world), 0);
        assert_eq!(world.due().await, due);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_insertion_was_not_answered_is_found_again_and_accepted_once() {
    for lease in [None, Some(HOUR)] {
        let world = World::new(Backend::Postgres).await;
        let afar = Afar::from(&world, Period::secs(15)).await;
        afar.ears.keep_for(lease);
        let urgent = |uid| NewPush {
            lane: Lane::Urgent,
            ..world.push(uid, tokens(1))
        };
        // From now on the connection knows the statement.
        assert_eq!(afar.store.accept(urgent("practice")).await.unwrap(), Accepted::New);
        let before = [afar.ears.pages(), afar.ears.kept()].concat().len();
        // Nothing is on its way: a connection that comes back is not asked whether it lives.
        afar.proxy.delay(NEVER);
        let (store, push) = (Arc::clone(&afar.store), urgent("p"));
        let accepting = tokio::spawn(async move { store.accept(push).await });
        wait_for(|| world.count("SELECT count(*) FROM pushes") == 2, "the row").await;
        assert!(!accepting.is_finished(), "it was answered");
        afar.proxy.cut();
        afar.proxy.restore();
        assert_eq!(accepting.await.unwrap().unwrap(), Accepted::New);
        let (free, kept) = (afar.ears.pages(), afar.ears.kept());
        assert_eq!(
            (before, free.len() + kept.len(), kept.len()),
            (1, 1, usize::from(lease.is_some()))
        );
        let page = [free, kept].concat()[0].id;
        let taken = afar.store.take(&[page], HOUR).await.unwrap();
        assert_eq!((taken.len(), taken[0].epoch), (1, 1));
        assert_eq!(afar.store.accept(urgent("p")).await.unwrap(), Accepted::Repeated);
    }
}
