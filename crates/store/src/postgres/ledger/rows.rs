//! Rows of the ledger as values.

use std::collections::BTreeMap;

use bugle_model::{Flow, Lane, PageId, Progress, PushKey, PushState, Route, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use crate::Result;
use crate::books::codes;
use crate::books::page::Content;
use crate::books::push::{self, Providers};
use crate::codec::targets;
use crate::postgres::rows::small;

/// What every page needs of its push.
#[derive(Clone)]
pub(super) struct Push {
    pub(super) key: PushKey,
    pub(super) app: i32,
    pub(super) state: PushState,
    pub(super) lane: Lane,
    pub(super) providers: Providers,
    pub(super) due: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) ended: bool,
    /// Every device that is subscribed to one of these is meant; `None` = explicit targets.
    pub(super) channels: Option<Vec<String>>,
}

/// Pushes by key, each with its own page.
pub(super) type Pushes = BTreeMap<PushKey, (Push, OwnPage)>;

impl Push {
    pub(super) async fn read(conn: &mut PgConnection, key: PushKey) -> Result<Option<Self>> {
        Ok(Self::read_many(conn, &[key.0])
            .await?
            .remove(&key)
            .map(|(push, _)| push))
    }

    /// The pushes of these keys that there are, with their own pages.
    pub(super) async fn read_many(conn: &mut PgConnection, keys: &[i64]) -> Result<Pushes> {
        let rows = sqlx::query(
            "SELECT key, app, state, lane, providers, due, expires_at, ended_at IS NOT NULL, channels,
                    page_due, route, expected, answered, payload, progress, epoch, lease_until IS NOT NULL,
                    lease_until IS NULL OR lease_until < clock_timestamp()
               FROM pushes WHERE key = ANY($1)",
        )
        .bind(keys)
        .fetch_all(conn)
        .await?;
        rows.iter().map(Self::with_own_page).collect()
    }

    /// The same, locked until the transaction ends. Pushes are the first to be locked, in the order of their keys.
    pub(super) async fn lock_many(conn: &mut PgConnection, keys: &[i64]) -> Result<Pushes> {
        let rows = sqlx::query(
            "SELECT key, app, state, lane, providers, due, expires_at, ended_at IS NOT NULL, channels,
                    page_due, route, expected, answered, payload, progress, epoch, lease_until IS NOT NULL,
                    lease_until IS NULL OR lease_until < clock_timestamp()
               FROM pushes WHERE key = ANY($1) ORDER BY key FOR UPDATE",
        )
        .bind(keys)
        .fetch_all(conn)
        .await?;
        rows.iter().map(Self::with_own_page).collect()
    }

    /// One push, locked, with its own page.
    pub(super) async fn lock(conn: &mut PgConnection, key: PushKey) -> Result<Option<(Self, OwnPage)>> {
        Ok(Self::lock_many(conn, &[key.0]).await?.remove(&key))
    }

    /// Of a row that begins with the columns of the statements above.
    pub(super) fn with_own_page(row: &PgRow) -> Result<(PushKey, (Self, OwnPage))> {
        let push = Self::from_row(row)?;
        let own = OwnPage {
            due: row.try_get::<Option<i64>, _>(9)?.map(Timestamp),
            route: route(row.try_get(10)?)?,
            expected: count(row.try_get(11)?),
            answered: count(row.try_get(12)?),
            payload: count(row.try_get(13)?),
            progress: codes::read_progress(row.try_get(14)?, "pushes.progress")?,
            epoch: count(row.try_get(15)?),
            held: row.try_get(16)?,
            free: row.try_get(17)?,
        };
        Ok((push.key, (push, own)))
    }

    /// Of a row that begins with the first nine of those columns.
    pub(super) fn from_row(row: &PgRow) -> Result<Self> {
        Ok(Self {
            key: PushKey(row.try_get(0)?),
            app: row.try_get(1)?,
            state: codes::state(row.try_get(2)?)?,
            lane: codes::lane(small(row.try_get(3)?))?,
            providers: Providers(row.try_get(4)?),
            due: Timestamp(row.try_get(5)?),
            expires_at: Timestamp(row.try_get(6)?),
            ended: row.try_get(7)?,
            channels: row.try_get::<Option<&str>, _>(8)?.map(codes::channels).transpose()?,
        })
    }

    /// May it be sent at this moment? `rejected` = no provider accepts it on this leg.
    pub(super) fn flow(&self, rejected: bool, now: Timestamp) -> Flow {
        push::flow(self.state, self.expires_at, rejected, now)
    }
}

/// A push's own page.
#[derive(Clone)]
pub(super) struct OwnPage {
    /// `None` = it has none, or it is settled.
    pub(super) due: Option<Timestamp>,
    /// What all its targets go over where that is known without a look-up.
    pub(super) route: Route,
    pub(super) expected: u64,
    pub(super) answered: u64,
    pub(super) payload: u64,
    pub(super) progress: Progress,
    pub(super) epoch: u64,
    /// Somebody has a lease, which may have expired.
    pub(super) held: bool,
    /// Nobody has a lease that has not expired.
    pub(super) free: bool,
}

impl OwnPage {
    /// Its targets.
    pub(super) async fn targets(conn: &mut PgConnection, push: PushKey) -> Result<Vec<targets::Stored>> {
        Ok(Self::targets_of(conn, &[push.0])
            .await?
            .remove(&push)
            .unwrap_or_default())
    }

    /// The targets of many pushes' own pages.
    pub(super) async fn targets_of(
        conn: &mut PgConnection,
        pushes: &[i64],
    ) -> Result<BTreeMap<PushKey, Vec<targets::Stored>>> {
        if pushes.is_empty() {
            return Ok(BTreeMap::new());
        }
        let rows = sqlx::query("SELECT key, targets FROM pushes WHERE key = ANY($1) AND targets IS NOT NULL")
            .bind(pushes)
            .fetch_all(conn)
            .await?;
        rows.iter()
            .map(|row| {
                let stored = targets::decode(row.try_get(1)?, "pushes.targets")?;
                Ok((PushKey(row.try_get(0)?), stored))
            })
            .collect()
    }
}

/// A page in a row of its own.
#[derive(Clone)]
pub(super) struct Page {
    pub(super) row: i64,
    pub(super) id: PageId,
    pub(super) leg: Route,
    pub(super) expected: u64,
    pub(super) content: Content,
    pub(super) progress: Progress,
    pub(super) epoch: u64,
}

impl Page {
    /// A page, and its push.
    pub(super) async fn with_push(
        conn: &mut PgConnection,
        push: PushKey,
        leg: Route,
        seq: i64,
    ) -> Result<Option<(Self, Push)>> {
        let row = sqlx::query(
            "SELECT p.key, p.app, p.state, p.lane, p.providers, p.due, p.expires_at, p.ended_at IS NOT NULL, p.channels,
                    g.id, g.push, g.route, g.seq, g.expected, g.after_key, g.upto_key, g.progress, g.epoch
               FROM pages g JOIN pushes p ON p.key = g.push WHERE g.push = $1 AND g.route = $2 AND g.seq = $3",
        )
        .bind(push.0)
        .bind(i16::from(leg.code()))
        .bind(seq)
        .fetch_optional(conn)
        .await?;
        let read = row.map(|row| Ok((Self::at(&row, 9)?, Push::from_row(&row)?)));
        read.transpose()
    }

    /// All pages of a push, in the order of (route, seq).
    pub(super) async fn all(conn: &mut PgConnection, push: PushKey) -> Result<Vec<Self>> {
        let rows = sqlx::query(
            "SELECT id, push, route, seq, expected, after_key, upto_key, progress, epoch FROM pages
              WHERE push = $1 ORDER BY route, seq",
        )
        .bind(push.0)
        .fetch_all(conn)
        .await?;
        rows.iter().map(Self::from_row).collect()
    }

    /// Free pages of a push whose route's code is in `routes`, in the order of (route, seq), locked; those that somebody else has locked are passed over.
    pub(super) async fn lock_free(
        conn: &mut PgConnection,
        push: PushKey,
        routes: std::ops::RangeInclusive<u8>,
        limit: u64,
    ) -> Result<Vec<Self>> {
        let rows = sqlx::query(
            "SELECT id, push, route, seq, expected, after_key, upto_key, progress, epoch FROM pages
              WHERE push = $1 AND route BETWEEN $2 AND $3 AND (lease_until IS NULL OR lease_until < clock_timestamp())
              ORDER BY route, seq LIMIT $4 FOR UPDATE SKIP LOCKED",
        )
        .bind(push.0)
        .bind(i16::from(*routes.start()))
        .bind(i16::from(*routes.end()))
        .bind(int(limit))
        .fetch_all(conn)
        .await?;
        rows.iter().map(Self::from_row).collect()
    }

    /// Of a row that begins with the columns of the statements above.
    pub(super) fn from_row(row: &PgRow) -> Result<Self> {
        Self::at(row, 0)
    }

    /// Of a row in which its columns begin there.
    fn at(row: &PgRow, first: usize) -> Result<Self> {
        let leg = route(row.try_get(first + 2)?)?;
        let id = PageId {
            push: PushKey(row.try_get(first + 1)?),
            leg: Some(leg),
            seq: row.try_get(first + 3)?,
        };
        Ok(Self {
            row: row.try_get(first)?,
            id,
            leg,
            expected: count(row.try_get(first + 4)?),
            content: Content::of(row.try_get(first + 5)?, row.try_get(first + 6)?),
            progress: codes::read_progress(row.try_get(first + 7)?, "pages.progress")?,
            epoch: count(row.try_get(first + 8)?),
        })
    }

    /// The explicit targets of many pages, by row, written down when the pages were made.
    pub(super) async fn targets_of(
        conn: &mut PgConnection,
        pages: &[i64],
    ) -> Result<BTreeMap<i64, Vec<targets::Stored>>> {
        if pages.is_empty() {
            return Ok(BTreeMap::new());
        }
        let rows = sqlx::query("SELECT page, targets FROM page_targets WHERE page = ANY($1)")
            .bind(pages)
            .fetch_all(conn)
            .await?;
        rows.iter()
            .map(|row| {
                let stored = targets::decode(row.try_get(1)?, "page_targets.targets")?;
                Ok((row.try_get(0)?, stored))
            })
            .collect()
    }
}

/// A number that the database keeps as a signed one, and that is never below zero.
pub(super) fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// The same on the way back.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn route(code: i16) -> Result<Route> {
    codes::route(small(code))
}

/// The key of a push by its public name.
pub(super) async fn push_key(conn: &mut PgConnection, app: i32, uid: &str) -> Result<Option<PushKey>> {
    let key: Option<i64> = sqlx::query_scalar("SELECT key FROM pushes WHERE app = $1 AND uid = $2")
        .bind(app)
        .bind(uid)
        .fetch_optional(conn)
        .await?;
    Ok(key.map(PushKey))
}
