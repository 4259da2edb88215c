//! Writes pushes down.

use bugle_model::{Accepted, DeviceId, Lane, MAX_PAGE, NewPush, PageId, PageRef, Platform, Provider, PushKey, Route};
use rusqlite::Connection;

use super::rows::Push;
use super::settle::Books;
use super::targets::Found;
use super::{Context, pages};
use crate::Result;
use crate::books::page::own_page;
use crate::books::plan::{NewLeg, Part, Plan};
use crate::books::push::{Providers, compare};
use crate::sqlite::writer::{Cost, Tx};

impl Plan {
    /// What writing it takes.
    pub(super) fn cost(&self) -> Cost {
        Cost::rows(match self {
            Self::Own { .. } => 1,
            Self::Audience(_) => 1 + Provider::ALL.len() * Platform::ALL.len(),
            Self::Split(parts) => {
                1 + parts
                    .iter()
                    .map(|p| 3 + 2 * (p.targets.len() / MAX_PAGE))
                    .sum::<usize>()
            }
        })
    }

    /// Is it one row that somebody waits for?
    pub(super) fn is_urgent(&self, lane: Lane) -> bool {
        lane == Lane::Urgent && matches!(self, Self::Own { .. })
    }
}

/// Looks ids up and sorts them by route.
pub(super) fn split(conn: &Connection, app: Option<i64>, ids: &[DeviceId], providers: &[Provider]) -> Result<Plan> {
    let providers = Providers::of(providers);
    let find = |id: &DeviceId| {
        let device = match app {
            Some(app) => Found::by_id(conn, app, id.as_str())?,
            None => None,
        };
        Ok(device.map(|device| (device.key, device.route)))
    };
    Plan::split(ids, find, |route| providers.serve(route))
}

pub(super) fn accept(tx: &Tx<'_>, cx: &Context, new: &NewPush, plan: &Plan) -> Result<Accepted> {
    let conn = tx.conn();
    let app = cx.apps.intern(tx, &new.app)?;
    let Some(key) = insert(conn, app, new, plan)? else {
        return same(conn, app, new);
    };
    match plan {
        Plan::Own { .. } => tx.hand_over(PageRef {
            id: own_page(key),
            app: new.app.clone(),
            lane: new.lane,
            due: new.due,
        }),
        Plan::Audience(_) => {
            for provider in &new.providers {
                for platform in Platform::ALL {
                    insert_leg(
                        conn,
                        key,
                        app,
                        new,
                        &NewLeg::of_audience(Route::of(*provider, platform)),
                    )?;
                }
            }
            if new.providers.is_empty() {
                end_if_empty(tx, cx, new, key)?;
            }
            tx.wake_legs();
        }
        Plan::Split(parts) => {
            for part in parts {
                insert_part(tx, cx, new, key, part)?;
            }
            end_if_empty(tx, cx, new, key)?;
        }
    }
    Ok(Accepted::New)
}

/// Inserts the row, or nothing if the uid is taken.
fn insert(conn: &Connection, app: i64, new: &NewPush, plan: &Plan) -> Result<Option<PushKey>> {
    let (page_due, route, expected, channels, targets) = match plan {
        Plan::Own {
            route,
            expected,
            targets,
        } => (Some(new.due.0), *route, *expected, None, Some(targets)),
        Plan::Audience(channels) => (None, Route::UNKNOWN, 0, Some(channels), None),
        Plan::Split(_) => (None, Route::UNKNOWN, 0, None, None),
    };
    let inserted = conn
        .prepare_cached(
            "INSERT INTO pushes (app, uid, hash, state, lane, providers, created_at, due, expires_at,
                                 page_due, route, expected, channels, targets, body)
             VALUES (?1, ?2, ?3, 'running', ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
             ON CONFLICT (app, uid) DO NOTHING",
        )?
        .execute(rusqlite::params![
            app,
            new.uid.as_str(),
            new.hash,
            new.lane.code(),
            Providers::of(&new.providers).bits(),
            new.created_at.0,
            new.due.0,
            new.expires_at.0,
            page_due,
            route.code(),
            expected,
            channels,
            targets,
            new.body,
        ])?;
    Ok((inserted > 0).then(|| PushKey(conn.last_insert_rowid())))
}

/// Is the push that has this uid the same one?
fn same(conn: &Connection, app: i64, new: &NewPush) -> Result<Accepted> {
    let hash: Vec<u8> = conn
        .prepare_cached("SELECT hash FROM pushes WHERE app = ? AND uid = ?")?
        .query_row((app, new.uid.as_str()), |row| row.get(0))?;
    Ok(compare(&hash, &new.hash))
}

fn insert_leg(conn: &Connection, push: PushKey, app: i64, new: &NewPush, leg: &NewLeg) -> Result<()> {
    conn.prepare_cached(
        "INSERT INTO legs (push, route, app, due, closed, next_seq, targeted, outstanding, skipped)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )?
    .execute((
        push.0,
        leg.route.code(),
        app,
        new.due.0,
        leg.closed,
        leg.pages + 1,
        leg.waiting + leg.skipped,
        leg.waiting,
        leg.skipped,
    ))?;
    Ok(())
}

fn insert_part(tx: &Tx<'_>, cx: &Context, new: &NewPush, key: PushKey, part: &Part) -> Result<()> {
    let conn = tx.conn();
    let Some(push) = Push::read(conn, key)? else {
        return Ok(());
    };
    insert_leg(conn, key, push.app, new, &NewLeg::of_part(part))?;
    for (seq, stored) in (1..).zip(part.targets.chunks(MAX_PAGE)) {
        let id = PageId {
            push: key,
            leg: Some(part.route),
            seq,
        };
        pages::insert_explicit(conn, &push, id, part.route, new.due, stored)?;
        tx.hand_over(PageRef {
            id,
            app: cx.apps.name(conn, push.app)?,
            lane: new.lane,
            due: new.due,
        });
    }
    Ok(())
}

/// A leg without pages ends at once, and with it perhaps the push.
fn end_if_empty(tx: &Tx<'_>, cx: &Context, new: &NewPush, key: PushKey) -> Result<()> {
    let mut books = Books::new(new.created_at);
    super::settle::touch_legs(tx.conn(), key, &mut books)?;
    books.close(tx, cx)?;
    Ok(())
}
