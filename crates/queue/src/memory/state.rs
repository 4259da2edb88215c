//! What the embedded queue remembers, and the moves between its parts.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use bugle_model::{AppId, Lane, PageId, PageRef, Route, Timestamp};

use super::turns::Turns;
use crate::{Want, metrics as names};

/// References due later than this ahead stay in the ledger: the regular sweep brings them in time.
const HORIZON_MS: i64 = 90_000;

/// Where a known page is.
enum Place {
    Waiting,
    /// A worker has it; the reference is what was offered meanwhile.
    Taken(Option<PageRef>),
}

#[derive(Default)]
struct LaneState {
    ready: Turns,
    later: BinaryHeap<Reverse<Later>>,
    /// References were dropped for lack of room since the ledger was last read to its end.
    behind: bool,
}

impl LaneState {
    fn len(&self) -> usize {
        self.ready.len() + self.later.len()
    }
}

/// Orders by due time, then by page, so that equal times keep the ledger's order.
struct Later(PageRef);

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        (self.0.due, self.0.id) == (other.0.due, other.0.id)
    }
}
impl Eq for Later {}
impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0.due, self.0.id).cmp(&(other.0.due, other.0.id))
    }
}

pub(super) struct State {
    cap: usize,
    urgent: LaneState,
    bulk: LaneState,
    known: HashMap<PageId, Place>,
    held: HashSet<(AppId, Route)>,
    /// It tells its metrics.
    metrics: bool,
}

impl State {
    pub(super) fn new(cap: usize) -> Self {
        Self {
            cap,
            urgent: LaneState::default(),
            bulk: LaneState::default(),
            known: HashMap::new(),
            held: HashSet::new(),
            metrics: true,
        }
    }

    pub(super) fn room(&self) -> usize {
        self.cap
    }

    pub(super) fn silence(&mut self) {
        self.metrics = false;
    }

    pub(super) fn knows(&self, page: PageId) -> bool {
        self.known.contains_key(&page)
    }

    pub(super) fn waiting(&self, lane: Lane) -> usize {
        match lane {
            Lane::Urgent => self.urgent.len(),
            Lane::Bulk => self.bulk.len(),
        }
    }

    pub(super) fn drain(&mut self) -> Vec<PageRef> {
        let mut drained = Vec::new();
        for lane in [Lane::Urgent, Lane::Bulk] {
            let state = self.lane(lane);
            drained.extend(std::iter::from_fn(|| state.ready.pop()));
            drained.extend(state.later.drain().map(|Reverse(Later(page))| page));
        }
        for page in &drained {
            self.known.remove(&page.id);
        }
        self.gauge();
        drained
    }

    fn lane(&mut self, lane: Lane) -> &mut LaneState {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Bulk => &mut self.bulk,
        }
    }

    /// Adds what is new, not held and has room. Says whether anything was added.
    pub(super) fn offer(&mut self, pages: Vec<PageRef>, now: Timestamp) -> bool {
        let mut added = false;
        for page in pages {
            added |= self.offer_one(page, now);
        }
        self.gauge();
        added
    }

    fn offer_one(&mut self, page: PageRef, now: Timestamp) -> bool {
        match self.known.get_mut(&page.id) {
            Some(Place::Waiting) => return false,
            Some(Place::Taken(again)) => {
                *again = Some(page);
                return false;
            }
            None => {}
        }
        let held = page
            .id
            .leg
            .is_some_and(|route| self.held.contains(&(page.app.clone(), route)));
        if held || page.due.0.saturating_sub(now.0) > HORIZON_MS {
            return false;
        }
        let cap = self.cap;
        let lane_name = page.lane.as_str();
        let lane = self.lane(page.lane);
        if lane.len() >= cap {
            lane.behind = true;
            metrics::counter!(names::DROPPED, "lane" => lane_name).increment(1);
            return false;
        }
        let id = page.id;
        if page.due <= now {
            lane.ready.push(page);
        } else {
            lane.later.push(Reverse(Later(page)));
        }
        self.known.insert(id, Place::Waiting);
        true
    }

    pub(super) fn take(&mut self, want: Want, now: Timestamp) -> Vec<PageRef> {
        let mut taken = Vec::new();
        for (lane, want) in [(Lane::Urgent, want.urgent), (Lane::Bulk, want.bulk)] {
            let state = self.lane(lane);
            while state.later.peek().is_some_and(|Reverse(later)| later.0.due <= now) {
                if let Some(Reverse(Later(page))) = state.later.pop() {
                    state.ready.push(page);
                }
            }
            taken.extend(std::iter::from_fn(|| state.ready.pop()).take(want));
        }
        for page in &taken {
            self.known.insert(page.id, Place::Taken(None));
        }
        if !taken.is_empty() {
            self.gauge();
        }
        taken
    }

    /// When the next reference of a wanted lane becomes due.
    pub(super) fn next_due(&self, want: Want) -> Option<Timestamp> {
        let due =
            |lane: &LaneState, want: usize| lane.later.peek().filter(|_| want > 0).map(|Reverse(later)| later.0.due);
        [due(&self.urgent, want.urgent), due(&self.bulk, want.bulk)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Is a lane that dropped references half empty?
    pub(super) fn hungry(&self) -> bool {
        [&self.urgent, &self.bulk]
            .into_iter()
            .any(|lane| lane.behind && lane.len() * 2 <= self.cap)
    }

    pub(super) fn refilled(&mut self, lane: Lane, complete: bool) {
        self.lane(lane).behind = !complete;
    }

    pub(super) fn done(&mut self, pages: &[PageId], now: Timestamp) -> bool {
        let mut added = false;
        for page in pages {
            match self.known.remove(page) {
                Some(Place::Taken(Some(again))) => added |= self.offer_one(again, now),
                // A worker may say it of a page whose reference came back from elsewhere: that one waits on.
                Some(Place::Waiting) => {
                    self.known.insert(*page, Place::Waiting);
                }
                Some(Place::Taken(None)) | None => {}
            }
        }
        added
    }

    /// The pages that were dropped.
    pub(super) fn hold(&mut self, app: &AppId, route: Route) -> Vec<PageId> {
        let mut all = Vec::new();
        self.held.insert((app.clone(), route));
        for lane in [Lane::Urgent, Lane::Bulk] {
            let state = self.lane(lane);
            let mut dropped: Vec<PageId> = state
                .ready
                .drop_route(app, route)
                .into_iter()
                .map(|page| page.id)
                .collect();
            state.later.retain(|Reverse(Later(page))| {
                let held = page.app == *app && page.id.leg == Some(route);
                if held {
                    dropped.push(page.id);
                }
                !held
            });
            for id in dropped {
                self.known.remove(&id);
                all.push(id);
            }
        }
        self.gauge();
        all
    }

    pub(super) fn release(&mut self, app: &AppId, route: Route) {
        self.held.remove(&(app.clone(), route));
    }

    #[expect(clippy::cast_precision_loss, reason = "a lane holds at most a million references")]
    fn gauge(&self) {
        if !self.metrics {
            return;
        }
        for (name, lane) in [(Lane::Urgent, &self.urgent), (Lane::Bulk, &self.bulk)] {
            metrics::gauge!(names::WAITING, "lane" => name.as_str()).set(lane.len() as f64);
        }
    }
}
