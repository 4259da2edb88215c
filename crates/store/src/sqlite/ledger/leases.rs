//! Who works on which page: in memory, because one process has the whole database to itself.
//!
//! A lease has an **epoch**, which no other lease of this process ever has; reports name it. A lease that has expired stays its
//! holder's until somebody else takes the page.
//!
//! A lease is **pinned** while a job of the writer relies on it, from the comparison of the epoch until after the commit. Nobody
//! is granted a pinned page: a taker would read the row as it was before the commit, and write its own progress over it later.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bugle_model::PageId;

/// Counts for the whole process, so that a holder who outlives a store cannot pass for one of the next.
static EPOCH: AtomicU64 = AtomicU64::new(1);

/// Longer than any lease that makes sense, and an `Instant` away.
const LONGEST: Duration = Duration::from_hours(365 * 24);

/// All leases. Cheap to clone.
#[derive(Clone, Default)]
pub(in crate::sqlite) struct Leases(Arc<Mutex<HashMap<PageId, Lease>>>);

struct Lease {
    epoch: u64,
    expires: Instant,
    pins: u32,
}

impl Lease {
    fn is_held(&self) -> bool {
        self.pins > 0 || Instant::now() < self.expires
    }
}

impl Leases {
    /// Takes the page if it is free, or its lease has expired.
    pub(super) fn grant(&self, page: PageId, lease: Duration) -> Option<Grant> {
        self.enter(page, lease, 0).map(|epoch| Grant {
            leases: self.clone(),
            page,
            epoch,
            kept: false,
        })
    }

    /// Takes the page for a job of the writer, until the pin is dropped.
    pub(super) fn seize(&self, page: PageId) -> Option<Pin> {
        self.enter(page, Duration::ZERO, 1).map(|epoch| Pin {
            leases: self.clone(),
            page,
            epoch,
            seized: true,
        })
    }

    /// Pins the lease, if this epoch still has it.
    pub(super) fn pin(&self, page: PageId, epoch: u64) -> Option<Pin> {
        let mut leases = self.lock();
        let lease = leases.get_mut(&page).filter(|lease| lease.epoch == epoch)?;
        lease.pins += 1;
        Some(Pin {
            leases: self.clone(),
            page,
            epoch,
            seized: false,
        })
    }

    /// Prolongs the lease, if this epoch still has it.
    pub(super) fn extend(&self, page: PageId, epoch: u64, lease: Duration) -> bool {
        let mut leases = self.lock();
        let Some(held) = leases.get_mut(&page).filter(|held| held.epoch == epoch) else {
            return false;
        };
        held.expires = held.expires.max(Instant::now() + lease.min(LONGEST));
        true
    }

    /// Is the page in somebody's hands?
    pub(super) fn is_held(&self, page: &PageId) -> bool {
        self.lock().get(page).is_some_and(Lease::is_held)
    }

    fn enter(&self, page: PageId, lease: Duration, pins: u32) -> Option<u64> {
        let epoch = EPOCH.fetch_add(1, Ordering::Relaxed);
        let fresh = Lease {
            epoch,
            expires: Instant::now() + lease.min(LONGEST),
            pins,
        };
        match self.lock().entry(page) {
            Entry::Occupied(held) if held.get().is_held() => return None,
            Entry::Occupied(mut expired) => drop(expired.insert(fresh)),
            Entry::Vacant(free) => drop(free.insert(fresh)),
        }
        Some(epoch)
    }

    fn remove(&self, page: &PageId, epoch: u64) {
        let mut leases = self.lock();
        if leases.get(page).is_some_and(|lease| lease.epoch == epoch) {
            leases.remove(page);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PageId, Lease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lease that nobody has been told of yet; dropped, it ends.
pub(super) struct Grant {
    leases: Leases,
    page: PageId,
    epoch: u64,
    kept: bool,
}

impl Grant {
    pub(super) fn page(&self) -> PageId {
        self.page
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Somebody has been told: the lease stands.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if !self.kept {
            self.leases.remove(&self.page, self.epoch);
        }
    }
}

/// Keeps a lease from being taken over. Dropped, the lease is as it was before.
pub(super) struct Pin {
    leases: Leases,
    page: PageId,
    epoch: u64,
    seized: bool,
}

impl Pin {
    /// Ends the lease: the page is free, or gone.
    pub(super) fn end(self) {
        self.leases.remove(&self.page, self.epoch);
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if self.seized {
            self.leases.remove(&self.page, self.epoch);
        } else if let Some(lease) = self.leases.lock().get_mut(&self.page)
            && lease.epoch == self.epoch
        {
            lease.pins -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use bugle_model::PushKey;

    use super::*;

    const PAGE: PageId = PageId {
        push: PushKey(1),
        leg: None,
        seq: 0,
    };
    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn an_expired_lease_is_the_holders_until_it_is_taken() {
        let leases = Leases::default();
        let first = leases.grant(PAGE, Duration::ZERO).unwrap();
        let epoch = first.epoch();
        first.keep();
        assert!(!leases.is_held(&PAGE));
        assert!(leases.pin(PAGE, epoch).is_some());
        let second = leases.grant(PAGE, HOUR).unwrap();
        assert!(leases.pin(PAGE, epoch).is_none());
        assert!(!leases.extend(PAGE, epoch, HOUR));
        assert!(leases.extend(PAGE, second.epoch(), HOUR));
        assert!(leases.grant(PAGE, HOUR).is_none());
    }

    #[test]
    fn nobody_takes_a_page_while_a_report_of_an_expired_lease_commits() {
        let leases = Leases::default();
        let grant = leases.grant(PAGE, Duration::ZERO).unwrap();
        let pins = [(); 2].map(|()| leases.pin(PAGE, grant.epoch()).unwrap());
        grant.keep();
        assert!(leases.grant(PAGE, HOUR).is_none());
        assert!(leases.seize(PAGE).is_none());
        drop(pins);
        assert!(leases.grant(PAGE, HOUR).is_some());
    }

    #[test]
    fn what_is_dropped_leaves_no_lease_behind() {
        let leases = Leases::default();
        drop(leases.grant(PAGE, HOUR).unwrap());
        drop(leases.seize(PAGE).unwrap());
        assert!(leases.lock().is_empty());
    }
}
