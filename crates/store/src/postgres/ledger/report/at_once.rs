//! Settles pushes' own pages by one statement that is its own transaction, as most pushes to few targets end: everything is counted, nobody is dead, and the push runs.
//!
//! The statement compares what the ordinary way compares on rows that it has locked, and does so on the row that it writes. What it passes over, because somebody else has
//! the page, the push was paused or called off, or the page was in other hands before, goes the ordinary way.

use std::collections::HashSet;

use bugle_model::{Next, PushState, Report, Timestamp};
use sqlx::PgConnection;

use crate::Result;
use crate::books::account::{is_refused, of_own_page};
use crate::books::push::end_state;
use crate::books::reports::all_accounted;
use crate::postgres::ledger::rows::{count, int};

/// Does it end a push, and change nothing else?
pub(super) fn ends_its_push(report: &Report) -> bool {
    report.id.leg.is_none()
        && report.next == Next::Settle
        && report.progress.left_over.is_empty()
        && report.dead.is_empty()
}

/// Ends the pushes of these reports, of which each ends one. Tells of which reports that is written; the others have changed nothing.
pub(super) async fn end(conn: &mut PgConnection, reports: &[Report], now: Timestamp) -> Result<HashSet<usize>> {
    // In the order in which everybody locks pushes.
    let mut order: Vec<usize> = (0..reports.len()).collect();
    order.sort_unstable_by_key(|at| reports[*at].id.push);
    let ended: Vec<(i64, i64)> = sqlx::query_as(
        "UPDATE pushes p SET page_due = NULL, lease_until = NULL, progress = w.progress, answered = w.answered, payload = w.payload,
                             state = w.state, ended_at = $7, channels = NULL, targets = NULL, body = NULL
           FROM (SELECT unnest($1::bigint[]) AS key, unnest($2::bigint[]) AS epoch, unnest($3::bytea[]) AS progress, unnest($4::bigint[]) AS answered,
                        unnest($5::bigint[]) AS payload, unnest($6::text[]) AS state) AS w
          WHERE p.key = w.key AND p.epoch = w.epoch AND p.page_due IS NOT NULL AND p.lease_until IS NOT NULL
            AND p.state = 'running' AND p.expires_at > $7 AND p.answered = 0
         RETURNING p.key, p.expected",
    )
    .bind(column(reports, &order, |report| report.id.push.0))
    .bind(column(reports, &order, |report| int(report.epoch)))
    .bind(column(reports, &order, |report| of_own_page(report.progress.counts.clone())))
    .bind(column(reports, &order, |report| i64::from(report.answered)))
    .bind(column(reports, &order, |report| i64::from(report.payload)))
    .bind(column(reports, &order, |report| end_of_running(report, now).as_str()))
    .bind(now.0)
    .fetch_all(conn)
    .await?;
    let mut written = HashSet::with_capacity(ended.len());
    for (key, expected) in ended {
        if let Ok(at) = order.binary_search_by_key(&key, |at| reports[*at].id.push.0) {
            all_accounted(&reports[order[at]], count(expected), true);
            written.insert(order[at]);
        }
    }
    Ok(written)
}

fn column<T>(reports: &[Report], order: &[usize], value: impl Fn(&Report) -> T) -> Vec<T> {
    order.iter().map(|at| value(&reports[*at])).collect()
}

/// How a push ends that runs, has not expired, and was not reported of before.
fn end_of_running(report: &Report, now: Timestamp) -> PushState {
    let rejected = is_refused(u64::from(report.answered), u64::from(report.payload));
    end_state(PushState::Running, Timestamp(i64::MAX), rejected, now)
}
