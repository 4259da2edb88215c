//! References in the order of fair turns: round the apps, within an app round the legs.

use std::collections::{HashMap, VecDeque};

use bugle_model::{AppId, PageRef, PushKey, Route};

type LegKey = (PushKey, Option<Route>);

/// References that wait for their turn.
#[derive(Default)]
pub(super) struct Turns {
    /// Apps that have something waiting, in turn.
    ring: VecDeque<AppId>,
    apps: HashMap<AppId, Legs>,
    len: usize,
}

#[derive(Default)]
struct Legs {
    /// Legs that have something waiting, in turn.
    ring: VecDeque<LegKey>,
    pages: HashMap<LegKey, VecDeque<PageRef>>,
}

impl Turns {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, page: PageRef) {
        let legs = self.apps.entry(page.app.clone()).or_default();
        if legs.ring.is_empty() {
            self.ring.push_back(page.app.clone());
        }
        let key = (page.id.push, page.id.leg);
        let pages = legs.pages.entry(key).or_default();
        if pages.is_empty() {
            legs.ring.push_back(key);
        }
        pages.push_back(page);
        self.len += 1;
    }

    /// The next reference: the next app's next leg's oldest.
    pub(super) fn pop(&mut self) -> Option<PageRef> {
        let app = self.ring.pop_front()?;
        let legs = self.apps.get_mut(&app)?;
        let key = legs.ring.pop_front()?;
        let pages = legs.pages.get_mut(&key)?;
        let page = pages.pop_front()?;
        if pages.is_empty() {
            legs.pages.remove(&key);
        } else {
            legs.ring.push_back(key);
        }
        if legs.ring.is_empty() {
            self.apps.remove(&app);
        } else {
            self.ring.push_back(app);
        }
        self.len -= 1;
        Some(page)
    }

    /// Takes out every reference of an app's route.
    pub(super) fn drop_route(&mut self, app: &AppId, route: Route) -> Vec<PageRef> {
        let Some(legs) = self.apps.get_mut(app) else {
            return Vec::new();
        };
        let held: Vec<LegKey> = legs
            .ring
            .iter()
            .filter(|(_, leg)| *leg == Some(route))
            .copied()
            .collect();
        legs.ring.retain(|key| !held.contains(key));
        let dropped: Vec<PageRef> = held.iter().filter_map(|key| legs.pages.remove(key)).flatten().collect();
        if legs.ring.is_empty() {
            self.apps.remove(app);
            self.ring.retain(|a| a != app);
        }
        self.len -= dropped.len();
        dropped
    }
}
