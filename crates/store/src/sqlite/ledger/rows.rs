//! Rows of the ledger as values.

use bugle_model::{Flow, Lane, PageId, Progress, PushKey, PushState, Route, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::Result;
use crate::books::codes;
use crate::books::page::Content;
use crate::books::push::{self, Providers};
use crate::codec::targets;

/// What every page needs of its push.
pub(super) struct Push {
    pub(super) key: PushKey,
    pub(super) app: i64,
    pub(super) state: PushState,
    pub(super) lane: Lane,
    pub(super) providers: Providers,
    pub(super) due: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) ended: bool,
    /// Every device that is subscribed to one of these is meant; `None` = explicit targets.
    pub(super) channels: Option<Vec<String>>,
}

impl Push {
    pub(super) fn read(conn: &Connection, key: PushKey) -> Result<Option<Self>> {
        let mut statement = conn.prepare_cached(
            "SELECT app, state, lane, providers, due, expires_at, ended_at IS NOT NULL, channels FROM pushes WHERE key = ?",
        )?;
        let mut rows = statement.query([key.0])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(Self {
            key,
            app: row.get(0)?,
            state: codes::state(row.get_ref(1)?.as_str()?)?,
            lane: codes::lane(row.get(2)?)?,
            providers: Providers(row.get(3)?),
            due: Timestamp(row.get(4)?),
            expires_at: Timestamp(row.get(5)?),
            ended: row.get(6)?,
            channels: row.get_ref(7)?.as_str_or_null()?.map(codes::channels).transpose()?,
        }))
    }

    /// May it be sent at this moment? `rejected` = no provider accepts it on this leg.
    pub(super) fn flow(&self, rejected: bool, now: Timestamp) -> Flow {
        push::flow(self.state, self.expires_at, rejected, now)
    }
}

/// A page in a row of its own.
pub(super) struct Page {
    pub(super) row: i64,
    pub(super) id: PageId,
    pub(super) leg: Route,
    pub(super) expected: u64,
    pub(super) content: Content,
    pub(super) progress: Progress,
}

impl Page {
    pub(super) fn read(conn: &Connection, push: PushKey, leg: Route, seq: i64) -> Result<Option<Self>> {
        let mut statement = conn.prepare_cached(
            "SELECT id, push, route, seq, expected, after_key, upto_key, progress FROM pages
              WHERE push = ? AND route = ? AND seq = ?",
        )?;
        let mut rows = statement.query((push.0, leg.code(), seq))?;
        rows.next()?.map(Self::from_row).transpose()
    }

    /// The pages of a push whose route's code is in `routes`, in the order of (route, seq), until `visit` says `false`.
    pub(super) fn each(
        conn: &Connection,
        push: PushKey,
        routes: std::ops::RangeInclusive<u8>,
        mut visit: impl FnMut(Self) -> Result<bool>,
    ) -> Result<()> {
        let mut statement = conn.prepare_cached(
            "SELECT id, push, route, seq, expected, after_key, upto_key, progress FROM pages
              WHERE push = ? AND route BETWEEN ? AND ? ORDER BY route, seq",
        )?;
        let mut rows = statement.query((push.0, routes.start(), routes.end()))?;
        while let Some(row) = rows.next()? {
            if !visit(Self::from_row(row)?)? {
                break;
            }
        }
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> Result<Self> {
        let leg = codes::route(row.get(2)?)?;
        let id = PageId {
            push: PushKey(row.get(1)?),
            leg: Some(leg),
            seq: row.get(3)?,
        };
        Ok(Self {
            row: row.get(0)?,
            id,
            leg,
            expected: row.get(4)?,
            content: Content::of(row.get(5)?, row.get(6)?),
            progress: codes::read_progress(row.get_ref(7)?.as_blob_or_null()?, "pages.progress")?,
        })
    }

    /// The explicit targets, written down when the page was made.
    pub(super) fn targets(&self, conn: &Connection) -> Result<Vec<targets::Stored>> {
        let mut statement = conn.prepare_cached("SELECT targets FROM page_targets WHERE page = ?")?;
        let mut rows = statement.query([self.row])?;
        match rows.next()? {
            Some(row) => targets::decode(row.get_ref(0)?.as_blob()?, "page_targets.targets"),
            None => Err(codes::without_targets()),
        }
    }
}

/// A push's own page.
pub(super) struct OwnPage {
    /// `None` = it has none, or it is settled.
    pub(super) due: Option<Timestamp>,
    /// What all its targets go over where that is known without a look-up.
    pub(super) route: Route,
    pub(super) expected: u64,
    pub(super) answered: u64,
    pub(super) payload: u64,
    pub(super) progress: Progress,
}

impl OwnPage {
    pub(super) fn read(conn: &Connection, push: PushKey) -> Result<Option<Self>> {
        let mut statement = conn.prepare_cached(
            "SELECT page_due, route, expected, answered, payload, progress FROM pushes WHERE key = ?",
        )?;
        let mut rows = statement.query([push.0])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(Self {
            due: row.get::<_, Option<i64>>(0)?.map(Timestamp),
            route: codes::route(row.get(1)?)?,
            expected: row.get(2)?,
            answered: row.get(3)?,
            payload: row.get(4)?,
            progress: codes::read_progress(row.get_ref(5)?.as_blob_or_null()?, "pushes.progress")?,
        }))
    }

    pub(super) fn targets(conn: &Connection, push: PushKey) -> Result<Vec<targets::Stored>> {
        let mut statement = conn.prepare_cached("SELECT targets FROM pushes WHERE key = ?")?;
        let mut rows = statement.query([push.0])?;
        match rows.next()? {
            Some(row) => targets::decode(row.get_ref(0)?.as_blob()?, "pushes.targets"),
            None => Ok(Vec::new()),
        }
    }
}

/// The key of a push by its public name.
pub(super) fn push_key(conn: &Connection, app: i64, uid: &str) -> Result<Option<PushKey>> {
    let mut statement = conn.prepare_cached("SELECT key FROM pushes WHERE app = ? AND uid = ?")?;
    Ok(statement
        .query_row((app, uid), |row| row.get(0).map(PushKey))
        .optional()?)
}
