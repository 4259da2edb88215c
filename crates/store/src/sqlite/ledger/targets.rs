//! Reads the targets of a page as they are at this moment.

use bugle_model::{DeviceKey, Progress, Route, Skip, Target, TargetKind, Token, TokenTexts};
use rusqlite::{Connection, OptionalExtension, Row};

use super::audience::{self, Audience};
use super::rows::{OwnPage, Page, Push};
use crate::Result;
use crate::books::page::Content;
use crate::books::target::{self, of_range};
use crate::codec::targets::{Stored, What};
use crate::registry::record;

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
            targets.push(of_range(key, leg, device.token));
        }
    }
    let from = DeviceKey(after.0.max(progress.position));
    let (mut keys, mut texts) = (Vec::new(), TokenTexts::default());
    audience.each(conn, audience::TOKENS, (from, upto), |key, row| {
        record::add_token(&mut texts, row.get_ref(1)?.as_str()?)?;
        keys.push(key);
        Ok(true)
    })?;
    targets.extend(
        keys.into_iter()
            .zip(texts.tokens())
            .map(|(key, token)| of_range(key, leg, token)),
    );
    Ok(targets)
}

/// `route` is what raw tokens, topics and whatever is unknown are counted under.
fn explicit(
    conn: &Connection,
    push: &Push,
    route: Route,
    stored: &[Stored],
    progress: &Progress,
) -> Result<Vec<Target>> {
    target::rest(stored, progress)
        .map(|(position, stored)| {
            let found = one(conn, push, route, &stored.what)?;
            Ok(target::explicit((position, stored), found))
        })
        .collect()
}

fn one(conn: &Connection, push: &Push, route: Route, what: &What) -> Result<(Route, TargetKind, Option<DeviceKey>)> {
    if let Some(kind) = target::named(what) {
        return Ok((route, kind, None));
    }
    let device = match what {
        What::Device(key) => Found::by_key(conn, *key)?,
        What::Id(id) => Found::by_id(conn, push.app, id)?,
        What::Token(_) | What::Topic(_) | What::Condition(_) => None,
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
    let kind = match target::skip(matches, push.providers.serve(device.route)) {
        Some(skip) => TargetKind::Skip(skip),
        None => TargetKind::Token(device.token),
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
        Ok(Self {
            key: DeviceKey(row.get(0)?),
            route: record::route(row.get(1)?, row.get(2)?)?,
            token: token(row, 3)?,
        })
    }
}

fn token(row: &Row<'_>, column: usize) -> Result<Token> {
    record::token(row.get_ref(column)?.as_str()?)
}
