//! Places holds, probes them, ends them.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bugle_model::{HoldReason, Outcome, Scope};

use crate::metrics as names;
use crate::routes::RouteState;
use crate::thread::Thread;
use crate::work::Mode;

/// Holds of other processes are noticed within this time.
const REFRESH: Duration = Duration::from_secs(1);

/// The evidence was enough: nothing more is started on the route. It is written down for others and for later, and tried again for as long as that fails.
pub(crate) fn place(thread: &Rc<Thread>, route: &RouteState, reason: HoldReason, word: &'static str) {
    tracing::error!(app.id = %route.app, provider = route.route.provider_str(), platform = route.route.platform_str(), reason = reason.as_str(), answer = word,
    "on hold: {}", match reason {
        HoldReason::Credential => "the provider refuses the credentials; mend them, sending resumes by itself",
        HoldReason::Outage => "the provider does not accept anything; sending resumes when it does again",
    });
    gauge(route, true);
    thread.queue.hold(&route.app, route.route);
    write(thread, route, Some(reason));
}

/// A probe was answered.
pub(crate) fn probed(thread: &Rc<Thread>, route: &RouteState, outcome: &Outcome) {
    if matches!(outcome.scope(), Scope::Credential | Scope::Throttle | Scope::Transient) {
        tracing::info!(app.id = %route.app, provider = route.route.provider_str(), platform = route.route.platform_str(), answer = outcome.reason(), "still on hold");
        return;
    }
    tracing::info!(app.id = %route.app, provider = route.route.provider_str(), platform = route.route.platform_str(), "no longer on hold");
    write(thread, route, None);
}

fn write(thread: &Rc<Thread>, route: &RouteState, reason: Option<HoldReason>) {
    let (thread, app, code) = (Rc::clone(thread), route.app.clone(), route.route);
    tokio::task::spawn_local(async move {
        loop {
            match thread.store.set_hold(&app, code, reason, thread.clock.now()).await {
                Ok(hold) => {
                    let state = thread.routes.get(&app, code);
                    state.adopt(hold);
                    obey(&thread, &state);
                    return;
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot write a hold down: the store failed"
                    );
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    });
}

/// Makes the queue follow the route's state.
fn obey(thread: &Thread, route: &RouteState) {
    gauge(route, route.is_held());
    if route.is_held() {
        thread.queue.hold(&route.app, route.route);
    } else {
        thread.queue.release(&route.app, route.route);
    }
}

fn gauge(route: &RouteState, held: bool) {
    metrics::gauge!(names::HELD, "app" => route.app.to_string(), "provider" => route.route.provider_str(), "platform" => route.route.platform_str())
        .set(if held { 1.0 } else { 0.0 });
}

/// Takes over the ledger's holds. For the start, before the first page is taken, and regularly.
pub(crate) async fn refresh(thread: &Thread) -> bugle_store::Result<()> {
    for hold in thread.store.holds().await? {
        let state = thread.routes.get(&hold.app, hold.route);
        // A hold that this process has just placed may not be written yet: the ledger's older word must not end it.
        let writing = hold.reason.is_none() && state.is_held() && state.placed_within(REFRESH * 3);
        if !writing && state.adopt(hold) {
            obey(thread, &state);
        }
    }
    Ok(())
}

/// Keeps holds up to date and probes them, on one thread for the process.
pub(crate) async fn keep(thread: Rc<Thread>) {
    let tick = thread.config.probe.get().min(Duration::from_millis(250));
    let mut refreshed = Instant::now();
    loop {
        tokio::select! {
            () = thread.stop.cancelled() => return,
            () = tokio::time::sleep(tick) => {}
        }
        if refreshed.elapsed() >= REFRESH {
            refreshed = Instant::now();
            if let Err(error) = refresh(&thread).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot read the holds: the store failed"
                );
            }
        }
        for route in thread.routes.held() {
            if route.probe_due(thread.config.probe.get()) && !probe(&thread, &route).await {
                route.probe_missed();
            }
        }
    }
}

/// Sends one waiting target. `false` = none waits.
async fn probe(thread: &Rc<Thread>, route: &RouteState) -> bool {
    let lease_until = Instant::now() + thread.config.lease.get();
    let taken = async {
        let Some(page) = thread.store.waiting_page(&route.app, route.route).await? else {
            return Ok(Vec::new());
        };
        thread.store.take(&[page.id], thread.config.lease.get()).await
    };
    match taken.await {
        Ok(pages) => {
            let found = !pages.is_empty();
            for page in pages {
                thread.begin(page, lease_until, Mode::Probe);
            }
            found
        }
        Err(error) => {
            let error: bugle_store::Error = error;
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot probe a route on hold: the store failed"
            );
            false
        }
    }
}

#[cfg(test)]
mod tests;
