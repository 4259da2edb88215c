//! Reads the targets of a page as they are at this moment.

use bugle_model::{DeviceKey, Platform, Progress, Provider, Route, Skip, Target, TargetKind, Token};
use rusqlite::{Connection, OptionalExtension, Row};

use super::audience::{self, Audience};
use super::rows::{Content, OwnPage, Page, Push};
use crate::codec::targets::{Stored, What};
use crate::{Error, Result};

/// What is still to be sent of a page: what was open, and all above the highest started position, ascending.
pub(super) fn of_page(conn: &Connection, push: &Push, page: &Page) -> Result<Vec<Target>> {
    match page.content {
        Content::Range(after, upto) => range(conn, push, page.leg, (after, upto), &page.progress),
        Content::Explicit => explicit(conn, push, page.leg, &page.targets(conn)?, &page.progress),
    }
}

/// The same of a push's own page.
pub(super) fn of_own_page(conn: &Connection, push: &Push, own: &OwnPage) -> Result<Vec<Target>> {
    let stored = OwnPage::targets(conn, push.key)?;
    explicit(conn, push, own.route, &stored, &own.progress)
}

fn range(
    conn: &Connection,
    push: &Push,
    leg: Route,
    (after, upto): (DeviceKey, DeviceKey),
    progress: &Progress,
) -> Result<Vec<Target>> {
    let audience = Audience {
        app: push.app,
        channels: push.channels.as_deref().unwrap_or_default(),
        route: leg,
    };
    let mut targets = Vec::new();
    for &position in &progress.open {
        let key = DeviceKey(position);
        // Gone meanwhile, or no longer meant: it was never counted, and it will not be.
        if let Some(device) = Found::by_key(conn, key)?
            && device.route == leg
            && audience.has(conn, key)?
        {
            targets.push(fresh(key, leg, device.token));
        }
    }
    let from = DeviceKey(after.0.max(progress.position));
    audience.each(conn, audience::TOKENS, (from, upto), |key, row| {
        targets.push(fresh(key, leg, token(row, 1)?));
        Ok(true)
    })?;
    Ok(targets)
}

fn fresh(key: DeviceKey, route: Route, token: Token) -> Target {
    Target {
        position: key.0,
        route,
        kind: TargetKind::Token(token),
        device: Some(key),
        attempts: 0,
        first_try: 0,
        suspect: false,
    }
}

/// `route` is what raw tokens, topics and whatever is unknown are counted under.
fn explicit(
    conn: &Connection,
    push: &Push,
    route: Route,
    stored: &[Stored],
    progress: &Progress,
) -> Result<Vec<Target>> {
    let above = progress.position.saturating_add(1)..=i64::try_from(stored.len()).unwrap_or(i64::MAX);
    let open = progress.open.iter().copied();
    let mut targets = Vec::new();
    for position in open.chain(above) {
        let at = usize::try_from(position).ok().and_then(|p| p.checked_sub(1));
        let Some(entry) = at.and_then(|at| stored.get(at)) else {
            continue;
        };
        let (route, kind, device) = one(conn, push, route, &entry.what)?;
        targets.push(Target {
            position,
            route,
            kind,
            device,
            attempts: entry.attempts,
            first_try: entry.first_try,
            suspect: entry.suspect,
        });
    }
    Ok(targets)
}

fn one(conn: &Connection, push: &Push, route: Route, what: &What) -> Result<(Route, TargetKind, Option<DeviceKey>)> {
    let device = match what {
        What::Token(token) => return Ok((route, TargetKind::Token(token.clone()), None)),
        What::Topic(topic) => return Ok((route, TargetKind::Topic(topic.as_str().into()), None)),
        What::Condition(text) => return Ok((route, TargetKind::Condition(text.as_str().into()), None)),
        What::Device(key) => Found::by_key(conn, *key)?,
        What::Id(id) => Found::by_id(conn, push.app, id)?,
    };
    let Some(device) = device else {
        return Ok((route, TargetKind::Skip(Skip::Unknown), None));
    };
    let matches = match &push.channels {
        None => true,
        Some(channels) => Audience {
            app: push.app,
            channels,
            route: device.route,
        }
        .has(conn, device.key)?,
    };
    let kind = if !matches {
        TargetKind::Skip(Skip::NoLongerMatches)
    } else if !push.providers.serve(device.route) {
        TargetKind::Skip(Skip::NoPayload)
    } else {
        TargetKind::Token(device.token)
    };
    Ok((device.route, kind, Some(device.key)))
}

/// A device as far as sending needs it.
pub(super) struct Found {
    pub(super) key: DeviceKey,
    pub(super) route: Route,
    token: Token,
}

impl Found {
    fn by_key(conn: &Connection, key: DeviceKey) -> Result<Option<Self>> {
        let mut statement = conn.prepare_cached("SELECT key, provider, platform, token FROM devices WHERE key = ?")?;
        statement
            .query_row([key.0], |row| Ok(Self::from_row(row)))
            .optional()?
            .transpose()
    }

    pub(super) fn by_id(conn: &Connection, app: i64, id: &str) -> Result<Option<Self>> {
        let mut statement =
            conn.prepare_cached("SELECT key, provider, platform, token FROM devices WHERE app = ? AND id = ?")?;
        statement
            .query_row((app, id), |row| Ok(Self::from_row(row)))
            .optional()?
            .transpose()
    }

    fn from_row(row: &Row<'_>) -> Result<Self> {
        let (provider, platform): (u8, u8) = (row.get(1)?, row.get(2)?);
        let route = Provider::from_code(provider).zip(Platform::from_code(platform));
        let (provider, platform) = route.ok_or_else(|| Error::Corrupt {
            place: "devices.provider",
            detail: format!("codes {provider} and {platform}"),
        })?;
        Ok(Self {
            key: DeviceKey(row.get(0)?),
            route: Route::of(provider, platform),
            token: token(row, 3)?,
        })
    }
}

fn token(row: &Row<'_>, column: usize) -> Result<Token> {
    Token::parse(row.get_ref(column)?.as_str()?).map_err(|invalid| Error::Corrupt {
        place: "devices.token",
        detail: invalid.to_string(),
    })
}
