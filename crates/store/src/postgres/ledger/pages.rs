//! Page rows come and go.

use std::collections::HashMap;

use bugle_model::{DeviceKey, Lane, PageId, Route, Timestamp};
use sqlx::PgConnection;

use super::rows::{Push, int};
use crate::{Error, Result};

/// A page to be.
pub(super) struct NewPage {
    pub(super) id: PageId,
    pub(super) leg: Route,
    pub(super) app: i32,
    pub(super) lane: Lane,
    pub(super) due: Timestamp,
    /// `None` = its targets are explicit.
    pub(super) range: Option<(DeviceKey, DeviceKey)>,
    pub(super) expected: u64,
}

impl NewPage {
    /// Page `seq` of a push's leg.
    pub(super) fn of(push: &Push, leg: Route, seq: i64, due: Timestamp) -> Self {
        Self {
            id: PageId {
                push: push.key,
                leg: Some(leg),
                seq,
            },
            leg,
            app: push.app,
            lane: push.lane,
            due,
            range: None,
            expected: 0,
        }
    }
}

/// Inserts the rows; returns their numbers, in order.
pub(super) async fn insert(conn: &mut PgConnection, pages: &[NewPage]) -> Result<Vec<i64>> {
    let inserted: Vec<(i64, i64, i16, i64)> = sqlx::query_as(
        "INSERT INTO pages (push, route, seq, app, lane, due, after_key, upto_key, expected)
         SELECT push, route, seq, app, lane, due, after_key, upto_key, expected
           FROM (SELECT unnest($1::bigint[]) AS push, unnest($2::smallint[]) AS route, unnest($3::bigint[]) AS seq, unnest($4::integer[]) AS app,
                        unnest($5::smallint[]) AS lane, unnest($6::bigint[]) AS due, unnest($7::bigint[]) AS after_key, unnest($8::bigint[]) AS upto_key,
                        unnest($9::bigint[]) AS expected) AS w
         RETURNING id, push, route, seq",
    )
    .bind(pages.iter().map(|p| p.id.push.0).collect::<Vec<_>>())
    .bind(pages.iter().map(|p| i16::from(p.leg.code())).collect::<Vec<_>>())
    .bind(pages.iter().map(|p| p.id.seq).collect::<Vec<_>>())
    .bind(pages.iter().map(|p| p.app).collect::<Vec<_>>())
    .bind(pages.iter().map(|p| i16::from(p.lane.code())).collect::<Vec<_>>())
    .bind(pages.iter().map(|p| p.due.0).collect::<Vec<_>>())
    .bind(
        pages
            .iter()
            .map(|p| p.range.map(|(after, _)| after.0))
            .collect::<Vec<_>>(),
    )
    .bind(
        pages
            .iter()
            .map(|p| p.range.map(|(_, upto)| upto.0))
            .collect::<Vec<_>>(),
    )
    .bind(pages.iter().map(|p| int(p.expected)).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    let rows: HashMap<(i64, i16, i64), i64> = inserted.into_iter().map(|(id, p, r, s)| ((p, r, s), id)).collect();
    pages
        .iter()
        .map(|page| {
            let name = (page.id.push.0, i16::from(page.leg.code()), page.id.seq);
            rows.get(&name).copied().ok_or_else(|| Error::Corrupt {
                place: "pages",
                detail: "a page that was inserted is not there".to_owned(),
            })
        })
        .collect()
}

/// Inserts pages of explicit targets: each with `codec::targets`.
pub(super) async fn insert_explicit(conn: &mut PgConnection, pages: &[NewPage], targets: &[Vec<u8>]) -> Result<()> {
    if pages.is_empty() {
        return Ok(());
    }
    let rows = insert(conn, pages).await?;
    sqlx::query("INSERT INTO page_targets (page, targets) SELECT page, targets FROM (SELECT unnest($1::bigint[]) AS page, unnest($2::bytea[]) AS targets) AS w")
        .bind(rows)
        .bind(targets)
        .execute(conn)
        .await?;
    Ok(())
}

/// Takes settled pages away: all of them, and the targets of those that are explicit.
pub(super) async fn remove(conn: &mut PgConnection, rows: &[i64], explicit: &[i64]) -> Result<()> {
    if !rows.is_empty() {
        sqlx::query("DELETE FROM pages WHERE id = ANY($1)")
            .bind(rows)
            .execute(&mut *conn)
            .await?;
    }
    if !explicit.is_empty() {
        sqlx::query("DELETE FROM page_targets WHERE page = ANY($1)")
            .bind(explicit)
            .execute(conn)
            .await?;
    }
    Ok(())
}
