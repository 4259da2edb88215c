//! Writes down what has become of pages: progress, give back, settle.
//!
//! A transaction takes many reports, and so many statements whatever their number: it locks the pushes, legs and pages that change (in this order), compares every
//! epoch with the locked row, forgets the dead, and writes each table once. A batch of pushes' own pages without left-overs is one statement that locks and reads, and one
//! that writes. Progress of a leg's pages locks the pages alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bugle_model::{Flow, Next, PageId, PageRef, PushKey, Report, Route, Timestamp, Verdict};
use sqlx::{PgConnection, Row};

use super::legs::{self, Leg, LegKey};
use super::rows::{Content, OwnPage, Page, Push, Pushes, int};
use super::settle::Books;
use crate::Result;
use crate::books::reports::{MAX_REMOVALS, MAX_ROWS, all_accounted, rows};
use crate::codec::progress;
use crate::codec::targets::Stored;
use crate::postgres::gone::{self, Death};
use crate::postgres::shared::{Shared, Tx};

pub(super) async fn report(shared: &Arc<Shared>, reports: Vec<Report>, now: Timestamp) -> Result<Vec<Verdict>> {
    let mut verdicts = Vec::with_capacity(reports.len());
    for chunk in chunks(reports) {
        let (context, chunk) = (Arc::clone(shared), Arc::new(chunk));
        let written = shared.write(move |tx| {
            let (shared, chunk) = (Arc::clone(&context), Arc::clone(&chunk));
            Box::pin(async move { write(tx, &shared, &chunk, now).await })
        });
        verdicts.extend(written.await?);
    }
    Ok(verdicts)
}

/// Cuts reports into transactions, in order. A page that is reported on twice is so in two of them.
fn chunks(reports: Vec<Report>) -> Vec<Vec<Report>> {
    let mut chunks: Vec<Vec<Report>> = Vec::new();
    let (mut used, mut removals, mut pages) = (0, 0, HashSet::new());
    for report in reports {
        let cost = rows(&report);
        let fits =
            used + cost <= MAX_ROWS && removals + report.dead.len() <= MAX_REMOVALS && !pages.contains(&report.id);
        if !fits || chunks.is_empty() {
            chunks.push(Vec::new());
            (used, removals) = (0, 0);
            pages.clear();
        }
        used += cost;
        removals += report.dead.len();
        pages.insert(report.id);
        if let Some(last) = chunks.last_mut() {
            last.push(report);
        }
    }
    chunks
}

/// The rows that a chunk of reports is about, those that change being locked.
struct Rows {
    /// Read without a lock: whether a leg is rejected, and whether answers still matter to it.
    legs: BTreeMap<LegKey, Leg>,
    pushes: Pushes,
    pages: HashMap<PageId, (Page, bool)>,
}

/// What a report is entered in, after its epoch has been compared.
enum Held<'a> {
    Own(&'a Push, &'a OwnPage),
    Page(&'a Push, &'a Page),
}

impl Rows {
    async fn lock(conn: &mut PgConnection, reports: &[Report], books: &mut Books) -> Result<Self> {
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
    fn weighs_evidence(&self, report: &Report) -> bool {
        let leg = leg_key(report).and_then(|key| self.legs.get(&key));
        report.answered > 0 && leg.is_some_and(Leg::weighs_evidence)
    }

    /// The report's page, if it is there and this epoch has it.
    fn held(&self, report: &Report) -> Option<Held<'_>> {
        let (push, own) = self.pushes.get(&report.id.push)?;
        if report.id.leg.is_none() {
            let holds = own.due.is_some() && own.held && own.epoch == report.epoch;
            return holds.then_some(Held::Own(push, own));
        }
        let (page, held) = self.pages.get(&report.id)?;
        (*held && page.epoch == report.epoch).then_some(Held::Page(push, page))
    }
}

fn leg_key(report: &Report) -> Option<LegKey> {
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
           FROM unnest($1::bigint[], $2::smallint[], $3::bigint[]) AS w(push, route, seq)
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

/// What is written of pages that do not end.
#[derive(Default)]
struct Writes {
    own: Vec<OwnWrite>,
    pages: Vec<(i64, Vec<u8>, Option<i64>)>,
}

struct OwnWrite {
    key: PushKey,
    progress: Vec<u8>,
    answered: u64,
    payload: u64,
    due: Option<i64>,
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
                    books.evidence(push.key, page.leg, report.answered, report.payload);
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
    let rejected = books.enter(tx, shared).await?.rejected;
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

impl Writes {
    /// Progress, and where a due time comes with it the end of the lease.
    async fn execute(self, conn: &mut PgConnection) -> Result<()> {
        if !self.pages.is_empty() {
            sqlx::query(
                "UPDATE pages p SET progress = w.progress, due = coalesce(w.due, p.due),
                                    lease_until = CASE WHEN w.due IS NULL THEN p.lease_until END
                   FROM unnest($1::bigint[], $2::bytea[], $3::bigint[]) AS w(id, progress, due) WHERE p.id = w.id",
            )
            .bind(self.pages.iter().map(|page| page.0).collect::<Vec<_>>())
            .bind(self.pages.iter().map(|page| page.1.as_slice()).collect::<Vec<_>>())
            .bind(self.pages.iter().map(|page| page.2).collect::<Vec<_>>())
            .execute(&mut *conn)
            .await?;
        }
        if !self.own.is_empty() {
            sqlx::query(
                "UPDATE pushes p SET progress = w.progress, answered = w.answered, payload = w.payload,
                                     page_due = coalesce(w.due, p.page_due),
                                     lease_until = CASE WHEN w.due IS NULL THEN p.lease_until END
                   FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[])
                     AS w(key, progress, answered, payload, due)
                  WHERE p.key = w.key",
            )
            .bind(self.own.iter().map(|own| own.key.0).collect::<Vec<_>>())
            .bind(self.own.iter().map(|own| own.progress.as_slice()).collect::<Vec<_>>())
            .bind(self.own.iter().map(|own| int(own.answered)).collect::<Vec<_>>())
            .bind(self.own.iter().map(|own| int(own.payload)).collect::<Vec<_>>())
            .bind(self.own.iter().map(|own| own.due).collect::<Vec<_>>())
            .execute(conn)
            .await?;
        }
        Ok(())
    }
}

/// The explicit targets of pages that are settled with left-overs.
#[derive(Default)]
struct Listed {
    of_pages: BTreeMap<i64, Vec<Stored>>,
    of_pushes: BTreeMap<PushKey, Vec<Stored>>,
}

impl Listed {
    async fn read(conn: &mut PgConnection, reports: &[Report], held: &[Option<Held<'_>>]) -> Result<Self> {
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
        if let (Some(leg), Verdict::Written(Flow::Running | Flow::Paused), Next::Continue | Next::GiveBack(_)) =
            (leg_key(report), *verdict, report.next)
            && (now.contains(&leg) || before.get(&leg).is_some_and(|leg| leg.rejected))
        {
            *verdict = Verdict::Written(Flow::Rejected);
        }
    }
}
