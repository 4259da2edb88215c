use std::collections::HashMap;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use bugle_model::{
    AppId, Clock, Invalid, Lane, NewPush, Next, PageRef, Provider, PushUid, Recipient, Report, Route, TargetKind, Token,
};
use bugle_provider::dry_run::DryRun;
use bugle_provider::{Client, Outcomes, Prepared, Provider as Delivers, Slot, Ticket};
use bugle_queue::memory::Memory;
use bugle_store::{Handover, Store};
use bugle_testkit::TestClock;
use serde_json::value::RawValue;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::limits::{Limits, Paces};
use crate::routes::Routes;
use crate::thread::Parts;
use crate::{Config, desk, report};

const TARGETS: usize = 5;
const SOON: Duration = Duration::from_secs(10);

/// Raw tokens have no platform.
const ROUTE: Route = Route {
    provider: Some(Provider::Fcm),
    platform: None,
};

/// Hears of pages on the writer's thread: after the commit and the end of the lease, before the report is answered.
#[derive(Default)]
struct Ears {
    /// The next page that is handed over stops the writer until this says something, or is dropped.
    stop: Mutex<Option<Receiver<()>>>,
    stopped: Notify,
}

impl Handover for Ears {
    fn pages(&self, _: Vec<PageRef>) {
        if let Some(go_on) = self.stop.lock().unwrap().take() {
            self.stopped.notify_one();
            let _ = go_on.recv();
        }
    }

    fn legs(&self) {}
}

/// No request gets out: there is never a slot.
struct NoSlot(Box<dyn Client>);

impl Client for NoSlot {
    fn prepare(&self, body: &RawValue) -> Result<Prepared, Invalid> {
        self.0.prepare(body)
    }

    fn slot(&self) -> Pin<Box<dyn Future<Output = Result<Slot, Outcome>> + '_>> {
        Box::pin(ready(Err(Outcome::Credential {
            reason: "invalid_grant",
            exchange_refused: true,
        })))
    }

    fn try_slot(&self, _now: std::time::Instant) -> Option<Slot> {
        None
    }

    fn send(&self, slot: Slot, push: &Prepared, target: &TargetKind, ticket: Ticket) {
        self.0.send(slot, push, target, ticket);
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }

    fn close(&self) {
        self.0.close();
    }
}

struct NoExchange(Arc<DryRun>);

impl Delivers for NoExchange {
    fn name(&self) -> Provider {
        self.0.name()
    }

    fn client(self: Arc<Self>, threads: usize, outcomes: Rc<dyn Outcomes>) -> Box<dyn Client> {
        Box::new(NoSlot(Arc::clone(&self.0).client(threads, outcomes)))
    }

    fn max_open(&self) -> usize {
        self.0.max_open()
    }
}

fn accepting() -> Arc<DryRun> {
    DryRun::new(Provider::Fcm, Duration::ZERO, 4)
}

/// A sender thread that takes nothing by itself, a push to [`TARGETS`] raw tokens on its own page, and their route on hold.
struct World {
    thread: Rc<Thread>,
    route: Arc<RouteState>,
    ears: Arc<Ears>,
    store: Arc<dyn Store>,
    _dir: TempDir,
}

impl World {
    async fn new(provider: Option<Arc<dyn Delivers>>) -> Self {
        let (dir, clock, ears) = (
            tempfile::tempdir().unwrap(),
            Arc::new(TestClock::new()),
            Arc::<Ears>::default(),
        );
        let store = bugle_store::open(
            &bugle_store::Config::default(),
            dir.path(),
            clock.clone(),
            Arc::clone(&ears) as Arc<dyn Handover>,
        )
        .await
        .unwrap();
        let app = AppId::default_app();
        let thread = Thread::new(Parts {
            store: Arc::clone(&store),
            queue: Arc::new(Memory::new(&bugle_queue::Config::default(), clock.clone())),
            clock: clock.clone(),
            config: Config {
                threads: 1,
                ..Config::default()
            },
            routes: Arc::new(Routes::new(clock.clone())),
            providers: Arc::new(HashMap::from_iter(
                provider.map(|provider| ((app.clone(), Provider::Fcm), provider)),
            )),
            longest_request: Duration::from_secs(1),
            limits: Limits::new(&[], &Paces::new(), 1),
            seat: desk::seats(&store, 1).remove(0),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
        });
        let tokens = (0..TARGETS).map(|n| Token::parse(&format!("token-{n}")).unwrap());
        let push = NewPush {
            app: app.clone(),
            uid: PushUid::parse("probed").unwrap(),
            hash: [7; 32],
            recipient: Recipient::Tokens(Provider::Fcm, tokens.collect()),
            body: br#"{"fcm":{"notification":{"title":"Hello"}}}"#.to_vec(),
            providers: vec![Provider::Fcm],
            lane: Lane::Bulk,
            created_at: clock.now(),
            due: clock.now(),
            expires_at: clock.now().plus(Duration::from_hours(24)),
        };
        store.accept(push).await.unwrap();
        let reason = Some(HoldReason::Credential);
        let hold = store.set_hold(&app, ROUTE, reason, clock.now()).await.unwrap();
        let route = thread.routes.get(&app, ROUTE);
        assert!(route.adopt(hold));
        Self {
            thread,
            route,
            ears,
            store,
            _dir: dir,
        }
    }

    /// Probes once, and waits until the page is dealt with; what it has to report then.
    async fn probe(&self) -> Report {
        assert!(probe(&self.thread, &self.route).await, "a page waits");
        self.worked().await;
        let pages = self.thread.pages.borrow();
        pages.values().next().unwrap().report().0
    }

    async fn worked(&self) {
        tokio::time::timeout(SOON, self.thread.reportable.notified())
            .await
            .expect("the page is worked");
    }

    async fn write(&self) -> usize {
        report::write(&self.thread).await.unwrap()
    }

    async fn waits(&self) -> bool {
        let page = self.store.waiting_page(&self.route.app, ROUTE).await.unwrap();
        page.is_some()
    }
}

fn used_up(report: &Report) -> (i64, usize) {
    assert!(matches!(report.next, Next::GiveBack(_)), "the others wait on");
    (report.progress.position, report.progress.left_over.len())
}

#[tokio::test]
async fn a_probe_that_gets_no_slot_uses_up_one_target() {
    let test = async {
        let world = World::new(Some(Arc::new(NoExchange(accepting())))).await;
        for probes in 1..TARGETS {
            let left = i64::try_from(probes).unwrap();
            assert_eq!(used_up(&world.probe().await), (left, probes));
            assert_eq!(world.write().await, 1);
        }
        let last = world.probe().await;
        assert_eq!((last.next, last.progress.left_over.len()), (Next::Settle, TARGETS));
        assert!(last.progress.left_over.iter().all(|left| left.attempts == 0));
        assert!(world.route.is_held());
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_probe_of_a_provider_that_is_not_configured_uses_up_one_target() {
    let test = async {
        let world = World::new(None).await;
        assert_eq!(used_up(&world.probe().await), (1, 1));
        assert!(world.route.is_held());
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_probe_of_a_throttled_route_uses_up_no_target() {
    let test = async {
        let world = World::new(Some(accepting())).await;
        world.route.throttle(Duration::from_mins(1));
        assert_eq!(used_up(&world.probe().await), (0, 0));
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_page_that_is_probed_again_before_its_report_is_answered_stays_in_work() {
    let test = async {
        // Nothing is accepted: the end of the hold would hand the page over, too.
        let world = World::new(None).await;
        world.probe().await;
        let (go_on, stop) = channel();
        *world.ears.stop.lock().unwrap() = Some(stop);
        let thread = Rc::clone(&world.thread);
        let writing = tokio::task::spawn_local(async move { report::write(&thread).await });
        tokio::time::timeout(SOON, world.ears.stopped.notified()).await.unwrap();
        // The page is free, and the thread that gave it back does not know that yet.
        assert!(probe(&world.thread, &world.route).await);
        go_on.send(()).unwrap();
        assert_eq!(writing.await.unwrap(), Ok(1));
        world.worked().await;
        assert_eq!(world.write().await, 1, "the second probe is reported");
        assert!(world.waits().await, "the second lease has ended");
        assert!(world.thread.pages.borrow().is_empty());
    };
    LocalSet::new().run_until(test).await;
}
