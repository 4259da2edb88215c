//! Rows of the ledger as values.

use std::time::Duration;

use bugle_model::{DeviceKey, Flow, Lane, PageId, Progress, Provider, PushKey, PushState, Route, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::codec::{progress, targets};
use crate::{Error, Result};

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
            state: state(row.get_ref(1)?.as_str()?)?,
            lane: lane(row.get(2)?)?,
            providers: Providers(row.get(3)?),
            due: Timestamp(row.get(4)?),
            expires_at: Timestamp(row.get(5)?),
            ended: row.get(6)?,
            channels: row.get_ref(7)?.as_str_or_null()?.map(channels).transpose()?,
        }))
    }

    /// May it be sent at this moment? `rejected` = no provider accepts it on this leg.
    pub(super) fn flow(&self, rejected: bool, now: Timestamp) -> Flow {
        match self.state {
            PushState::Cancelled => Flow::Cancelled,
            PushState::Expired => Flow::Expired,
            _ if rejected || self.state == PushState::Rejected => Flow::Rejected,
            _ if self.expires_at.since(now) == Duration::ZERO => Flow::Expired,
            PushState::Paused => Flow::Paused,
            _ => Flow::Running,
        }
    }
}

/// The providers that a push has a payload for: bit n = the provider with code n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Providers(i64);

impl Providers {
    pub(super) fn of(providers: &[Provider]) -> Self {
        Self(providers.iter().fold(0, |bits, p| bits | 1 << p.code()))
    }

    pub(super) fn bits(self) -> i64 {
        self.0
    }

    /// Is there a payload for what goes over this route?
    pub(super) fn serve(self, route: Route) -> bool {
        route.provider.is_some_and(|p| self.0 & (1 << p.code()) != 0)
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

/// Where a page's targets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// The devices after the first key, up to the second.
    Range(DeviceKey, DeviceKey),
    /// Written down in `page_targets`.
    Explicit,
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
        let leg = route(row.get(2)?)?;
        let id = PageId {
            push: PushKey(row.get(1)?),
            leg: Some(leg),
            seq: row.get(3)?,
        };
        let content = match (row.get(5)?, row.get(6)?) {
            (Some(after), Some(upto)) => Content::Range(DeviceKey(after), DeviceKey(upto)),
            _ => Content::Explicit,
        };
        Ok(Self {
            row: row.get(0)?,
            id,
            leg,
            expected: row.get(4)?,
            content,
            progress: read_progress(row, 7, "pages.progress")?,
        })
    }

    /// The explicit targets, written down when the page was made.
    pub(super) fn targets(&self, conn: &Connection) -> Result<Vec<targets::Stored>> {
        let mut statement = conn.prepare_cached("SELECT targets FROM page_targets WHERE page = ?")?;
        let mut rows = statement.query([self.row])?;
        match rows.next()? {
            Some(row) => targets::decode(row.get_ref(0)?.as_blob()?, "page_targets.targets"),
            None => Err(Error::Corrupt {
                place: "page_targets",
                detail: "a page without targets".to_owned(),
            }),
        }
    }

    /// How many targets it stands for while it is in work: those that were expected, or more if more turned up.
    pub(super) fn targeted(&self) -> u64 {
        targeted(self.expected, &self.progress)
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
            route: route(row.get(1)?)?,
            expected: row.get(2)?,
            answered: row.get(3)?,
            payload: row.get(4)?,
            progress: read_progress(row, 5, "pushes.progress")?,
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

    pub(super) fn targeted(&self) -> u64 {
        targeted(self.expected, &self.progress)
    }
}

/// The name of a push's own page.
pub(super) fn own_page(push: PushKey) -> PageId {
    PageId {
        push,
        leg: None,
        seq: 0,
    }
}

/// A device with an old key may subscribe after the walk, so that more are found than were expected.
fn targeted(expected: u64, progress: &Progress) -> u64 {
    let found = progress.ended() + (progress.open.len() + progress.left_over.len()) as u64;
    expected.max(found)
}

fn read_progress(row: &Row<'_>, column: usize, place: &'static str) -> Result<Progress> {
    match row.get_ref(column)?.as_blob_or_null()? {
        Some(blob) => progress::decode(blob, place),
        None => Ok(Progress::default()),
    }
}

pub(super) fn route(code: u8) -> Result<Route> {
    Route::from_code(code).ok_or_else(|| Error::Corrupt {
        place: "a route",
        detail: format!("code {code}"),
    })
}

pub(super) fn lane(code: u8) -> Result<Lane> {
    Lane::from_code(code).ok_or_else(|| Error::Corrupt {
        place: "a lane",
        detail: format!("code {code}"),
    })
}

pub(super) fn state(name: &str) -> Result<PushState> {
    PushState::parse(name).ok_or_else(|| Error::Corrupt {
        place: "pushes.state",
        detail: name.to_owned(),
    })
}

fn channels(json: &str) -> Result<Vec<String>> {
    serde_json::from_str(json).map_err(|error| Error::Corrupt {
        place: "pushes.channels",
        detail: error.to_string(),
    })
}

/// The key of a push by its public name.
pub(super) fn push_key(conn: &Connection, app: i64, uid: &str) -> Result<Option<PushKey>> {
    let mut statement = conn.prepare_cached("SELECT key FROM pushes WHERE app = ? AND uid = ?")?;
    Ok(statement
        .query_row((app, uid), |row| row.get(0).map(PushKey))
        .optional()?)
}
