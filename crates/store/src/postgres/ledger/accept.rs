//! Writes pushes down. One that is its own page shares a transaction with others (`own`); those that make legs and pages have one each.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bugle_model::{
    Accepted, DeviceId, DeviceKey, MAX_PAGE, NewPush, PageId, PageRef, Platform, PushKey, Recipient, Route, Timestamp,
};
use sqlx::PgConnection;

use super::own::{Accepts, OwnPush};
use super::pages::{self, NewPage};
use super::settle::{self, Books};
use crate::books::plan::{NewLeg, Part, Plan};
use crate::books::push::{Providers, compare};
use crate::codec;
use crate::postgres::rows::small;
use crate::postgres::shared::{Shared, Tx};
use crate::registry::record;
use crate::{Error, Result};

pub(super) async fn accept(shared: &Arc<Shared>, accepts: &Accepts, new: NewPush) -> Result<Accepted> {
    let app = shared.apps.intern(shared, &new.app).await?;
    let plan = match Plan::of(&new.recipient)? {
        Some(plan) => plan,
        None => look_up(shared, app, &new).await?,
    };
    match plan {
        Plan::Own {
            route,
            expected,
            targets,
        } => {
            let own = OwnPush::new(new, app, route, expected, targets);
            accepts.run(own).await?
        }
        plan => alone(shared, app, new, plan).await,
    }
}

/// Finds the devices that a push names, to split them by route.
async fn look_up(shared: &Shared, app: i32, new: &NewPush) -> Result<Plan> {
    let Recipient::Devices(ids) = &new.recipient else {
        return Ok(Plan::Split(Vec::new()));
    };
    let names: Arc<Vec<String>> = Arc::new(ids.iter().map(|id| id.as_str().to_owned()).collect());
    let found: Vec<(String, i64, i16, i16)> = shared
        .read(move |conn| {
            let names = Arc::clone(&names);
            Box::pin(async move {
                let found =
                    sqlx::query_as("SELECT id, key, provider, platform FROM devices WHERE app = $1 AND id = ANY($2)")
                        .bind(app)
                        .bind(&*names)
                        .fetch_all(conn)
                        .await?;
                Ok(found)
            })
        })
        .await?;
    let mut devices = HashMap::with_capacity(found.len());
    for (id, key, provider, platform) in found {
        let route = record::route(small(provider), small(platform))?;
        devices.insert(id, (DeviceKey(key), route));
    }
    let providers = Providers::of(&new.providers);
    let find = |id: &DeviceId| Ok(devices.get(id.as_str()).copied());
    Plan::split(ids, find, |route| providers.serve(route))
}

async fn alone(shared: &Arc<Shared>, app: i32, new: NewPush, plan: Plan) -> Result<Accepted> {
    let (context, work) = (Arc::clone(shared), Arc::new((new, plan)));
    shared
        .write(move |tx| {
            let (shared, work) = (Arc::clone(&context), Arc::clone(&work));
            Box::pin(async move { write_alone(tx, &shared, app, &work.0, &work.1).await })
        })
        .await
}

async fn write_alone(tx: &mut Tx, shared: &Shared, app: i32, new: &NewPush, plan: &Plan) -> Result<Accepted> {
    let Some(key) = insert(tx.conn(), app, new, plan).await? else {
        let there: Option<Vec<u8>> = sqlx::query_scalar("SELECT hash FROM pushes WHERE app = $1 AND uid = $2")
            .bind(app)
            .bind(new.uid.as_str())
            .fetch_optional(tx.conn())
            .await?;
        return match there {
            Some(hash) => Ok(compare(&hash, &new.hash)),
            // It was forgotten in this moment: the caller may try again.
            None => Err(Error::Unavailable(
                "the push that had this uid was just forgotten".into(),
            )),
        };
    };
    if let Plan::Split(parts) = plan {
        insert_legs(tx.conn(), key, app, new.due, parts.iter().map(NewLeg::of_part)).await?;
        for part in parts {
            insert_pages(tx, app, new, key, part).await?;
        }
        end_if_empty(tx, shared, new, key).await?;
        return Ok(Accepted::New);
    }
    let routes: BTreeSet<Route> = (new.providers.iter())
        .flat_map(|provider| Platform::ALL.map(|platform| Route::of(*provider, platform)))
        .collect();
    if routes.is_empty() {
        end_if_empty(tx, shared, new, key).await?;
    } else {
        insert_legs(
            tx.conn(),
            key,
            app,
            new.due,
            routes.into_iter().map(NewLeg::of_audience),
        )
        .await?;
        tx.wake_legs();
    }
    Ok(Accepted::New)
}

/// Inserts the row, or nothing if the uid is taken.
async fn insert(conn: &mut PgConnection, app: i32, new: &NewPush, plan: &Plan) -> Result<Option<PushKey>> {
    let channels = match plan {
        Plan::Audience(channels) => Some(channels.as_str()),
        _ => None,
    };
    let key: Option<i64> = sqlx::query_scalar(
        "INSERT INTO pushes (app, uid, hash, state, lane, providers, created_at, due, expires_at, route, expected, channels, body)
         VALUES ($1, $2, $3, 'running', $4, $5, $6, $7, $8, 0, 0, $9, $10)
         ON CONFLICT (app, uid) DO NOTHING RETURNING key",
    )
    .bind(app)
    .bind(new.uid.as_str())
    .bind(&new.hash[..])
    .bind(i16::from(new.lane.code()))
    .bind(Providers::of(&new.providers).bits())
    .bind(new.created_at.0)
    .bind(new.due.0)
    .bind(new.expires_at.0)
    .bind(channels)
    .bind(new.body.as_slice())
    .fetch_optional(conn)
    .await?;
    Ok(key.map(PushKey))
}

async fn insert_legs(
    conn: &mut PgConnection,
    push: PushKey,
    app: i32,
    due: Timestamp,
    legs: impl Iterator<Item = NewLeg>,
) -> Result<()> {
    let legs: Vec<NewLeg> = legs.collect();
    let numbers = |number: fn(&NewLeg) -> u64| -> Vec<i64> {
        legs.iter()
            .map(|leg| i64::try_from(number(leg)).unwrap_or(i64::MAX))
            .collect()
    };
    let routes: Vec<i16> = legs.iter().map(|leg| i16::from(leg.route.code())).collect();
    let closed: Vec<bool> = legs.iter().map(|leg| leg.closed).collect();
    sqlx::query(
        "INSERT INTO legs (push, route, app, due, closed, next_seq, targeted, outstanding, skipped)
         SELECT $1, route, $2, $3, closed, pages + 1, waiting + skipped, waiting, skipped
           FROM (SELECT unnest($4::smallint[]) AS route, unnest($5::boolean[]) AS closed, unnest($6::bigint[]) AS pages, unnest($7::bigint[]) AS waiting,
                        unnest($8::bigint[]) AS skipped) AS new",
    )
    .bind(push.0)
    .bind(app)
    .bind(due.0)
    .bind(routes)
    .bind(closed)
    .bind(numbers(|leg| leg.pages as u64))
    .bind(numbers(|leg| leg.waiting))
    .bind(numbers(|leg| leg.skipped))
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert_pages(tx: &mut Tx, app: i32, new: &NewPush, key: PushKey, part: &Part) -> Result<()> {
    let (mut pages, mut blobs) = (Vec::new(), Vec::new());
    for (seq, stored) in (1..).zip(part.targets.chunks(MAX_PAGE)) {
        let id = PageId {
            push: key,
            leg: Some(part.route),
            seq,
        };
        pages.push(NewPage {
            id,
            leg: part.route,
            app,
            lane: new.lane,
            due: new.due,
            range: None,
            expected: stored.len() as u64,
        });
        blobs.push(codec::targets::encode(stored));
        tx.hand_over(PageRef {
            id,
            app: new.app.clone(),
            lane: new.lane,
            due: new.due,
        });
    }
    pages::insert_explicit(tx.conn(), &pages, &blobs).await
}

/// A leg without pages ends at once, and with it perhaps the push.
async fn end_if_empty(tx: &mut Tx, shared: &Shared, new: &NewPush, key: PushKey) -> Result<()> {
    let mut books = Books::new(new.created_at);
    settle::touch_legs(tx.conn(), key, &mut books).await?;
    books.close(tx, shared).await?;
    Ok(())
}
