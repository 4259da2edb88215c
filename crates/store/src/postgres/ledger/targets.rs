//! Reads the targets of pages as they are at this moment.
//!
//! Explicit ones of many pages are looked up together: all device keys by one statement, all ids by another.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bugle_model::{DeviceKey, Progress, Route, Skip, Target, TargetKind, Token};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::audience::Audience;
use super::audience::tokens::{self, Part};
use super::rows::{OwnPage, Page, Push};
use crate::Result;
use crate::books::page::Content;
use crate::books::target::{self, of_range};
use crate::codec::targets::{Stored, What};
use crate::postgres::rows::small;
use crate::registry::record;

/// A page of explicit targets that is read.
pub(super) struct Explicit<'a> {
    pub(super) push: &'a Push,
    /// What raw tokens, topics and whatever is unknown are counted under.
    pub(super) route: Route,
    pub(super) stored: Vec<Stored>,
    pub(super) progress: &'a Progress,
}

impl Explicit<'_> {
    /// What is still to be sent.
    fn rest(&self) -> impl Iterator<Item = (i64, &Stored)> {
        target::rest(&self.stored, self.progress)
    }
}

/// What is still to be sent of a push's own page, in the order of positions.
pub(super) async fn of_own_page(conn: &mut PgConnection, push: &Push, own: &OwnPage) -> Result<Vec<Target>> {
    let page = Explicit {
        push,
        route: own.route,
        stored: OwnPage::targets(conn, push.key).await?,
        progress: &own.progress,
    };
    Ok(explicit(conn, &[page]).await?.remove(0))
}

/// What is still to be sent of pages of explicit targets: a list for each, in the order of positions.
pub(super) async fn explicit(conn: &mut PgConnection, pages: &[Explicit<'_>]) -> Result<Vec<Vec<Target>>> {
    let found = Found::look_up(conn, pages).await?;
    let mut all = Vec::with_capacity(pages.len());
    for page in pages {
        let members = members(conn, page, &found).await?;
        let targets = page
            .rest()
            .map(|(position, stored)| target::explicit((position, stored), one(page, &stored.what, &found, &members)));
        all.push(targets.collect());
    }
    Ok(all)
}

fn one(
    page: &Explicit<'_>,
    what: &What,
    found: &Found,
    members: &BTreeSet<i64>,
) -> (Route, TargetKind, Option<DeviceKey>) {
    let route = page.route;
    if let Some(kind) = target::named(what) {
        return (route, kind, None);
    }
    let Some(device) = found.get(page.push.app, what) else {
        return (route, TargetKind::Skip(Skip::Unknown), None);
    };
    let matches = page.push.channels.is_none() || members.contains(&device.key);
    let kind = match target::skip(matches, page.push.providers.serve(device.route)) {
        Some(skip) => TargetKind::Skip(skip),
        None => TargetKind::Token(device.token.clone()),
    };
    (device.route, kind, Some(DeviceKey(device.key)))
}

/// Which of a page's devices are in the push's audience, if it has one.
async fn members(conn: &mut PgConnection, page: &Explicit<'_>, found: &Found) -> Result<BTreeSet<i64>> {
    let Some(channels) = &page.push.channels else {
        return Ok(BTreeSet::new());
    };
    let mut by_route: BTreeMap<Route, Vec<i64>> = BTreeMap::new();
    for (_, stored) in page.rest() {
        if let Some(device) = found.get(page.push.app, &stored.what) {
            by_route.entry(device.route).or_default().push(device.key);
        }
    }
    let mut members = BTreeSet::new();
    for (route, keys) in by_route {
        let audience = Audience {
            app: page.push.app,
            channels,
            route,
        };
        members.extend(audience.members(conn, &keys).await?);
    }
    Ok(members)
}

/// A device as far as sending needs it.
pub(super) struct Device {
    pub(super) key: i64,
    pub(super) route: Route,
    token: Token,
}

impl Device {
    /// Of a row with a key, a provider, a platform and a token.
    fn from_row(row: &PgRow) -> Result<Self> {
        Ok(Self {
            key: row.try_get(0)?,
            route: record::route(small(row.try_get(1)?), small(row.try_get(2)?))?,
            token: record::token(row.try_get(3)?)?,
        })
    }
}

/// Devices by id that there are: of each its key and its route.
pub(super) async fn by_ids(
    conn: &mut PgConnection,
    apps: &[i32],
    ids: &[&str],
) -> Result<HashMap<(i32, String), Device>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(
        "SELECT d.key, d.provider, d.platform, d.token, d.app, d.id
           FROM (SELECT unnest($1::integer[]) AS app, unnest($2::text[]) AS id) AS w JOIN devices d ON d.app = w.app AND d.id = w.id",
    )
    .bind(apps)
    .bind(ids)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| Ok(((row.try_get(4)?, row.try_get(5)?), Device::from_row(row)?)))
        .collect()
}

/// The devices behind the explicit targets of some pages.
struct Found {
    by_key: HashMap<i64, Device>,
    by_id: HashMap<(i32, String), Device>,
}

impl Found {
    async fn look_up(conn: &mut PgConnection, pages: &[Explicit<'_>]) -> Result<Self> {
        let mut keys = BTreeSet::new();
        let mut ids: BTreeSet<(i32, &str)> = BTreeSet::new();
        for page in pages {
            for (_, stored) in page.rest() {
                match &stored.what {
                    What::Device(key) => drop(keys.insert(key.0)),
                    What::Id(id) => drop(ids.insert((page.push.app, id))),
                    What::Token(_) | What::Topic(_) | What::Condition(_) => {}
                }
            }
        }
        let by_key = by_keys(conn, &keys.into_iter().collect::<Vec<_>>()).await?;
        let (apps, ids): (Vec<i32>, Vec<&str>) = ids.into_iter().unzip();
        Ok(Self {
            by_key,
            by_id: by_ids(conn, &apps, &ids).await?,
        })
    }

    fn get(&self, app: i32, what: &What) -> Option<&Device> {
        match what {
            What::Device(key) => self.by_key.get(&key.0),
            What::Id(id) => self.by_id.get(&(app, id.clone())),
            What::Token(_) | What::Topic(_) | What::Condition(_) => None,
        }
    }
}

async fn by_keys(conn: &mut PgConnection, keys: &[i64]) -> Result<HashMap<i64, Device>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query("SELECT key, provider, platform, token FROM devices WHERE key = ANY($1)")
        .bind(keys)
        .fetch_all(conn)
        .await?;
    rows.iter()
        .map(|row| {
            let device = Device::from_row(row)?;
            Ok((device.key, device))
        })
        .collect()
}

/// A page that is a range of its push's audience, and is read.
pub(super) struct Range<'a> {
    push: &'a Push,
    leg: Route,
    after: DeviceKey,
    upto: DeviceKey,
    progress: &'a Progress,
}

impl<'a> Range<'a> {
    /// `None` = the page's targets are explicit.
    pub(super) fn of(push: &'a Push, page: &'a Page) -> Option<Self> {
        let Content::Range(after, upto) = page.content else {
            return None;
        };
        Some(Self {
            push,
            leg: page.leg,
            after,
            upto,
            progress: &page.progress,
        })
    }

    fn audience(&self) -> Audience<'a> {
        Audience {
            app: self.push.app,
            channels: self.push.channels.as_deref().unwrap_or_default(),
            route: self.leg,
        }
    }

    /// All above the highest started key.
    fn rest(&self) -> Part<'a> {
        Part {
            audience: self.audience(),
            after: self.after.0.max(self.progress.position),
            upto: self.upto.0,
        }
    }
}

/// What is still to be sent of pages that are ranges, a list for each, ascending: what was open and is still meant, and all above the highest started key.
///
/// Who is gone meanwhile, or no longer meant, was never counted, and will not be.
pub(super) async fn ranges(conn: &mut PgConnection, pages: &[Range<'_>]) -> Result<Vec<Vec<Target>>> {
    let rest: Vec<Part<'_>> = pages.iter().map(Range::rest).collect();
    let rest = tokens::read(conn, &rest).await?;
    let mut all = Vec::with_capacity(pages.len());
    for (page, rest) in pages.iter().zip(rest) {
        let open = page.audience().members(conn, &page.progress.open).await?;
        let open = tokens::by_keys(conn, page.leg, &open).await?;
        let devices = open.into_iter().chain(rest);
        all.push(
            devices
                .map(|(key, token)| of_range(DeviceKey(key), page.leg, token))
                .collect(),
        );
    }
    Ok(all)
}
