//! Takes pages, prolongs leases, reads again.

use std::time::Duration;

use bugle_model::{Flow, PageId, PushKey, Taken, Target, Timestamp, Verdict};
use rusqlite::{Connection, OptionalExtension};

use super::leases::Grant;
use super::report::is_rejected;
use super::rows::{OwnPage, Page, Push};
use super::{Context, targets};
use crate::Result;

/// Leases the pages that are free. The leases come before the reading: what is read then is at least as new.
pub(super) fn lease(cx: &Context, pages: &[PageId], lease: Duration) -> Vec<Grant> {
    pages.iter().filter_map(|page| cx.leases.grant(*page, lease)).collect()
}

/// Reads the leased pages; a page that is settled is left out, and its lease ends with the grant.
///
/// The grants go along with the answer: if nobody is there to have it, they end.
pub(super) fn read(conn: &Connection, cx: &Context, grants: Vec<Grant>, now: Timestamp) -> Result<Vec<(Grant, Taken)>> {
    let mut taken = Vec::with_capacity(grants.len());
    for grant in grants {
        if let Some(page) = read_one(conn, cx, &grant, now)? {
            taken.push((grant, page));
        }
    }
    Ok(taken)
}

fn read_one(conn: &Connection, cx: &Context, grant: &Grant, now: Timestamp) -> Result<Option<Taken>> {
    let id = grant.page();
    let Some(push) = Push::read(conn, id.push)? else {
        return Ok(None);
    };
    let (flow, progress, targets, body) = if let Some(leg) = id.leg {
        let Some(page) = Page::read(conn, id.push, leg, id.seq)? else {
            return Ok(None);
        };
        let targets = targets::of_page(conn, &push, &page)?;
        let flow = push.flow(is_rejected(conn, id.push, leg)?, now);
        (flow, page.progress, targets, None)
    } else {
        let Some(own) = OwnPage::read(conn, id.push)?.filter(|own| own.due.is_some()) else {
            return Ok(None);
        };
        let targets = targets::of_own_page(conn, &push, &own)?;
        (push.flow(false, now), own.progress, targets, body(conn, id.push)?)
    };
    Ok(Some(Taken {
        id,
        epoch: grant.epoch(),
        app: cx.apps.name(conn, push.app)?,
        lane: push.lane,
        expires_at: push.expires_at,
        flow,
        progress,
        targets,
        age: Duration::ZERO,
        body,
    }))
}

pub(super) fn body(conn: &Connection, push: PushKey) -> Result<Option<Vec<u8>>> {
    let mut statement = conn.prepare_cached("SELECT body FROM pushes WHERE key = ?")?;
    let body: Option<Option<Vec<u8>>> = statement.query_row([push.0], |row| row.get(0)).optional()?;
    Ok(body.flatten())
}

pub(super) fn reread(conn: &Connection, id: PageId, after: i64) -> Result<Vec<Target>> {
    let Some(push) = Push::read(conn, id.push)? else {
        return Ok(Vec::new());
    };
    if let Some(leg) = id.leg {
        let Some(mut page) = Page::read(conn, id.push, leg, id.seq)? else {
            return Ok(Vec::new());
        };
        (page.progress.position, page.progress.open) = (after, Vec::new());
        targets::of_page(conn, &push, &page)
    } else {
        let Some(mut own) = OwnPage::read(conn, id.push)?.filter(|own| own.due.is_some()) else {
            return Ok(Vec::new());
        };
        (own.progress.position, own.progress.open) = (after, Vec::new());
        targets::of_own_page(conn, &push, &own)
    }
}

/// Under what flow pages are whose leases were prolonged; `None` = the lease was lost, or the page is settled.
pub(super) fn flows(conn: &Connection, pages: &[Option<PageId>], now: Timestamp) -> Result<Vec<Verdict>> {
    let mut verdicts = Vec::with_capacity(pages.len());
    for page in pages {
        let flow = match page {
            Some(id) => page_flow(conn, *id, now)?,
            None => None,
        };
        verdicts.push(flow.map_or(Verdict::Lost, Verdict::Written));
    }
    Ok(verdicts)
}

fn page_flow(conn: &Connection, id: PageId, now: Timestamp) -> Result<Option<Flow>> {
    let Some(push) = Push::read(conn, id.push)? else {
        return Ok(None);
    };
    let Some(leg) = id.leg else {
        let own = OwnPage::read(conn, id.push)?;
        return Ok(own.filter(|own| own.due.is_some()).map(|_| push.flow(false, now)));
    };
    let there = conn
        .prepare_cached("SELECT 1 FROM pages WHERE push = ? AND route = ? AND seq = ?")?
        .exists((id.push.0, leg.code(), id.seq))?;
    if !there {
        return Ok(None);
    }
    Ok(Some(push.flow(is_rejected(conn, id.push, leg)?, now)))
}

/// The flow of a push; `None` = unknown, or ended.
pub(super) fn flow(conn: &Connection, push: PushKey, now: Timestamp) -> Result<Option<Flow>> {
    let push = Push::read(conn, push)?;
    Ok(push.filter(|push| !push.ended).map(|push| push.flow(false, now)))
}
