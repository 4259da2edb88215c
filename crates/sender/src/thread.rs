//! One sender thread: takes pages as it has room for them, and lets each be worked, reported and prolonged.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bugle_model::{AppId, Clock, Lane, Outcome, PageId, Provider, Taken, Target, TargetKind};
use bugle_provider::Client;
use bugle_queue::Queue;
use bugle_store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::bodies::Bodies;
use crate::concurrency::Concurrency;
use crate::delivery::Deliveries;
use crate::desk::Seat;
use crate::gate::Gate;
use crate::lanes::Turnstile;
use crate::limits::{Limits, Permits};
use crate::page::Page;
use crate::routes::{RouteState, Routes};
use crate::taking::FEED_TARGETS;
use crate::verdict::{Circumstances, Ending, judge};
use crate::work::{Mode, Work};
use crate::{Config, Providers, holds, tally::Tally};

/// What a sender thread works with.
pub(crate) struct Thread {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: Config,
    pub(crate) routes: Arc<Routes>,
    pub(crate) longest_request: Duration,
    providers: Providers,
    threads: usize,
    clients: RefCell<HashMap<(AppId, Provider), Rc<dyn Client>>>,
    pub(crate) limits: Arc<Limits>,
    ways: RefCell<HashMap<(AppId, Provider), Way>>,
    pub(crate) deliveries: Rc<Deliveries>,
    pub(crate) gate: Gate,
    pub(crate) bodies: Bodies,
    /// The pages in work, by their leases: one that was given back may be in work again before the report that gave it back returns.
    pub(crate) pages: RefCell<HashMap<(PageId, u64), Rc<Page>>>,
    pub(crate) tally: Tally,
    /// Targets of bulk pages in work that have not been started.
    pub(crate) unstarted: Cell<usize>,
    /// Where reports are laid down.
    pub(crate) seat: Seat,
    /// A page is finished and wants its last report, or another thread writes its reports.
    pub(crate) reportable: Arc<Notify>,
    /// There is room for urgent pages, …
    pub(crate) urgent_room: Notify,
    /// … and for bulk pages.
    pub(crate) bulk_room: Notify,
    /// Nothing new leaves.
    pub(crate) stop: CancellationToken,
    /// The grace period is over.
    pub(crate) abort: CancellationToken,
}

/// What stands before an app's provider in this thread.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) turnstile: Rc<Turnstile>,
    /// `None` = there is no limit.
    pub(crate) permits: Option<Rc<Permits>>,
    pub(crate) concurrency: Rc<Concurrency>,
}

/// What [`Thread::new`] needs.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: Config,
    pub(crate) routes: Arc<Routes>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) seat: Seat,
    pub(crate) providers: Providers,
    pub(crate) longest_request: Duration,
    pub(crate) stop: CancellationToken,
    pub(crate) abort: CancellationToken,
}

impl Thread {
    pub(crate) fn new(parts: Parts) -> Rc<Self> {
        let threads = parts.config.thread_count();
        Rc::new_cyclic(|me| Self {
            gate: Gate::new(parts.config.max_unsettled / threads),
            threads,
            store: parts.store,
            queue: parts.queue,
            clock: parts.clock,
            config: parts.config,
            routes: parts.routes,
            longest_request: parts.longest_request,
            providers: parts.providers,
            clients: RefCell::default(),
            limits: parts.limits,
            ways: RefCell::default(),
            deliveries: Deliveries::new(me.clone()),
            bodies: Bodies::default(),
            pages: RefCell::default(),
            tally: Tally::default(),
            unstarted: Cell::new(0),
            reportable: parts.seat.bell(),
            seat: parts.seat,
            urgent_room: Notify::new(),
            bulk_room: Notify::new(),
            stop: parts.stop,
            abort: parts.abort,
        })
    }

    /// Starts to work a page.
    pub(crate) fn begin(self: &Rc<Self>, mut taken: Taken, lease_until: Instant, mode: Mode) {
        let page = Rc::new(Page::new(&taken, lease_until));
        self.pages.borrow_mut().insert((page.id, page.epoch), Rc::clone(&page));
        let (targets, body) = (std::mem::take(&mut taken.targets), taken.body.take());
        let now = Instant::now();
        let read = now.checked_sub(taken.age).unwrap_or(now);
        tokio::task::spawn_local(Work::new(Rc::clone(self), page, (targets, read), body, mode).run());
    }

    /// A page wants its last report, or is lost. One of a broadcast gets it with the next report of the others, as long as there are others.
    pub(crate) fn finished(&self, lane: Lane) {
        if lane == Lane::Urgent || self.pages.borrow().values().all(|page| page.is_over()) {
            self.reportable.notify_one();
        }
    }

    /// A page is out of this thread's hands, as far as this lease goes.
    pub(crate) fn release(&self, page: &Page) {
        if self.pages.borrow_mut().remove(&(page.id, page.epoch)).is_some() {
            self.gate.wrote(page.take_unwritten());
        }
        self.room(page.lane).notify_one();
    }

    pub(crate) fn add_unstarted(&self, lane: Lane, targets: usize) {
        if lane == Lane::Urgent {
            return;
        }
        self.unstarted.set(self.unstarted.get() + targets);
    }

    pub(crate) fn remove_unstarted(&self, lane: Lane, targets: usize) {
        if lane == Lane::Urgent {
            return;
        }
        let before = self.unstarted.get();
        let after = before.saturating_sub(targets);
        self.unstarted.set(after);
        if before >= FEED_TARGETS && after < FEED_TARGETS {
            self.bulk_room.notify_one();
        }
    }

    /// This thread's client of an app's provider, opened when it is first needed. `None` = the provider is not configured.
    pub(crate) fn client(&self, app: &AppId, provider: Provider) -> Option<Rc<dyn Client>> {
        let key = (app.clone(), provider);
        if let Some(client) = self.clients.borrow().get(&key) {
            return Some(Rc::clone(client));
        }
        let (provider, outcomes) = (Arc::clone(self.providers.get(&key)?), Rc::clone(&self.deliveries));
        let client: Rc<dyn Client> = provider.client(self.threads, outcomes).into();
        self.clients.borrow_mut().insert(key, Rc::clone(&client));
        Some(client)
    }

    /// What stands before an app's provider.
    pub(crate) fn way(&self, app: &AppId, provider: Provider) -> Way {
        let mut ways = self.ways.borrow_mut();
        let fresh = || Way {
            turnstile: Rc::default(),
            permits: self.limits.permits(app, provider).map(Rc::new),
            // What the whole process may have open: it never binds a thread whose provider answers well.
            concurrency: Rc::new(Concurrency::new(self.max_open(app, provider), Instant::now())),
        };
        ways.entry((app.clone(), provider)).or_insert_with(fresh).clone()
    }

    fn max_open(&self, app: &AppId, provider: Provider) -> usize {
        let known = self.providers.get(&(app.clone(), provider));
        known.map_or(1, |provider| provider.max_open())
    }

    /// Lets each provider's concurrency follow what its last answers said. To be called every few dozen milliseconds.
    pub(crate) fn tick(&self) {
        let now = Instant::now();
        for way in self.ways.borrow().values() {
            way.concurrency.tick(now);
        }
    }

    /// Closes all connections.
    pub(crate) fn close(&self) {
        for client in self.clients.borrow().values() {
            client.close();
        }
    }

    /// A target's outcome: what follows for its route, and for itself.
    pub(crate) fn answered(
        self: &Rc<Self>,
        page: &Page,
        route: &RouteState,
        target: &Target,
        outcome: &Outcome,
        started: Instant,
        mode: Mode,
    ) {
        self.gate.answered();
        self.tally.count(target.route, outcome.reason());
        if let Outcome::Accepted = outcome {
            route.accepted(Instant::now());
            page.answer(target, outcome, Ending::Sent);
        } else {
            self.not_accepted(page, route, target, outcome, started);
        }
        if mode == Mode::Probe {
            holds::probed(self, route, outcome);
        }
        if self.gate.pressed() {
            self.reportable.notify_one();
        }
    }

    fn not_accepted(
        self: &Rc<Self>,
        page: &Page,
        route: &RouteState,
        target: &Target,
        outcome: &Outcome,
        started: Instant,
    ) {
        let others_accepted = route.accepted_since(started);
        let held = route.is_held();
        if let Outcome::Throttle { after, whole: true } = outcome {
            route.throttle(*after);
            if let Some(provider) = route.route.provider {
                // A minute is what stands in for a time that FCM did not name.
                let told = (*after != Duration::from_secs(60)).then_some(*after);
                self.limits.throttled(&route.app, provider, told);
            }
        }
        if let Some(reason) = route.failed(
            outcome,
            identity(target),
            target.suspect || others_accepted,
            self.clock.as_ref(),
        ) {
            holds::place(self, route, reason, outcome.reason());
        }
        let route_clock = route.clock(self.clock.as_ref());
        let at = Circumstances {
            now: self.clock.now(),
            expires_at: page.expires_at,
            route_clock,
            started: route_clock.saturating_sub(i64::try_from(started.elapsed().as_millis()).unwrap_or(0)),
            held,
            others_accepted,
            dice: rand::random(),
        };
        page.answer(target, outcome, judge(&self.config, target, outcome, &at));
    }
}

/// Tells targets apart, without keeping their tokens.
fn identity(target: &Target) -> u64 {
    let mut hasher = DefaultHasher::new();
    match &target.kind {
        TargetKind::Token(token) => token.hash(&mut hasher),
        TargetKind::Topic(name) | TargetKind::Condition(name) => name.hash(&mut hasher),
        TargetKind::Skip(_) => target.position.hash(&mut hasher),
    }
    hasher.finish()
}
