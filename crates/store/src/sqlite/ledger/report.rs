//! Writes down what has become of pages: progress, give back, settle.

use bugle_model::{Dead, Flow, Next, PageRef, PushKey, PushUid, Report, Route, Timestamp, Verdict};
use rusqlite::{Connection, OptionalExtension};

use super::Context;
use super::leases::Pin;
use super::rows::{OwnPage, Page, Push};
use super::settle::Books;
use crate::books::page::Content;
use crate::books::reports::{Chunk, all_accounted, leg_that_goes_on};
use crate::codec::progress;
use crate::sqlite::gone::{self, Death};
use crate::sqlite::writer::{Cost, Tx};
use crate::{Error, Result};

/// What writing a chunk takes.
pub(super) fn cost(chunk: &Chunk) -> Cost {
    Cost {
        removals: u32::try_from(chunk.removals).unwrap_or(u32::MAX),
        ..Cost::rows(chunk.rows)
    }
}

/// Writes a chunk. One verdict per report, in order.
pub(super) fn write(tx: &Tx<'_>, cx: &Context, reports: &[Report], now: Timestamp) -> Result<Vec<Verdict>> {
    let mut books = Books::new(now);
    let mut verdicts = Vec::with_capacity(reports.len());
    let mut goes_on: Vec<Pin> = Vec::new();
    let mut over: Vec<Pin> = Vec::new();
    for report in reports {
        let Some(pin) = cx.leases.pin(report.id, report.epoch) else {
            verdicts.push(Verdict::Lost);
            continue;
        };
        let entered = match report.id.leg {
            None => own_page(tx, cx, &mut books, report, now)?,
            Some(leg) => page(tx, cx, &mut books, report, leg, now)?,
        };
        match (entered, report.next) {
            (Some(_), Next::Continue) => goes_on.push(pin),
            _ => over.push(pin),
        }
        verdicts.push(entered.map_or(Verdict::Lost, Verdict::Written));
    }
    books.close(tx, cx)?;
    notice_rejection(tx.conn(), reports, &mut verdicts)?;
    tx.after_commit(move || {
        over.into_iter().for_each(Pin::end);
        drop(goes_on);
    });
    Ok(verdicts)
}

/// Enters a report of a page; `None` = the page is not there.
fn page(
    tx: &Tx<'_>,
    cx: &Context,
    books: &mut Books,
    report: &Report,
    leg: Route,
    now: Timestamp,
) -> Result<Option<Flow>> {
    let conn = tx.conn();
    let (id, progress) = (report.id, &report.progress);
    let (Some(page), Some(push)) = (Page::read(conn, id.push, leg, id.seq)?, Push::read(conn, id.push)?) else {
        return Ok(None);
    };
    forget(conn, &push, &report.dead, now)?;
    if report.answered > 0 {
        books.accounts.evidence(id.push, leg, report.answered, report.payload);
    }
    match report.next {
        Next::Continue => {
            conn.prepare_cached("UPDATE pages SET progress = ? WHERE id = ?")?
                .execute((progress::encode(progress), page.row))?;
        }
        Next::GiveBack(due) => {
            conn.prepare_cached("UPDATE pages SET progress = ?, due = ? WHERE id = ?")?
                .execute((progress::encode(progress), due.0, page.row))?;
            hand_over(tx, cx, &push, report, due)?;
        }
        Next::Settle => {
            all_accounted(report, page.expected, page.content == Content::Explicit);
            books.settle_page(conn, &page, &progress.counts, &progress.left_over)?;
        }
    }
    Ok(Some(push.flow(false, now)))
}

/// Enters a report of a push's own page; `None` = it is settled.
fn own_page(tx: &Tx<'_>, cx: &Context, books: &mut Books, report: &Report, now: Timestamp) -> Result<Option<Flow>> {
    let conn = tx.conn();
    let (key, progress) = (report.id.push, &report.progress);
    let (Some(mut own), Some(push)) = (OwnPage::read(conn, key)?, Push::read(conn, key)?) else {
        return Ok(None);
    };
    if own.due.is_none() {
        return Ok(None);
    }
    forget(conn, &push, &report.dead, now)?;
    own.answered += u64::from(report.answered);
    own.payload += u64::from(report.payload);
    let due = match report.next {
        Next::Settle => {
            all_accounted(report, own.expected, true);
            books.settle_own_page(conn, &push, &own, progress.counts.clone(), &progress.left_over)?;
            return Ok(Some(push.flow(false, now)));
        }
        Next::Continue => None,
        Next::GiveBack(due) => Some(due),
    };
    conn.prepare_cached(
        "UPDATE pushes SET progress = ?, answered = ?, payload = ?, page_due = coalesce(?, page_due) WHERE key = ?",
    )?
    .execute((
        progress::encode(progress),
        own.answered,
        own.payload,
        due.map(|due| due.0),
        key.0,
    ))?;
    if let Some(due) = due {
        hand_over(tx, cx, &push, report, due)?;
    }
    Ok(Some(push.flow(false, now)))
}

fn hand_over(tx: &Tx<'_>, cx: &Context, push: &Push, report: &Report, due: Timestamp) -> Result<()> {
    tx.hand_over(PageRef {
        id: report.id,
        app: cx.apps.name(tx.conn(), push.app)?,
        lane: push.lane,
        due,
    });
    Ok(())
}

/// Takes the dead out of the registry, in the transaction that counts them.
fn forget(conn: &Connection, push: &Push, dead: &[Dead], now: Timestamp) -> Result<()> {
    if dead.is_empty() {
        return Ok(());
    }
    let uid = uid(conn, push.key)?;
    for dead in dead {
        if let Some(provider) = dead.route.provider {
            let death = Death {
                provider,
                token: &dead.token,
                registered_before: dead.registered_before,
                push: &uid,
                reason: dead.reason,
                at: now,
            };
            gone::forget_dead(conn, push.app, &death)?;
        }
    }
    Ok(())
}

fn uid(conn: &Connection, push: PushKey) -> Result<PushUid> {
    let uid: Option<String> = conn
        .prepare_cached("SELECT uid FROM pushes WHERE key = ?")?
        .query_row([push.0], |row| row.get(0))
        .optional()?;
    PushUid::parse(uid.unwrap_or_default()).map_err(|invalid| Error::corrupt("pushes.uid", invalid.problem))
}

/// Tells the holders of a leg's pages that the leg is rejected, as of this very transaction.
fn notice_rejection(conn: &Connection, reports: &[Report], verdicts: &mut [Verdict]) -> Result<()> {
    for (report, verdict) in reports.iter().zip(verdicts) {
        if let Some(leg) = leg_that_goes_on(report, *verdict)
            && is_rejected(conn, report.id.push, leg)?
        {
            *verdict = Verdict::Written(Flow::Rejected);
        }
    }
    Ok(())
}

pub(super) fn is_rejected(conn: &Connection, push: PushKey, leg: Route) -> Result<bool> {
    let rejected: Option<bool> = conn
        .prepare_cached("SELECT rejected FROM legs WHERE push = ? AND route = ?")?
        .query_row((push.0, leg.code()), |row| row.get(0))
        .optional()?;
    Ok(rejected.unwrap_or(false))
}
