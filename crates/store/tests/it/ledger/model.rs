//! Random work, crashes and expiries over a small world. After every step each account must be what the test itself has counted,
//! target by target; in the end every push has ended and reached everybody who was meant.

mod check;
mod held;
mod ops;
mod tally;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bugle_model::{HoldReason, Next, Progress, PushKey, Recipient, Route, Taken, Verdict};
use bugle_store::{Expansion, Store};
use proptest::prelude::*;
use proptest::sample::Index;

use self::held::{Held, end};
use self::ops::{Kind, Op, ops};
use self::tally::{Tally, Who, who};
use super::world::{ANDROID, APNS, HOUR, IOS, Second, World, app, channels, ids, report_on, tokens, uid};
use crate::backend::Backend;

const CHANNELS: [&str; 3] = ["a", "b", "c"];
const ROUTES: [Route; 3] = [ANDROID, IOS, APNS];
const DEVICES: usize = 12;
/// Nobody has these ids.
const STRANGERS: usize = 95;

struct Model {
    world: World,
    /// Another process on the same database, asked as often as the first.
    second: Option<Second>,
    asked: Cell<u64>,
    tallies: BTreeMap<String, Tally>,
    held: Vec<Held>,
    /// Progress as it was last written, by push, leg and number.
    written: BTreeMap<bugle_model::PageId, Progress>,
}

impl Model {
    async fn new(backend: Backend, stores: usize) -> Self {
        let world = World::new(backend).await;
        let second = if stores == 2 { Some(world.second().await) } else { None };
        Self {
            world,
            second,
            asked: Cell::new(1),
            tallies: BTreeMap::new(),
            held: Vec::new(),
            written: BTreeMap::new(),
        }
    }

    /// One store or the other, in no order, but the same one whenever the same things are done.
    fn store(&self) -> &dyn Store {
        let mixed = self
            .asked
            .get()
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        self.asked.set(mixed);
        match &self.second {
            Some(second) if mixed >> 63 == 1 => &*second.store,
            _ => self.world.store(),
        }
    }

    async fn step(&mut self, op: Op) {
        match op {
            Op::Register(device, subscribed) => {
                let subscribed: BTreeSet<&str> = subscribed.iter().map(|c| *c.get(&CHANNELS)).collect();
                let subscribed: Vec<&str> = subscribed.into_iter().collect();
                let device = device.index(DEVICES);
                let id = format!("d{device}");
                self.world.device(&id, ROUTES[device % ROUTES.len()], &subscribed).await;
                self.changed(&id);
            }
            Op::Remove(device) => {
                let id = format!("d{}", device.index(DEVICES));
                self.world.remove(&id).await;
                self.changed(&id);
            }
            Op::Unsubscribe(device, channel) => {
                let id = format!("d{}", device.index(DEVICES));
                self.changed(&id);
                let id = bugle_model::DeviceId::parse(id).unwrap();
                let channel = [bugle_model::Channel::parse(*channel.get(&CHANNELS)).unwrap()];
                self.store().unsubscribe(&app(), &id, &channel).await.unwrap();
            }
            Op::Accept(kind, long) => self.accept(&kind, long).await,
            Op::Expand(leg, room) => self.expand(leg, room).await,
            Op::Take(page, long) => self.take(page, long).await,
            Op::Work(page, fates, open, next) => self.work(page, &fates, open, next).await,
            Op::Abandon(page) => {
                if !self.held.is_empty() {
                    self.held.remove(page.index(self.held.len()));
                }
            }
            Op::Cancel(push) => self.cancel(push).await,
            Op::Hold(route, on) => {
                let reason = on.then_some(HoldReason::Outage);
                let now = self.world.now();
                self.store()
                    .set_hold(&app(), *route.get(&ROUTES), reason, now)
                    .await
                    .unwrap();
            }
            Op::Sweep => drop(self.store().sweep(self.world.now()).await.unwrap()),
            Op::Advance(seconds) => self.world.clock.advance(Duration::from_secs(u64::from(seconds))),
            Op::Crash => {
                // A worker that outlives the store holds epochs that nobody else gets.
                self.world.crash().await;
            }
        }
        self.check().await;
    }

    async fn accept(&mut self, kind: &Kind, long: bool) {
        let name = format!("push{}", self.tallies.len() + 1);
        let mut tally = Tally::default();
        let recipient = match kind {
            Kind::Own(devices) => {
                let names: BTreeSet<String> = devices.iter().map(|d| format!("d{}", d.index(DEVICES))).collect();
                ids(&names.iter().map(String::as_str).collect::<Vec<_>>())
            }
            Kind::Tokens(count) => tokens(*count),
            Kind::Split => {
                let names: Vec<String> = (0..DEVICES)
                    .map(|d| format!("d{d}"))
                    .chain((0..STRANGERS).map(|s| format!("stranger{s}")))
                    .collect();
                ids(&names.iter().map(String::as_str).collect::<Vec<_>>())
            }
            Kind::Walked(names) => {
                let names: BTreeSet<&str> = names.iter().map(|c| *c.get(&CHANNELS)).collect();
                let names: Vec<&str> = names.into_iter().collect();
                tally.steady = self.world.pairs(&format!(
                    "SELECT id, key FROM devices WHERE provider = 1
                        AND key IN (SELECT key FROM subscriptions WHERE channel IN ('{}'))",
                    names.join("', '")
                ));
                channels(&names)
            }
        };
        tally.named = match &recipient {
            Recipient::Devices(ids) => Some(ids.len() as u64),
            Recipient::Tokens(_, tokens) => Some(tokens.len() as u64),
            _ => None,
        };
        let mut push = self.world.push(&name, recipient.clone());
        if !long {
            push.expires_at = self.world.now().plus(HOUR);
        }
        self.store().accept(push).await.unwrap();
        if let Recipient::Devices(ids) = &recipient
            && ids.len() > 100
        {
            let known = "SELECT count(*) FROM devices WHERE provider = 1";
            tally.skipped_at_once = ids.len() as u64 - u64::try_from(self.world.count(known)).unwrap();
        }
        tally.key = Some(PushKey(
            self.world
                .count(&format!("SELECT key FROM pushes WHERE uid = '{name}'")),
        ));
        self.tallies.insert(name, tally);
    }

    async fn expand(&mut self, leg: Index, room: u32) {
        let legs = self.store().open_legs(self.world.now(), 100).await.unwrap();
        if legs.is_empty() {
            return;
        }
        let leg = leg.get(&legs);
        let walk = self.world.walk(leg.push, leg.route, room).await.expect("it was open");
        let again = walk.clone();
        let moved = !walk.ranges.is_empty() || walk.closed;
        assert_eq!(self.world.expand(walk).await, Expansion::Done);
        if moved {
            assert_eq!(self.world.expand(again).await, Expansion::Stale);
        }
    }

    async fn take(&mut self, page: Index, long: bool) {
        let due = self.world.due().await;
        if due.is_empty() {
            return;
        }
        let page = *page.get(&due);
        let lease = if long { HOUR } else { Duration::ZERO };
        let taken = self.store().take(&[page], lease).await.unwrap();
        self.hold(taken.into_iter().next().expect("it was free"));
    }

    fn hold(&mut self, taken: Taken) {
        let name = self.name(taken.id.push);
        let written = self.written.get(&taken.id).cloned().unwrap_or_default();
        assert_eq!(taken.progress, written);
        let ended = &self.tallies[&name].ended;
        for target in &taken.targets {
            let who = who(&taken, target);
            assert!(!ended.contains_key(&who), "{who:?} of {name} has ended and comes again");
        }
        let mut report = report_on(&taken, Next::Continue);
        report.progress.open.clear();
        self.held.push(Held {
            rest: taken.targets.clone(),
            news: Vec::new(),
            report,
            taken,
        });
    }

    /// Ends targets of a page and reports.
    async fn work(&mut self, page: Index, fates: &[u8], open: u8, next: u8) {
        if self.held.is_empty() {
            return;
        }
        let at = page.index(self.held.len());
        let now = self.world.now();
        let held = &mut self.held[at];
        let all = next == 0;
        let flow = held.taken.flow;
        let count = if all {
            held.rest.len()
        } else {
            fates.len().min(held.rest.len())
        };
        for (number, target) in held.rest.drain(..count).collect::<Vec<_>>().iter().enumerate() {
            end(held, target, flow, fates.get(number).copied().unwrap_or(9), now);
        }
        // What was open when the page was taken, and has not ended, is still open.
        let progress = &mut held.report.progress;
        let begun = held.rest.iter().filter(|t| t.position <= progress.position).count();
        progress.open = held
            .rest
            .iter()
            .take(begun.max(usize::from(open)))
            .map(|t| t.position)
            .collect();
        progress.position = progress.open.last().copied().unwrap_or(0).max(progress.position);
        held.report.next = match next {
            0 => Next::Settle,
            1 => Next::GiveBack(now.plus(Duration::from_secs(u64::from(open)))),
            _ => Next::Continue,
        };
        self.send(at).await;
    }

    async fn send(&mut self, at: usize) {
        let held = &mut self.held[at];
        let report = held.report.clone();
        let verdict = self
            .world
            .store()
            .report(vec![report.clone()], self.world.now())
            .await
            .unwrap()[0];
        let Verdict::Written(flow) = verdict else {
            self.held.remove(at);
            return;
        };
        held.taken.flow = flow;
        held.report.dead.clear();
        (held.report.answered, held.report.payload) = (0, 0);
        let news = std::mem::take(&mut held.news);
        let name = self.name(report.id.push);
        let tally = self.tallies.get_mut(&name).unwrap();
        let mut dead = BTreeSet::new();
        for (who, how) in news {
            if let (Who::Device(key), "invalid") = (&who, how) {
                dead.insert(*key);
            }
            assert!(
                tally.ended.insert(who.clone(), how).is_none(),
                "{who:?} is counted twice"
            );
        }
        for tally in self.tallies.values_mut() {
            tally
                .steady
                .retain(|_, key| !dead.contains(key) || tally.ended.contains_key(&Who::Device(*key)));
        }
        match report.next {
            Next::Continue => drop(self.written.insert(report.id, report.progress)),
            Next::GiveBack(_) => {
                self.written.insert(report.id, report.progress);
                self.held.remove(at);
            }
            Next::Settle => {
                self.written.remove(&report.id);
                self.held.remove(at);
            }
        }
    }

    async fn cancel(&mut self, push: Index) {
        if self.tallies.is_empty() {
            return;
        }
        let name = format!("push{}", push.index(self.tallies.len()) + 1);
        self.tallies.get_mut(&name).unwrap().stopped = true;
        assert!(
            self.store()
                .cancel(&app(), &uid(&name), self.world.now())
                .await
                .unwrap()
        );
    }

    /// Whether this device is still meant by pushes that run is for them to find out.
    fn changed(&mut self, id: &str) {
        for tally in self.tallies.values_mut() {
            tally.steady.remove(id);
        }
    }

    fn name(&self, key: PushKey) -> String {
        let found = self.tallies.iter().find(|(_, tally)| tally.key == Some(key));
        found.expect("a known push").0.clone()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_account_is_exact_whatever_happens(ops in ops()) {
        run(Backend::Sqlite, 1, ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_account_is_exact_on_postgresql_whatever_happens(ops in ops()) {
        run(Backend::Postgres, 1, ops);
    }

    #[test]
    fn every_account_is_exact_whichever_of_two_processes_does_it(ops in ops()) {
        run(Backend::Postgres, 2, ops);
    }
}

fn run(backend: Backend, stores: usize, ops: Vec<Op>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut model = Model::new(backend, stores).await;
        for op in ops {
            model.step(op).await;
        }
        model.finish().await;
    });
}
