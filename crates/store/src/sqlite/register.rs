//! The API's table "Registering".

use bugle_model::{DeviceId, DeviceKey, Registration, Route};
use rusqlite::Connection;

use super::devices::{self, Entry};
use super::rows::Stored;
use super::subscriptions::{self, Subscriber};
use crate::registry::origins;
use crate::registry::record::declared;
use crate::{Registered, Result};

/// Creates or updates the device that the registration means.
///
/// There is one writer, so of two first registrations of a token the second finds what the first has written.
pub(super) fn register(conn: &Connection, app: i64, entry: &Entry) -> Result<Registered> {
    let r = &entry.registration;
    let known = match &r.id {
        None => devices::by_token(conn, app, r.provider, &r.token, entry.token_hash)?,
        Some(id) => {
            let named = devices::by_id(conn, app, id)?;
            take_token_from_others(conn, app, entry, named.as_ref())?;
            named
        }
    };
    if let Some(stored) = known {
        update(conn, app, &stored, entry)?;
        declare(conn, &subscriber(app, stored.key, r), r, false)?;
        return Ok(Registered {
            device: declared(r, stored.device.id, stored.device.created_at, entry.now),
            created: false,
        });
    }
    let id = r.id.clone().unwrap_or_else(|| DeviceId::generate(entry.now));
    let key = devices::insert(conn, app, &id, entry)?;
    declare(conn, &subscriber(app, key, r), r, true)?;
    Ok(Registered {
        device: declared(r, id, entry.now, entry.now),
        created: true,
    })
}

/// One token, one device: whoever else holds it goes.
fn take_token_from_others(conn: &Connection, app: i64, entry: &Entry, named: Option<&Stored>) -> Result<()> {
    let r = &entry.registration;
    if named.is_some_and(|n| n.device.token == r.token && n.device.provider == r.provider) {
        return Ok(());
    }
    match devices::by_token(conn, app, r.provider, &r.token, entry.token_hash)? {
        Some(holder) => devices::delete(conn, holder.key),
        None => Ok(()),
    }
}

fn update(conn: &Connection, app: i64, stored: &Stored, entry: &Entry) -> Result<()> {
    let r = &entry.registration;
    let old = &stored.device;
    let same = declared(r, old.id.clone(), old.created_at, old.updated_at);
    if stored.platform == r.platform && *old == same {
        return devices::touch(conn, stored.key, entry.now);
    }
    devices::update(conn, stored.key, entry)?;
    let device = subscriber(app, stored.key, r);
    if stored.route() != device.route || old.token != r.token {
        subscriptions::follow(conn, &device)?;
    }
    Ok(())
}

fn subscriber(app: i64, key: DeviceKey, r: &Registration) -> Subscriber<'_> {
    Subscriber {
        app,
        key,
        route: Route::of(r.provider, r.platform),
        token: &r.token,
    }
}

fn declare(conn: &Connection, device: &Subscriber<'_>, r: &Registration, fresh: bool) -> Result<()> {
    let lists = origins::lists(r);
    if lists.is_empty() || (fresh && lists.iter().all(|(_, list)| list.is_empty())) {
        return Ok(());
    }
    subscriptions::declare(conn, device, &lists)
}
