//! Where the reports of all threads become one call of the store.
//!
//! A report costs the store about the same for one page as for many, and reports of one broadcast wait for each other's locks. So there is one round at a time: the thread that
//! asks first leads it, calls the others, waits a moment for what they have, writes everything, and tells each what became of its pages. What comes while a round is
//! under way waits for the next.
//!
//! Invariants: what was laid down is written by exactly one round, or its thread is told that it was not; nobody leads while another does.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bugle_model::{Report, Timestamp, Verdict};
use bugle_store::Store;
use tokio::sync::{Notify, oneshot};

/// So long a round waits for other threads. They answer within microseconds, unless they or their cores are busy.
const COMPANY: Duration = Duration::from_millis(2);

/// The store did not take a round: nobody knows what became of it.
type Outcome = Result<Vec<Verdict>, Arc<bugle_store::Error>>;

/// What a thread has laid down, and where the verdicts go.
struct Asked {
    thread: usize,
    reports: Vec<Report>,
    told: oneshot::Sender<Outcome>,
}

/// What all threads share.
struct Desk {
    store: Arc<dyn Store>,
    calls: Vec<Call>,
    /// Threads that still take part.
    present: AtomicUsize,
    /// The next round, and with it what is asked of the threads that have not come.
    asked: Mutex<Vec<Asked>>,
    arrived: Notify,
    lead: tokio::sync::Mutex<()>,
}

/// How a thread is called.
#[derive(Default)]
struct Call {
    bell: Arc<Notify>,
    /// A round takes part of it, whether or not there is anything to report.
    round: AtomicBool,
    /// And wants all that is not written down.
    thorough: AtomicBool,
}

/// A thread's place.
pub(crate) struct Seat {
    desk: Arc<Desk>,
    number: usize,
}

/// What a round asks of a thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Called {
    /// To lay down what it has, if only nothing.
    pub(crate) round: bool,
    /// Progress, too, that could wait.
    pub(crate) thorough: bool,
}

impl Call {
    fn take(&self) -> Called {
        Called {
            round: self.round.swap(false, Ordering::AcqRel),
            thorough: self.thorough.swap(false, Ordering::AcqRel),
        }
    }
}

/// A place for each of so many threads.
pub(crate) fn seats(store: &Arc<dyn Store>, threads: usize) -> Vec<Seat> {
    let desk = Arc::new(Desk {
        store: Arc::clone(store),
        calls: (0..threads).map(|_| Call::default()).collect(),
        present: AtomicUsize::new(threads),
        asked: Mutex::default(),
        arrived: Notify::new(),
        lead: tokio::sync::Mutex::default(),
    });
    (0..threads)
        .map(|number| Seat {
            desk: Arc::clone(&desk),
            number,
        })
        .collect()
}

impl Seat {
    /// Rings when this thread is called. The thread may ring it itself.
    pub(crate) fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.desk.calls[self.number].bell)
    }

    /// What was asked of this thread since it was last looked.
    pub(crate) fn called(&self) -> Called {
        self.desk.calls[self.number].take()
    }

    /// Has reports written, together with those of other threads, which are called if this one leads. Verdicts are in the reports' order.
    pub(crate) async fn submit(&self, reports: Vec<Report>, thorough: bool, now: Timestamp) -> Outcome {
        let desk = &self.desk;
        let leads = !reports.is_empty();
        let mut verdicts = desk.lay_down(self.number, reports);
        let _lead = desk.lead.lock().await;
        match verdicts.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) if leads => {}
            // Called, and too late.
            Err(oneshot::error::TryRecvError::Empty) => {
                desk.asked().retain(|asked| asked.thread != self.number);
                return Ok(Vec::new());
            }
            told => return told.unwrap_or_else(|_| Err(given_up())),
        }
        desk.gather(thorough).await;
        desk.write(now).await;
        verdicts.await.unwrap_or_else(|_| Err(given_up()))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.desk.present.fetch_sub(1, Ordering::AcqRel);
        self.desk.arrived.notify_one();
    }
}

impl Desk {
    fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lay_down(&self, thread: usize, reports: Vec<Report>) -> oneshot::Receiver<Outcome> {
        let (told, verdicts) = oneshot::channel();
        let mut asked = self.asked();
        self.calls[thread].take();
        asked.push(Asked { thread, reports, told });
        drop(asked);
        self.arrived.notify_one();
        verdicts
    }

    /// Calls those who have not come.
    fn call(&self, thorough: bool) {
        let asked = self.asked();
        for (thread, call) in self.calls.iter().enumerate() {
            if asked.iter().all(|asked| asked.thread != thread) {
                call.thorough.store(thorough, Ordering::Release);
                call.round.store(true, Ordering::Release);
                call.bell.notify_one();
            }
        }
    }

    /// Calls the others, and waits until all have come or the time is over.
    async fn gather(&self, thorough: bool) {
        self.call(thorough);
        let all_came = async {
            while !self.is_complete() {
                self.arrived.notified().await;
            }
        };
        // Who comes later leads the next round.
        let _ = tokio::time::timeout(COMPANY, all_came).await;
    }

    fn is_complete(&self) -> bool {
        self.asked().len() >= self.present.load(Ordering::Acquire)
    }

    /// Closes the round: what comes now is for the next one.
    fn take_round(&self) -> Vec<Asked> {
        let mut asked = self.asked();
        for call in &self.calls {
            call.take();
        }
        std::mem::take(&mut *asked)
    }

    async fn write(&self, now: Timestamp) {
        let (mut all, mut waiting) = (Vec::new(), Vec::with_capacity(self.calls.len()));
        for Asked { reports, told, .. } in self.take_round() {
            waiting.push((reports.len(), told));
            all.extend(reports);
        }
        let written = if all.is_empty() {
            Ok(Vec::new())
        } else {
            self.store.report(all, now).await.map_err(Arc::new)
        };
        let mut verdicts = written.map(Vec::into_iter);
        for (count, told) in waiting {
            let of_thread = match &mut verdicts {
                Ok(verdicts) => Ok(verdicts.take(count).collect()),
                Err(error) => Err(Arc::clone(error)),
            };
            // A thread that is gone needs no verdicts.
            let _ = told.send(of_thread);
        }
    }
}

/// The thread that led the round is gone.
fn given_up() -> Arc<bugle_store::Error> {
    Arc::new(bugle_store::Error::Unavailable("the round was given up".into()))
}

#[cfg(test)]
mod tests;
