//! Takes pages as there is room for them, those of each lane for themselves: an urgent page does not wait while the thousands of targets of bulk pages are read.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bugle_model::{Lane, PageId, PageRef};
use bugle_queue::Want;
use tokio::sync::Notify;

use crate::thread::Thread;
use crate::work::Mode;

/// Bulk pages are taken while fewer targets than this wait in the thread: enough to keep every stream busy, few enough to stay fresh.
pub(crate) const FEED_TARGETS: usize = 3_000;
/// Pages of each lane in work at most, most of them waiting for their last answers.
const PAGES: usize = 512;
/// Urgent pages are taken in batches of so many.
const URGENT_BATCH: usize = 64;
/// Bulk pages are taken in batches of so many.
const BULK_BATCH: usize = 4;
/// The pause after the store has failed.
const PAUSE: Duration = Duration::from_millis(250);

impl Thread {
    /// Takes pages of a lane until the stop.
    pub(crate) async fn take_pages(self: Rc<Self>, lane: Lane) {
        while !self.stop.is_cancelled() {
            let room = self.room(lane).notified();
            let want = self.want(lane);
            if want.urgent + want.bulk == 0 {
                tokio::select! {
                    () = room => {}
                    () = self.stop.cancelled() => return,
                }
                continue;
            }
            tokio::select! {
                refs = self.queue.take(want) => self.lease(refs).await,
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Rings when there is room for pages of a lane.
    pub(crate) fn room(&self, lane: Lane) -> &Notify {
        match lane {
            Lane::Urgent => &self.urgent_room,
            Lane::Bulk => &self.bulk_room,
        }
    }

    fn want(&self, lane: Lane) -> Want {
        let pages = self.pages.borrow().values().filter(|page| page.lane == lane).count();
        let room = PAGES - pages.min(PAGES);
        match lane {
            Lane::Urgent => Want {
                urgent: room.min(URGENT_BATCH),
                bulk: 0,
            },
            Lane::Bulk if self.unstarted.get() < FEED_TARGETS => Want {
                urgent: 0,
                bulk: room.min(BULK_BATCH),
            },
            Lane::Bulk => Want { urgent: 0, bulk: 0 },
        }
    }

    async fn lease(self: &Rc<Self>, refs: Vec<PageRef>) {
        let ids: Vec<PageId> = refs.iter().map(|page| page.id).collect();
        let lease_until = Instant::now() + self.config.lease.get();
        match self.store.take(&ids, self.config.lease.get()).await {
            Ok(taken) => {
                let idle: Vec<PageId> = ids
                    .into_iter()
                    .filter(|id| !taken.iter().any(|page| page.id == *id))
                    .collect();
                self.queue.done(&idle);
                for page in taken {
                    self.begin(page, lease_until, Mode::All);
                }
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    pages = ids.len(),
                    "cannot take pages: the store failed"
                );
                self.queue.done(&ids);
                tokio::time::sleep(PAUSE).await;
                self.queue.offer(refs);
            }
        }
    }
}
