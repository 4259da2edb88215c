//! Targets to be tried again become pages of their own.
//!
//! They are merged by (leg, due time, rounded up): over all pages that one transaction settles, and with what earlier ones have put on a page
//! that is due then, as long as nobody has taken it. So their pages are about as many as the moments that they are due at, and not as
//! the pages that they come from. Attempts, first try and suspicion stand beside each target.

use std::collections::BTreeMap;

use bugle_model::{MAX_PAGE, PageRef, Timestamp};
use sqlx::PgConnection;

use super::legs::Leg;
use super::pages::{self, NewPage};
use super::rows::{self, Page, Push, Pushes};
use crate::Result;
use crate::books::account::LegKey;
use crate::books::codes;
use crate::books::left_over::{Group, split_off_rest};
use crate::codec::targets::{self, Stored};
use crate::postgres::shared::{Shared, Tx};

/// A page that has room for more.
struct Crumb {
    row: i64,
    seq: i64,
}

/// What is written for all groups together.
#[derive(Default)]
struct Writes {
    grown: Vec<i64>,
    grown_targets: Vec<Vec<u8>>,
    expected: Vec<i64>,
    new: Vec<NewPage>,
    new_targets: Vec<Vec<u8>>,
}

/// Writes the pages of legs that are locked.
pub(super) async fn write(
    groups: BTreeMap<Group, Vec<Stored>>,
    now: Timestamp,
    tx: &mut Tx,
    shared: &Shared,
    (pushes, legs): (&Pushes, &mut BTreeMap<LegKey, Leg>),
) -> Result<()> {
    if groups.is_empty() {
        return Ok(());
    }
    let known = |group: &Group| pushes.get(&group.push).map(|(push, _)| push);
    let later: Vec<(Group, &Push)> = (groups.keys().filter(|group| group.due > now))
        .filter_map(|group| known(group).map(|push| (*group, push)))
        .collect();
    let crumbs = crumbs(tx.conn(), &later).await?;
    let rows: Vec<i64> = crumbs.values().map(|crumb| crumb.row).collect();
    let mut there = Page::targets_of(tx.conn(), &rows).await?;
    let mut writes = Writes::default();
    for (group, mut stored) in groups {
        let (Some(push), Some(leg)) = (known(&group), legs.get_mut(&(group.push, group.leg))) else {
            continue;
        };
        let route = codes::route(group.leg)?;
        let mut seqs = Vec::new();
        if let Some(crumb) = crumbs.get(&group)
            && let Some(mut all) = there.remove(&crumb.row)
        {
            let rest = split_off_rest(&mut stored, all.len());
            all.append(&mut stored);
            writes.grow(crumb.row, &all);
            seqs.push(crumb.seq);
            stored = rest;
        }
        for stored in stored.chunks(MAX_PAGE) {
            writes.add(&NewPage::of(push, route, leg.next_seq, group.due), stored);
            seqs.push(leg.next_seq);
            leg.next_seq += 1;
        }
        let app = shared.apps.name(tx.conn(), push.app).await?;
        for seq in seqs {
            tx.hand_over(PageRef {
                id: group.page(route, seq),
                app: app.clone(),
                lane: push.lane,
                due: group.due,
            });
        }
    }
    writes.execute(tx.conn()).await
}

impl Writes {
    fn grow(&mut self, row: i64, all: &[Stored]) {
        self.grown.push(row);
        self.grown_targets.push(targets::encode(all));
        self.expected.push(rows::int(all.len() as u64));
    }

    fn add(&mut self, page: &NewPage, stored: &[Stored]) {
        self.new.push(NewPage {
            expected: stored.len() as u64,
            ..*page
        });
        self.new_targets.push(targets::encode(stored));
    }

    async fn execute(self, conn: &mut PgConnection) -> Result<()> {
        if !self.grown.is_empty() {
            sqlx::query(
                "UPDATE page_targets t SET targets = w.targets
                   FROM (SELECT unnest($1::bigint[]) AS page, unnest($2::bytea[]) AS targets) AS w WHERE t.page = w.page",
            )
            .bind(&self.grown)
            .bind(&self.grown_targets)
            .execute(&mut *conn)
            .await?;
            // Whoever held it when its lease expired must not settle it as it was: another epoch.
            sqlx::query(
                "UPDATE pages p SET expected = w.expected, epoch = p.epoch + 1, lease_until = NULL
                   FROM (SELECT unnest($1::bigint[]) AS id, unnest($2::bigint[]) AS expected) AS w WHERE p.id = w.id",
            )
            .bind(&self.grown)
            .bind(&self.expected)
            .execute(&mut *conn)
            .await?;
        }
        pages::insert_explicit(conn, &self.new, &self.new_targets).await
    }
}

/// For each group its leg's page that is due then, has never been worked on, is free and has room, if there is one; locked. Nobody may take it before
/// the commit: it would be read, and later settled, without what is added now.
async fn crumbs(conn: &mut PgConnection, groups: &[(Group, &Push)]) -> Result<BTreeMap<Group, Crumb>> {
    if groups.is_empty() {
        return Ok(BTreeMap::new());
    }
    let found: Vec<(i64, i64, i64)> = sqlx::query_as(
        "SELECT w.at, c.id, c.seq
           FROM unnest($1::smallint[], $2::integer[], $3::smallint[], $4::bigint[], $5::bigint[])
                WITH ORDINALITY AS w(lane, app, route, due, push, at)
          CROSS JOIN LATERAL (
                SELECT id, seq FROM pages p
                 WHERE p.lane = w.lane AND p.app = w.app AND p.route = w.route AND p.due = w.due AND p.push = w.push
                   AND p.upto_key IS NULL AND p.progress IS NULL AND p.expected < $6
                   AND (p.lease_until IS NULL OR p.lease_until < clock_timestamp())
                 ORDER BY p.seq DESC LIMIT 1 FOR UPDATE SKIP LOCKED) AS c",
    )
    .bind(
        groups
            .iter()
            .map(|(_, push)| i16::from(push.lane.code()))
            .collect::<Vec<_>>(),
    )
    .bind(groups.iter().map(|(_, push)| push.app).collect::<Vec<_>>())
    .bind(groups.iter().map(|(group, _)| i16::from(group.leg)).collect::<Vec<_>>())
    .bind(groups.iter().map(|(group, _)| group.due.0).collect::<Vec<_>>())
    .bind(groups.iter().map(|(group, _)| group.push.0).collect::<Vec<_>>())
    .bind(rows::int(MAX_PAGE as u64))
    .fetch_all(conn)
    .await?;
    let crumbs = found.into_iter().filter_map(|(at, row, seq)| {
        let at = usize::try_from(at).ok()?.checked_sub(1)?;
        groups.get(at).map(|(group, _)| (*group, Crumb { row, seq }))
    });
    Ok(crumbs.collect())
}
