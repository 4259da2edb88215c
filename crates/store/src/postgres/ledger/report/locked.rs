//! The rows that reports are entered in: locked where they change, in the order push, leg, page, and compared with the reports' epochs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bugle_model::{Next, PageId, PushKey, Report, Route};
use sqlx::{PgConnection, Row};

use crate::Result;
use crate::books::account::LegKey;
use crate::books::page::Content;
use crate::codec::targets::Stored;
use crate::postgres::ledger::legs::{self, Leg};
use crate::postgres::ledger::rows::{OwnPage, Page, Push, Pushes};
use crate::postgres::ledger::settle::Books;

/// The rows that a chunk of reports is about, those that change being locked.
pub(super) struct Rows {
    /// Read without a lock: whether a leg is rejected, and whether answers still matter to it.
    pub(super) legs: BTreeMap<LegKey, Leg>,
    pub(super) pushes: Pushes,
    pages: HashMap<PageId, (Page, bool)>,
}

/// What a report is entered in, after its epoch has been compared.
pub(super) enum Held<'a> {
    Own(&'a Push, &'a OwnPage),
    Page(&'a Push, &'a Page),
}

impl Rows {
    pub(super) async fn lock(conn: &mut PgConnection, reports: &[Report], books: &mut Books) -> Result<Self> {
        let of_legs: BTreeSet<LegKey> = reports.iter().filter_map(leg_key).collect();
        let mut all = Self {
            legs: BTreeMap::new(),
            pushes: Pushes::new(),
            pages: HashMap::new(),
        };
        if !of_legs.is_empty() {
            all.legs = legs::read(conn, &of_legs.iter().copied().collect::<Vec<_>>()).await?;
        }
        let (mut locked, mut read, mut changing) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for report in reports {
            if all.locks_its_push(report) {
                locked.insert(report.id.push.0);
                changing.extend(changes(report));
            } else {
                read.insert(report.id.push.0);
            }
        }
        read.retain(|key| !locked.contains(key));
        if !locked.is_empty() {
            all.pushes = Push::lock_many(conn, &locked.into_iter().collect::<Vec<_>>()).await?;
        }
        if !read.is_empty() {
            all.pushes
                .append(&mut Push::read_many(conn, &read.into_iter().collect::<Vec<_>>()).await?);
        }
        books.lock_legs(conn, &changing).await?;
        if !of_legs.is_empty() {
            all.pages = lock_pages(conn, reports).await?;
        }
        Ok(all)
    }

    /// Does it change more than its page's row?
    fn locks_its_push(&self, report: &Report) -> bool {
        leg_key(report).is_none() || report.next == Next::Settle || self.weighs_evidence(report)
    }

    /// Do its answers matter to the leg? Once others have come in they never will again, so that this needs no lock.
    pub(super) fn weighs_evidence(&self, report: &Report) -> bool {
        let leg = leg_key(report).and_then(|key| self.legs.get(&key));
        report.answered > 0 && leg.is_some_and(Leg::weighs_evidence)
    }

    /// The report's page, if it is there and this epoch has it.
    pub(super) fn held(&self, report: &Report) -> Option<Held<'_>> {
        let (push, own) = self.pushes.get(&report.id.push)?;
        if report.id.leg.is_none() {
            let holds = own.due.is_some() && own.held && own.epoch == report.epoch;
            return holds.then_some(Held::Own(push, own));
        }
        let (page, held) = self.pages.get(&report.id)?;
        (*held && page.epoch == report.epoch).then_some(Held::Page(push, page))
    }
}

pub(super) fn leg_key(report: &Report) -> Option<LegKey> {
    report.id.leg.map(|leg| (report.id.push, leg.code()))
}

/// The legs whose books a report may change.
fn changes(report: &Report) -> BTreeSet<LegKey> {
    let push = report.id.push;
    let mut keys: BTreeSet<LegKey> = leg_key(report).into_iter().collect();
    if report.next == Next::Settle {
        let counted = report.id.leg.and(Some(&report.progress.counts)).into_iter().flatten();
        keys.extend(counted.map(|(route, _)| (push, route.code())));
        keys.extend(report.progress.left_over.iter().map(|left| (push, left.route.code())));
    }
    keys
}

/// Locks the pages of a chunk, in the order of their rows. Of each: is there a lease, expired or not?
async fn lock_pages(conn: &mut PgConnection, reports: &[Report]) -> Result<HashMap<PageId, (Page, bool)>> {
    let names: Vec<(PageId, Route)> = reports.iter().filter_map(|r| Some((r.id, r.id.leg?))).collect();
    // Their progress is about to be replaced.
    let rows = sqlx::query(
        "SELECT p.id, p.push, p.route, p.seq, p.expected, p.after_key, p.upto_key, NULL::bytea, p.epoch, p.lease_until IS NOT NULL
           FROM (SELECT unnest($1::bigint[]) AS push, unnest($2::smallint[]) AS route, unnest($3::bigint[]) AS seq) AS w
           JOIN pages p ON p.push = w.push AND p.route = w.route AND p.seq = w.seq
          ORDER BY p.id FOR UPDATE OF p",
    )
    .bind(names.iter().map(|(id, _)| id.push.0).collect::<Vec<_>>())
    .bind(names.iter().map(|(_, leg)| i16::from(leg.code())).collect::<Vec<_>>())
    .bind(names.iter().map(|(id, _)| id.seq).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let page = Page::from_row(row)?;
            Ok((page.id, (page, row.try_get(9)?)))
        })
        .collect()
}

/// The explicit targets of pages that are settled with left-overs.
#[derive(Default)]
pub(super) struct Listed {
    pub(super) of_pages: BTreeMap<i64, Vec<Stored>>,
    pub(super) of_pushes: BTreeMap<PushKey, Vec<Stored>>,
}

impl Listed {
    pub(super) async fn read(conn: &mut PgConnection, reports: &[Report], held: &[Option<Held<'_>>]) -> Result<Self> {
        let (mut pages, mut pushes) = (Vec::new(), Vec::new());
        for (report, held) in reports.iter().zip(held) {
            if report.next != Next::Settle || report.progress.left_over.is_empty() {
                continue;
            }
            match held {
                Some(Held::Own(push, _)) => pushes.push(push.key.0),
                Some(Held::Page(_, page)) if page.content == Content::Explicit => pages.push(page.row),
                _ => {}
            }
        }
        Ok(Self {
            of_pages: Page::targets_of(conn, &pages).await?,
            of_pushes: OwnPage::targets_of(conn, &pushes).await?,
        })
    }
}
