//! Cuts the devices of one channel into the ranges that pages will be, several legs at once.
//!
//! The server does it alone: each step counts on in the index from where the last one ended, and only the ends of the ranges are sent.

use std::collections::BTreeMap;

use bugle_model::DeviceKey;
use sqlx::PgConnection;

use super::rows::int;
use crate::Result;
use crate::books::walk::MAX_RANGE;
use crate::ledger::Walk;

/// Where a range ends, and how many devices it has. The last number: how many were still wanted behind it; below 0 it is one device that nobody asked for.
type Cut = (i16, i64, i64, i64);

/// Goes on with walks, which have just begun, in this channel: each as far as its number of devices.
pub(super) async fn read(
    conn: &mut PgConnection,
    (app, channel): (i32, &str),
    walks: &mut [(Walk, u32)],
) -> Result<()> {
    let mut cuts = cuts(conn, (app, channel), walks).await?;
    for (walk, _) in walks {
        let mut last = walk.from;
        for (upto, count, left) in cuts.remove(&i16::from(walk.route.code())).unwrap_or_default() {
            if left < 0 {
                walk.stop(last);
            } else {
                walk.append_range(last, DeviceKey(upto), count);
                last = DeviceKey(upto);
            }
        }
    }
    Ok(())
}

/// By route, ascending.
async fn cuts(
    conn: &mut PgConnection,
    (app, channel): (i32, &str),
    walks: &[(Walk, u32)],
) -> Result<BTreeMap<i16, Vec<(i64, u32, i64)>>> {
    let of = |value: fn(&Walk) -> i64| walks.iter().map(|(walk, _)| value(walk)).collect::<Vec<_>>();
    // A step asks for a range, or where nothing is left to be asked for whether the audience goes on. It is the last one if it finds less than it asked for.
    let read: Vec<Cut> = sqlx::query_as(
        "WITH RECURSIVE cut AS (
            SELECT route, bound, cursor AS upto, 0::bigint AS asked, 0::bigint AS found, wanted AS rest
              FROM (SELECT unnest($3::smallint[]) AS route, unnest($4::bigint[]) AS cursor, unnest($5::bigint[]) AS bound, unnest($6::bigint[]) AS wanted) AS w
            UNION ALL
            SELECT c.route, c.bound, n.upto, a.asked, n.found, c.rest - a.asked
              FROM cut c
             CROSS JOIN LATERAL (SELECT CASE WHEN c.rest > 0 THEN least(c.rest, $7) ELSE 1 END AS asked) AS a
             CROSS JOIN LATERAL (
                SELECT max(key) AS upto, count(*) AS found FROM (
                    SELECT key FROM subscriptions
                     WHERE app = $1 AND channel = $2 AND route = c.route AND key > c.upto AND key <= c.bound
                     ORDER BY key LIMIT a.asked) AS next) AS n
             WHERE c.found = c.asked AND c.rest >= 0)
         SELECT route, upto, found, rest FROM cut WHERE found > 0",
    )
    .bind(app)
    .bind(channel)
    .bind(
        walks
            .iter()
            .map(|(walk, _)| i16::from(walk.route.code()))
            .collect::<Vec<_>>(),
    )
    .bind(of(|walk| walk.from.0))
    .bind(of(|walk| walk.bound.0))
    .bind(walks.iter().map(|(_, wanted)| i64::from(*wanted)).collect::<Vec<_>>())
    .bind(int(u64::from(MAX_RANGE)))
    .fetch_all(conn)
    .await?;
    let mut cuts: BTreeMap<i16, Vec<(i64, u32, i64)>> = BTreeMap::new();
    for (route, upto, found, left) in read {
        let found = u32::try_from(found).unwrap_or(MAX_RANGE);
        cuts.entry(route).or_default().push((upto, found, left));
    }
    for cuts in cuts.values_mut() {
        cuts.sort_unstable_by_key(|(upto, ..)| *upto);
    }
    Ok(cuts)
}
