//! Writes down what has become of pages: progress, give back, settle.
//!
//! A transaction takes many reports, and so many statements whatever their number: it locks the pushes, legs and pages that change (in this order), compares every
//! epoch with the locked row, forgets the dead, and writes each table once. Progress of a leg's pages locks the pages alone. A batch of pushes that end with their own pages
//! needs no transaction at all (`at_once`).

mod at_once;
mod locked;
mod writes;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bugle_model::{Flow, Next, PageRef, Report, Timestamp, Verdict};
use sqlx::PgConnection;

use self::locked::{Held, Listed, Rows};
use self::writes::{OwnWrite, Writes};
use super::legs::Leg;
use super::rows::{OwnPage, Page, Push};
use super::settle::Books;
use crate::Result;
use crate::books::account::LegKey;
use crate::books::page::Content;
use crate::books::reports::{Repeats, all_accounted, chunks, leg_that_goes_on};
use crate::codec::progress;
use crate::postgres::failure::is_retryable;
use crate::postgres::gone::{self, Death};
use crate::postgres::shared::{Shared, Tx};

pub(super) async fn report(shared: &Arc<Shared>, reports: Vec<Report>, now: Timestamp) -> Result<Vec<Verdict>> {
    let mut verdicts = Vec::with_capacity(reports.len());
    for chunk in chunks(reports, Repeats::Apart) {
        verdicts.extend(if chunk.reports.iter().all(at_once::ends_its_push) {
            end_at_once(shared, chunk.reports, now).await?
        } else {
            in_transaction(shared, chunk.reports, now).await?
        });
    }
    Ok(verdicts)
}

async fn in_transaction(shared: &Arc<Shared>, reports: Vec<Report>, now: Timestamp) -> Result<Vec<Verdict>> {
    let (context, reports) = (Arc::clone(shared), Arc::new(reports));
    let written = shared.write(move |tx| {
        let (shared, reports) = (Arc::clone(&context), Arc::clone(&reports));
        Box::pin(async move { write(tx, &shared, &reports, now).await })
    });
    written.await
}

async fn end_at_once(shared: &Arc<Shared>, reports: Vec<Report>, now: Timestamp) -> Result<Vec<Verdict>> {
    let reports = Arc::new(reports);
    let ending = Arc::clone(&reports);
    let ended = shared.read(move |conn| {
        let reports = Arc::clone(&ending);
        Box::pin(async move { at_once::end(conn, &reports, now).await })
    });
    let ended = match ended.await {
        // The victim of a deadlock.
        Err(error) if is_retryable(&error) => HashSet::new(),
        ended => ended?,
    };
    let mut verdicts = vec![Verdict::Written(Flow::Running); reports.len()];
    let left: Vec<usize> = (0..reports.len()).filter(|at| !ended.contains(at)).collect();
    if !left.is_empty() {
        let others = left.iter().map(|at| reports[*at].clone()).collect();
        for (at, verdict) in left.into_iter().zip(in_transaction(shared, others, now).await?) {
            verdicts[at] = verdict;
        }
    }
    Ok(verdicts)
}

async fn write(tx: &mut Tx, shared: &Shared, reports: &[Report], now: Timestamp) -> Result<Vec<Verdict>> {
    let mut books = Books::new(now);
    let rows = Rows::lock(tx.conn(), reports, &mut books).await?;
    let held: Vec<Option<Held<'_>>> = reports.iter().map(|report| rows.held(report)).collect();
    forget(tx.conn(), reports, &held, now).await?;
    let stored = Listed::read(tx.conn(), reports, &held).await?;
    let mut writes = Writes::default();
    let mut verdicts = Vec::with_capacity(reports.len());
    for (report, held) in reports.iter().zip(&held) {
        let Some(held) = held else {
            verdicts.push(Verdict::Lost);
            continue;
        };
        let push = match held {
            Held::Own(push, own) => {
                enter_own(&mut books, &mut writes, report, (push, own), &stored);
                push
            }
            Held::Page(push, page) => {
                if rows.weighs_evidence(report) {
                    books
                        .accounts
                        .evidence(push.key, page.leg, report.answered, report.payload);
                }
                enter_page(&mut books, &mut writes, report, page, &stored);
                push
            }
        };
        if let Next::GiveBack(due) = report.next {
            let app = shared.apps.name(tx.conn(), push.app).await?;
            tx.hand_over(PageRef {
                id: report.id,
                app,
                lane: push.lane,
                due,
            });
        }
        verdicts.push(Verdict::Written(push.flow(false, now)));
    }
    writes.execute(tx.conn()).await?;
    let rejected = books.enter(tx, shared, &rows.pushes).await?.rejected;
    notice_rejection(&rows.legs, &rejected, reports, &mut verdicts);
    Ok(verdicts)
}

/// Enters a report of a page.
fn enter_page(books: &mut Books, writes: &mut Writes, report: &Report, page: &Page, stored: &Listed) {
    let progress = &report.progress;
    let due = match report.next {
        Next::Settle => {
            all_accounted(report, page.expected, page.content == Content::Explicit);
            let stored = stored.of_pages.get(&page.row).map(Vec::as_slice);
            books.settle_page(page, &progress.counts, &progress.left_over, stored);
            return;
        }
        Next::Continue => None,
        Next::GiveBack(due) => Some(due.0),
    };
    writes.pages.push((page.row, progress::encode(progress), due));
}

/// Enters a report of a push's own page.
fn enter_own(books: &mut Books, writes: &mut Writes, report: &Report, (push, own): (&Push, &OwnPage), stored: &Listed) {
    let progress = &report.progress;
    let own = OwnPage {
        answered: own.answered + u64::from(report.answered),
        payload: own.payload + u64::from(report.payload),
        ..own.clone()
    };
    let due = match report.next {
        Next::Settle => {
            all_accounted(report, own.expected, true);
            let stored = stored.of_pushes.get(&push.key).map(Vec::as_slice);
            books.settle_own_page(
                push,
                &own,
                progress.counts.clone(),
                &progress.left_over,
                stored.unwrap_or_default(),
            );
            return;
        }
        Next::Continue => None,
        Next::GiveBack(due) => Some(due.0),
    };
    writes.own.push(OwnWrite {
        key: push.key,
        progress: progress::encode(progress),
        answered: own.answered,
        payload: own.payload,
        due,
    });
}

/// Takes the dead out of the registry, in the transaction that counts them.
async fn forget(conn: &mut PgConnection, reports: &[Report], held: &[Option<Held<'_>>], now: Timestamp) -> Result<()> {
    let mut found = Vec::new();
    for (report, held) in reports.iter().zip(held) {
        if let Some(Held::Own(push, _) | Held::Page(push, _)) = held {
            found.extend(report.dead.iter().map(|dead| (*push, dead)));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let keys: BTreeSet<i64> = found.iter().map(|(push, _)| push.key.0).collect();
    let uids: Vec<(i64, String)> = sqlx::query_as("SELECT key, uid FROM pushes WHERE key = ANY($1)")
        .bind(keys.into_iter().collect::<Vec<_>>())
        .fetch_all(&mut *conn)
        .await?;
    let uids: HashMap<i64, String> = uids.into_iter().collect();
    let deaths = found.into_iter().filter_map(|(push, dead)| {
        Some(Death {
            app: push.app,
            provider: dead.route.provider?,
            token: dead.token.clone(),
            registered_before: dead.registered_before,
            push: uids.get(&push.key.0)?.clone(),
            reason: dead.reason,
            at: now,
        })
    });
    gone::forget_dead(conn, &deaths.collect::<Vec<_>>()).await
}

/// Tells the holders of a leg's pages that the leg is rejected, as of this very transaction.
fn notice_rejection(
    before: &BTreeMap<LegKey, Leg>,
    now: &BTreeSet<LegKey>,
    reports: &[Report],
    verdicts: &mut [Verdict],
) {
    for (report, verdict) in reports.iter().zip(verdicts) {
        if let Some(leg) = leg_that_goes_on(report, *verdict).map(|leg| (report.id.push, leg.code()))
            && (now.contains(&leg) || before.get(&leg).is_some_and(|leg| leg.rejected))
        {
            *verdict = Verdict::Written(Flow::Rejected);
        }
    }
}
