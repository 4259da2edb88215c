//! Writes down what has become of the pages in work.
//!
//! One loop per thread. A report takes what there is. Finished pages are reported at once if they are urgent or the last in work, all others every `sender.progress`, sooner
//! when the gate is half full. All threads report together (`desk`).

use std::rc::Rc;
use std::time::{Duration, Instant};

use bugle_model::{PageId, Report};

use crate::metrics as names;
use crate::page::{Page, Sent};
use crate::thread::Thread;

/// So many pages go into one call.
const BATCH: usize = 256;

/// Runs until the stop, and then until nothing is left to be written, or the grace period is over and all has been tried once more.
pub(crate) async fn run(thread: Rc<Thread>) {
    let mut failures = 0u32;
    loop {
        let over = thread.abort.is_cancelled();
        match write(&thread).await {
            Ok(0) if thread.stop.is_cancelled() && (thread.pages.borrow().is_empty() || over) => return,
            Ok(_) => failures = 0,
            Err(()) if over => return,
            Err(()) => failures += 1,
        }
        let pause = if failures > 0 {
            Duration::from_millis(50) * 2u32.pow(failures.min(6))
        } else {
            thread.config.progress.get()
        };
        tokio::select! {
            () = thread.reportable.notified(), if failures == 0 => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Reports what wants to be reported, in one call. Returns how many pages that were.
pub(crate) async fn write(thread: &Rc<Thread>) -> Result<usize, ()> {
    thread.tally.flush();
    thread.tick();
    drop_lost(thread);
    let called = thread.seat.called();
    let thorough = thread.gate.pressed() || called.thorough;
    let after = if thorough {
        Duration::ZERO
    } else {
        thread.config.progress.get()
    };
    let pages: Vec<Rc<Page>> = thread
        .pages
        .borrow()
        .values()
        .filter(|page| page.wants_report(after))
        .take(BATCH)
        .cloned()
        .collect();
    metrics::gauge!(names::PAGES).set(u32::try_from(thread.pages.borrow().len()).unwrap_or(u32::MAX));
    if pages.is_empty() && !called.round {
        return Ok(0);
    }
    let (reports, sent): (Vec<Report>, Vec<Sent>) = pages.iter().map(|page| page.report()).unzip();
    match thread.seat.submit(reports, thorough, thread.clock.now()).await {
        Ok(verdicts) => {
            let mut out = Vec::new();
            for ((page, sent), verdict) in pages.iter().zip(&sent).zip(verdicts) {
                thread.gate.wrote(page.reported(sent, verdict));
                if sent.last && !page.is_lost() {
                    thread.release(page);
                    out.push(page.id);
                }
            }
            thread.queue.done(&out);
            Ok(pages.len())
        }
        // It was another thread's failure.
        Err(_) if pages.is_empty() => Ok(0),
        Err(error) => {
            metrics::counter!(names::FAILED_REPORTS).increment(1);
            tracing::error!(
                error = &*error as &dyn std::error::Error,
                pages = pages.len(),
                "cannot write outcomes down: the store failed; they are kept and tried again"
            );
            for page in &pages {
                page.unreported();
            }
            Err(())
        }
    }
}

/// Lets go of pages that somebody else has, once none of their requests is open.
fn drop_lost(thread: &Rc<Thread>) {
    let lost: Vec<Rc<Page>> = thread
        .pages
        .borrow()
        .values()
        .filter(|page| page.is_lost() && page.in_flight() == 0)
        .cloned()
        .collect();
    for page in &lost {
        metrics::counter!(names::LOST_PAGES).increment(1);
        thread.release(page);
    }
    if !lost.is_empty() {
        thread
            .queue
            .done(&lost.iter().map(|page| page.id).collect::<Vec<PageId>>());
    }
}

/// Prolongs the leases of pages in work, well before they run out.
pub(crate) async fn prolong(thread: Rc<Thread>) {
    let every = thread.config.lease.get() / 6;
    loop {
        tokio::select! {
            () = thread.abort.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        let pages: Vec<Rc<Page>> = thread.pages.borrow().values().cloned().collect();
        if pages.is_empty() {
            continue;
        }
        let ids: Vec<(PageId, u64)> = pages.iter().map(|page| (page.id, page.epoch)).collect();
        let until = Instant::now() + thread.config.lease.get();
        match thread.store.extend(&ids, thread.config.lease.get()).await {
            Ok(verdicts) => {
                for (page, verdict) in pages.iter().zip(verdicts) {
                    page.extended(verdict, until);
                }
            }
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot prolong leases: the store failed"
            ),
        }
    }
}
