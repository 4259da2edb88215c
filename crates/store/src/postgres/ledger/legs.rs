//! Legs, read and written many at once.

use std::collections::BTreeMap;

use bugle_model::{Counts, PushKey};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::rows::{count, int};
use crate::Result;
use crate::books::account::{self, Change, LegKey};

/// A leg as far as its books need it.
#[derive(Debug, Clone)]
pub(super) struct Leg {
    pub(super) closed: bool,
    pub(super) next_seq: i64,
    pub(super) outstanding: i64,
    pub(super) answered: u64,
    pub(super) payload: u64,
    pub(super) rejected: bool,
    pub(super) ended_at: Option<i64>,
}

impl Leg {
    /// One that no audience is walked for, and that is not in the database yet.
    pub(super) fn new() -> Self {
        Self {
            closed: true,
            next_seq: 1,
            outstanding: 0,
            answered: 0,
            payload: 0,
            rejected: false,
            ended_at: None,
        }
    }

    /// May further answers of the provider still reject it?
    pub(super) fn weighs_evidence(&self) -> bool {
        account::weighs_evidence(self.answered, self.payload)
    }

    /// Enters what has changed.
    pub(super) fn add(&mut self, change: &Change) {
        self.outstanding += change.outstanding;
        if change.outstanding > 0 {
            self.ended_at = None;
        }
        self.answered += change.answered;
        self.payload += change.payload;
        if account::is_refused(self.answered, self.payload) {
            (self.rejected, self.closed) = (true, true);
        }
    }

    fn from_row(row: &PgRow) -> Result<(LegKey, Self)> {
        let code = super::rows::route(row.try_get(1)?)?.code();
        let leg = Self {
            closed: row.try_get(2)?,
            next_seq: row.try_get(3)?,
            outstanding: row.try_get(4)?,
            answered: count(row.try_get(5)?),
            payload: count(row.try_get(6)?),
            rejected: row.try_get(7)?,
            ended_at: row.try_get(8)?,
        };
        Ok(((PushKey(row.try_get(0)?), code), leg))
    }
}

fn columns(keys: &[LegKey]) -> (Vec<i64>, Vec<i16>) {
    keys.iter().map(|(push, code)| (push.0, i16::from(*code))).unzip()
}

/// Those of these legs that there are.
pub(super) async fn read(conn: &mut PgConnection, keys: &[LegKey]) -> Result<BTreeMap<LegKey, Leg>> {
    let (pushes, routes) = columns(keys);
    let rows = sqlx::query(
        "SELECT l.push, l.route, l.closed, l.next_seq, l.outstanding, l.answered, l.payload, l.rejected, l.ended_at
           FROM (SELECT unnest($1::bigint[]) AS push, unnest($2::smallint[]) AS route) AS w
           JOIN legs l ON l.push = w.push AND l.route = w.route",
    )
    .bind(pushes)
    .bind(routes)
    .fetch_all(conn)
    .await?;
    rows.iter().map(Leg::from_row).collect()
}

/// The same, locked until the transaction ends, in the order of their keys.
pub(super) async fn lock(conn: &mut PgConnection, keys: &[LegKey]) -> Result<BTreeMap<LegKey, Leg>> {
    let (pushes, routes) = columns(keys);
    let rows = sqlx::query(
        "SELECT l.push, l.route, l.closed, l.next_seq, l.outstanding, l.answered, l.payload, l.rejected, l.ended_at
           FROM (SELECT unnest($1::bigint[]) AS push, unnest($2::smallint[]) AS route) AS w
           JOIN legs l ON l.push = w.push AND l.route = w.route
          ORDER BY l.push, l.route FOR UPDATE OF l",
    )
    .bind(pushes)
    .bind(routes)
    .fetch_all(conn)
    .await?;
    rows.iter().map(Leg::from_row).collect()
}

/// Those of these legs that have no page.
pub(super) async fn without_pages(conn: &mut PgConnection, keys: &[LegKey]) -> Result<Vec<LegKey>> {
    let (pushes, routes) = columns(keys);
    let rows: Vec<(i64, i16)> = sqlx::query_as(
        "SELECT w.push, w.route FROM (SELECT unnest($1::bigint[]) AS push, unnest($2::smallint[]) AS route) AS w
          WHERE NOT EXISTS (SELECT 1 FROM pages p WHERE p.push = w.push AND p.route = w.route)",
    )
    .bind(pushes)
    .bind(routes)
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|(push, code)| Ok((PushKey(push), super::rows::route(code)?.code())))
        .collect()
}

/// What is written of a leg: what has changed, how it stands then, and its app, should it be new.
pub(super) struct Entry<'a> {
    pub(super) key: LegKey,
    pub(super) app: i32,
    pub(super) change: &'a Change,
    pub(super) leg: &'a Leg,
}

/// Writes legs, which are locked, or new.
pub(super) async fn write(conn: &mut PgConnection, entries: &[Entry<'_>]) -> Result<()> {
    let (pushes, routes) = columns(&entries.iter().map(|e| e.key).collect::<Vec<_>>());
    let of_change = |value: fn(&Change) -> i64| entries.iter().map(|e| value(e.change)).collect::<Vec<i64>>();
    let counted = |value: fn(&Counts) -> u64| {
        entries
            .iter()
            .map(|e| int(value(&e.change.counts)))
            .collect::<Vec<i64>>()
    };
    sqlx::query(
        "INSERT INTO legs AS l (push, route, app, due, closed, next_seq, rejected, ended_at, targeted, outstanding,
                                sent, failed, invalid, skipped, expired, cancelled, answered, payload)
         SELECT push, route, app, 0, closed, next_seq, rejected, ended_at, targeted, outstanding,
                sent, failed, invalid, skipped, expired, cancelled, answered, payload
           FROM (SELECT unnest($1::bigint[]) AS push, unnest($2::smallint[]) AS route, unnest($3::integer[]) AS app, unnest($4::boolean[]) AS closed,
                        unnest($5::bigint[]) AS next_seq, unnest($6::boolean[]) AS rejected, unnest($7::bigint[]) AS ended_at, unnest($8::bigint[]) AS targeted,
                        unnest($9::bigint[]) AS outstanding, unnest($10::bigint[]) AS sent, unnest($11::bigint[]) AS failed, unnest($12::bigint[]) AS invalid,
                        unnest($13::bigint[]) AS skipped, unnest($14::bigint[]) AS expired, unnest($15::bigint[]) AS cancelled, unnest($16::bigint[]) AS answered,
                        unnest($17::bigint[]) AS payload) AS w
         ON CONFLICT (push, route) DO UPDATE SET
            closed = excluded.closed, next_seq = excluded.next_seq, rejected = excluded.rejected, ended_at = excluded.ended_at,
            targeted = l.targeted + excluded.targeted, outstanding = l.outstanding + excluded.outstanding,
            sent = l.sent + excluded.sent, failed = l.failed + excluded.failed, invalid = l.invalid + excluded.invalid,
            skipped = l.skipped + excluded.skipped, expired = l.expired + excluded.expired,
            cancelled = l.cancelled + excluded.cancelled,
            answered = l.answered + excluded.answered, payload = l.payload + excluded.payload",
    )
    .bind(pushes)
    .bind(routes)
    .bind(entries.iter().map(|e| e.app).collect::<Vec<_>>())
    .bind(entries.iter().map(|e| e.leg.closed).collect::<Vec<_>>())
    .bind(entries.iter().map(|e| e.leg.next_seq).collect::<Vec<_>>())
    .bind(entries.iter().map(|e| e.leg.rejected).collect::<Vec<_>>())
    .bind(entries.iter().map(|e| e.leg.ended_at).collect::<Vec<_>>())
    .bind(of_change(|c| c.targeted))
    .bind(of_change(|c| c.outstanding))
    .bind(counted(|c| c.sent))
    .bind(counted(|c| c.failed))
    .bind(counted(|c| c.invalid))
    .bind(counted(|c| c.skipped))
    .bind(counted(|c| c.expired))
    .bind(counted(|c| c.cancelled))
    .bind(of_change(|c| int(c.answered)))
    .bind(of_change(|c| int(c.payload)))
    .execute(conn)
    .await?;
    Ok(())
}

/// How the legs of a push stand together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Standing {
    /// One has not ended.
    pub(super) open: bool,
    /// Every leg that had targets was rejected, and there is one.
    pub(super) rejected: bool,
}

/// The same for many pushes; one without legs is left out.
pub(super) async fn standing(conn: &mut PgConnection, pushes: &[i64]) -> Result<BTreeMap<PushKey, Standing>> {
    let rows: Vec<(i64, bool, bool, bool)> =
        sqlx::query_as("SELECT push, ended_at IS NULL, targeted > 0, rejected FROM legs WHERE push = ANY($1)")
            .bind(pushes)
            .fetch_all(conn)
            .await?;
    let mut sums: BTreeMap<PushKey, (bool, u32, u32)> = BTreeMap::new();
    for (push, open, used, rejected) in rows {
        let sum = sums.entry(PushKey(push)).or_default();
        sum.0 |= open;
        sum.1 += u32::from(used);
        sum.2 += u32::from(used && rejected);
    }
    let standings = sums.into_iter().map(|(push, (open, used, rejected))| {
        let rejected = used > 0 && rejected == used;
        (push, Standing { open, rejected })
    });
    Ok(standings.collect())
}

/// The routes of a push's legs that have not ended.
pub(super) async fn unended(conn: &mut PgConnection, push: PushKey) -> Result<Vec<i16>> {
    let routes = sqlx::query_scalar("SELECT route FROM legs WHERE push = $1 AND ended_at IS NULL")
        .bind(push.0)
        .fetch_all(conn)
        .await?;
    Ok(routes)
}
