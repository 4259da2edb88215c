//! Which lane starts next, when both wait and not all can start.
//!
//! Urgent first, but every fifth start is bulk's as long as bulk waits. So an urgent target waits behind one bulk start at most, and a flood of pushes to single
//! devices leaves a broadcast its fifth. Of what bulk did not use while it had nothing waiting one start is
//! kept, not more.
//!
//! [`Lanes`] decides and is pure. The [`Turnstile`] stands in front of a client's slots, which are given to whoever came first: it lets one page at a time
//! wait for a slot, and the others wait in front of it, by lane.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bugle_model::Lane;
use tokio::sync::oneshot;

/// Of so many starts one is bulk's.
const PARTS: u32 = 5;

/// Takes turns.
#[derive(Debug, Default)]
struct Lanes {
    /// Urgent starts since bulk's last one, as far as they count.
    passed: Cell<u32>,
}

impl Lanes {
    /// An urgent target starts while bulk does not wait: a page between two starts is not there for a moment, and must not lose its part by that.
    fn alone(&self) {
        self.passed.set((self.passed.get() + 1).min(PARTS - 1));
    }

    /// An urgent target would start while bulk waits: `false` = it is bulk's turn.
    fn pass(&self) -> bool {
        let may = self.passed.get() + 1 < PARTS;
        if may {
            self.passed.set(self.passed.get() + 1);
        }
        may
    }

    /// The lane that starts now, given which have something waiting. `None` = neither has.
    fn next(&self, urgent: bool, bulk: bool) -> Option<Lane> {
        match (urgent, bulk) {
            (false, false) => None,
            (true, false) => {
                self.alone();
                Some(Lane::Urgent)
            }
            (true, true) if self.pass() => Some(Lane::Urgent),
            (_, true) => {
                self.passed.set(0);
                Some(Lane::Bulk)
            }
        }
    }
}

/// In front of one client's slots.
#[derive(Debug, Default)]
pub(crate) struct Turnstile {
    lanes: Lanes,
    /// Whose page is in.
    inside: Cell<Option<Lane>>,
    urgent: RefCell<VecDeque<oneshot::Sender<Turn>>>,
    bulk: RefCell<VecDeque<oneshot::Sender<Turn>>>,
}

/// The right to wait for a slot. The next one's when dropped.
#[derive(Debug)]
pub(crate) struct Turn(Rc<Turnstile>);

impl Turnstile {
    /// Waits for the turn. Cancel-safe.
    pub(crate) async fn enter(self: &Rc<Self>, lane: Lane) -> Turn {
        if self.inside.get().is_none() {
            self.inside.set(Some(lane));
            return Turn(Rc::clone(self));
        }
        let (call, called) = oneshot::channel();
        self.queue(lane).borrow_mut().push_back(call);
        match called.await {
            Ok(turn) => turn,
            // A call is dropped unsent only with the turnstile, which this future keeps.
            Err(_) => std::future::pending().await,
        }
    }

    /// May a page that has just started a target start another at once, past those that wait? A yes to an urgent one counts as its start.
    pub(crate) fn may_pass(&self, lane: Lane) -> bool {
        // Who is in may only just have been called, and find the slot taken.
        let other_is_in = self.inside.get().is_some_and(|inside| inside != lane);
        match lane {
            _ if other_is_in => false,
            Lane::Bulk => !self.waits(Lane::Urgent),
            Lane::Urgent if self.waits(Lane::Bulk) => self.lanes.pass(),
            Lane::Urgent => {
                self.lanes.alone();
                true
            }
        }
    }

    fn queue(&self, lane: Lane) -> &RefCell<VecDeque<oneshot::Sender<Turn>>> {
        match lane {
            Lane::Urgent => &self.urgent,
            Lane::Bulk => &self.bulk,
        }
    }

    /// Does anybody wait there who has not gone away?
    fn waits(&self, lane: Lane) -> bool {
        let mut queue = self.queue(lane).borrow_mut();
        while queue.front().is_some_and(oneshot::Sender::is_closed) {
            queue.pop_front();
        }
        !queue.is_empty()
    }

    /// Nobody is in: calls the next.
    fn call(self: &Rc<Self>) {
        self.inside.set(None);
        let Some(lane) = self.lanes.next(self.waits(Lane::Urgent), self.waits(Lane::Bulk)) else {
            return;
        };
        let next = self.queue(lane).borrow_mut().pop_front();
        if let Some(next) = next {
            self.inside.set(Some(lane));
            // Who goes away before hearing it drops the turn, which calls the next.
            let _ = next.send(Turn(Rc::clone(self)));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.call();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_urgent_target_does_not_wait_behind_bulk_ones() {
        let lanes = Lanes::default();
        for _ in 0..1_000 {
            assert_eq!(lanes.next(false, true), Some(Lane::Bulk));
        }
        assert_eq!(lanes.next(true, true), Some(Lane::Urgent));
        assert_eq!(lanes.next(false, false), None);
    }

    /// Pages of both lanes want slots, of which one becomes free at a time; each start is noted.
    async fn race(urgent: usize, bulk: usize, starts: usize) -> Vec<Lane> {
        let turnstile = Rc::new(Turnstile::default());
        let free = Rc::new(tokio::sync::Semaphore::new(0));
        let noted = Rc::new(RefCell::new(Vec::new()));
        let lanes = std::iter::repeat_n(Lane::Urgent, urgent).chain(std::iter::repeat_n(Lane::Bulk, bulk));
        let pages: Vec<_> = lanes
            .map(|lane| {
                let (turnstile, free, noted) = (Rc::clone(&turnstile), Rc::clone(&free), Rc::clone(&noted));
                tokio::task::spawn_local(async move {
                    loop {
                        let turn = turnstile.enter(lane).await;
                        free.acquire().await.unwrap().forget();
                        drop(turn);
                        noted.borrow_mut().push(lane);
                        while turnstile.may_pass(lane) {
                            let Ok(slot) = free.try_acquire() else { break };
                            slot.forget();
                            noted.borrow_mut().push(lane);
                        }
                    }
                })
            })
            .collect();
        while noted.borrow().len() < starts {
            free.add_permits(7);
            tokio::task::yield_now().await;
        }
        for page in pages {
            page.abort();
        }
        noted.take()
    }

    #[tokio::test]
    async fn of_many_pages_that_want_slots_one_in_five_starts_is_bulk_s() {
        tokio::task::LocalSet::new()
            .run_until(async {
                for (urgent, bulk) in [(500, 4), (500, 1), (5, 500), (1, 1)] {
                    let starts = race(urgent, bulk, 5_000).await;
                    let of_bulk = starts.iter().filter(|lane| **lane == Lane::Bulk).count();
                    assert!(
                        of_bulk * 5 >= starts.len() - 10,
                        "{urgent} and {bulk}: {of_bulk} of {}",
                        starts.len()
                    );
                    if urgent >= 5 {
                        assert!(
                            of_bulk * 10 <= starts.len() * 3,
                            "{urgent} and {bulk}: {of_bulk} of {}",
                            starts.len()
                        );
                    }
                }
                let alone = race(0, 3, 1_000).await;
                assert!(alone.len() >= 1_000, "bulk alone has everything");
            })
            .await;
    }

    #[tokio::test]
    async fn who_goes_away_while_waiting_or_when_called_holds_up_nobody() {
        let turnstile = Rc::new(Turnstile::default());
        let first = turnstile.enter(Lane::Bulk).await;
        let mut gone = Box::pin(turnstile.enter(Lane::Urgent));
        let mut called = Box::pin(turnstile.enter(Lane::Urgent));
        let mut last = Box::pin(turnstile.enter(Lane::Bulk));
        for waiting in [&mut gone, &mut called, &mut last] {
            assert!(looked_at(waiting).await.is_none());
        }
        drop(gone);
        drop(first);
        // It was called and has not heard of it.
        drop(called);
        assert!(looked_at(&mut last).await.is_some());
        assert!(turnstile.inside.get().is_none(), "the last one's turn was dropped");
    }

    /// One look at a future.
    async fn looked_at<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
                std::task::Poll::Ready(value) => Some(value),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }

    proptest! {
        #[test]
        fn bulk_has_a_fifth_of_any_stretch_in_which_it_waits_and_urgent_waits_for_one_start(
            before in prop::collection::vec(any::<(bool, bool)>(), 0..50),
            urgents in prop::collection::vec(any::<bool>(), 1..200),
        ) {
            let lanes = Lanes::default();
            for (urgent, bulk) in before {
                lanes.next(urgent, bulk);
            }
            let starts: Vec<_> = urgents.iter().map(|urgent| (*urgent, lanes.next(*urgent, true).unwrap())).collect();
            let bulk = starts.iter().filter(|(_, lane)| *lane == Lane::Bulk).count();
            prop_assert!(bulk >= starts.len() / 5, "{bulk} of {}", starts.len());
            for pair in starts.windows(2) {
                let both = pair.iter().all(|(urgent, lane)| *urgent && *lane == Lane::Bulk);
                prop_assert!(!both, "two bulk starts while an urgent target waited");
            }
        }
    }
}
