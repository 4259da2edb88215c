//! Writes pushes down.
//!
//! A push that is its own page is one row: what arrives together is one statement. The others, which make legs and pages, have a transaction each. Rows of one
//! statement are in the order of their uids, so that two processes that insert the same ones wait for each other, and never both.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bugle_model::{
    Accepted, AppId, DeviceId, DeviceKey, Lane, MAX_PAGE, NewPush, PageId, PageRef, Platform, PushKey, Recipient, Route,
    Timestamp,
};
use sqlx::PgConnection;
use tokio::runtime::Handle;

use super::pages::{self, NewPage};
use super::rows::{Providers, own_page};
use super::settle::{self, Books};
use crate::books::plan::{Part, Plan};
use crate::codec;
use crate::postgres::batch::{self, Batcher};
use crate::postgres::rows::small;
use crate::postgres::shared::{Shared, Tx};
use crate::registry::record;
use crate::{Error, Result};

/// Pushes of one statement at most, …
const GROUP: usize = 256;
/// … and bytes of their targets and bodies, where it has more than one.
const GROUP_BYTES: usize = 4 << 20;
/// While one group is committed, another one gathers.
const WORKERS: usize = 2;

/// Takes pushes that are their own page.
pub(in crate::postgres) type Accepts = Batcher<OwnPush, Result<Accepted>>;

/// A push that is its own page, as its row will be.
pub(in crate::postgres) struct OwnPush {
    name: AppId,
    app: i32,
    uid: String,
    hash: [u8; 32],
    lane: Lane,
    providers: i64,
    created_at: i64,
    due: Timestamp,
    expires_at: i64,
    route: Route,
    expected: i64,
    targets: Vec<u8>,
    body: Vec<u8>,
}

impl OwnPush {
    /// What makes it one push.
    fn id(&self) -> (i32, &str) {
        (self.app, &self.uid)
    }

    fn bytes(&self) -> usize {
        self.targets.len() + self.body.len()
    }

    fn column<'a, T>(pushes: &[&'a Self], value: impl Fn(&'a Self) -> T) -> Vec<T> {
        pushes.iter().map(|push| value(push)).collect()
    }
}

/// Starts the writers of pushes that are their own page.
pub(in crate::postgres) fn start(runtime: &Handle, shared: &Arc<Shared>) -> Accepts {
    let shared = Arc::clone(shared);
    let write: batch::Write<OwnPush, Result<Accepted>> = Arc::new(move |pushes| {
        let shared = Arc::clone(&shared);
        Box::pin(async move { Ok(write_groups(&shared, pushes).await) })
    });
    Batcher::start(runtime, WORKERS, GROUP, &write)
}

pub(super) async fn accept(shared: &Arc<Shared>, accepts: &Accepts, new: NewPush) -> Result<Accepted> {
    let app = shared.apps.intern(shared, &new.app).await?;
    let plan = match Plan::of(&new.recipient)? {
        Some(plan) => plan,
        None => look_up(shared, app, &new).await?,
    };
    let (route, expected, targets) = match plan {
        Plan::Own {
            route,
            expected,
            targets,
        } => (route, expected, targets),
        plan => return alone(shared, app, new, plan).await,
    };
    let push = OwnPush {
        app,
        uid: new.uid.as_str().to_owned(),
        hash: new.hash,
        lane: new.lane,
        providers: Providers::of(&new.providers).bits(),
        created_at: new.created_at.0,
        due: new.due,
        expires_at: new.expires_at.0,
        route,
        expected: i64::try_from(expected).unwrap_or(i64::MAX),
        targets,
        body: new.body,
        name: new.app,
    };
    accepts.run(push).await?
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
        let route = Route::of(record::provider(small(provider))?, record::platform(small(platform))?);
        devices.insert(id, (DeviceKey(key), route));
    }
    let providers = Providers::of(&new.providers);
    let find = |id: &DeviceId| Ok(devices.get(id.as_str()).copied());
    Plan::split(ids, find, |route| providers.serve(route))
}

// -- pushes that are their own page ---------------------------------------------------------------------------------------------------------

/// Writes what has arrived, in as many transactions as its size asks for. One answer per push, in order.
async fn write_groups(shared: &Arc<Shared>, pushes: Vec<OwnPush>) -> Vec<Result<Accepted>> {
    let mut answers = Vec::with_capacity(pushes.len());
    let mut left = pushes.into_iter().peekable();
    while let Some(first) = left.next() {
        let mut bytes = first.bytes();
        let mut group = vec![first];
        while let Some(next) = left.next_if(|next| bytes + next.bytes() <= GROUP_BYTES) {
            bytes += next.bytes();
            group.push(next);
        }
        let count = group.len();
        match write_group(shared, group).await {
            Ok(written) => answers.extend(written.into_iter().map(Ok)),
            Err(error) => {
                let cause = Arc::new(error);
                answers.extend((0..count).map(|_| Err(batch::shared_error(&cause))));
            }
        }
    }
    answers
}

async fn write_group(shared: &Shared, group: Vec<OwnPush>) -> Result<Vec<Accepted>> {
    let group = Arc::new(group);
    shared
        .write(move |tx| {
            let group = Arc::clone(&group);
            Box::pin(async move { insert_group(tx, &group).await })
        })
        .await
}

/// Inserts those whose uid is new; of several with one uid the first.
async fn insert_group(tx: &mut Tx, group: &[OwnPush]) -> Result<Vec<Accepted>> {
    let mut answers: Vec<Option<Accepted>> = vec![None; group.len()];
    loop {
        let mut firsts: Vec<usize> = (0..group.len()).filter(|at| answers[*at].is_none()).collect();
        if firsts.is_empty() {
            return Ok(answers.into_iter().flatten().collect());
        }
        firsts.sort_by_key(|at| group[*at].id());
        firsts.dedup_by_key(|at| group[*at].id());
        for (at, key) in insert_own(tx.conn(), group, &firsts).await? {
            let push = &group[at];
            answers[at] = Some(Accepted::New);
            tx.hand_over(PageRef {
                id: own_page(key),
                app: push.name.clone(),
                lane: push.lane,
                due: push.due,
            });
        }
        // One that was in the way, and was forgotten since, leaves room: then once more.
        let undecided: Vec<usize> = (0..group.len()).filter(|at| answers[*at].is_none()).collect();
        let hashes = hashes(tx.conn(), undecided.iter().map(|at| group[*at].id())).await?;
        for at in undecided {
            let (app, uid) = group[at].id();
            let hash = hashes.get(&(app, uid.to_owned()));
            answers[at] = hash.map(|hash| compare(hash, &group[at].hash));
        }
    }
}

/// Inserts some of the group, in this order, and tells which were new.
async fn insert_own(conn: &mut PgConnection, group: &[OwnPush], which: &[usize]) -> Result<Vec<(usize, PushKey)>> {
    let pushes: Vec<&OwnPush> = which.iter().map(|at| &group[*at]).collect();
    let inserted: Vec<(i64, i32, String)> = sqlx::query_as(
        "INSERT INTO pushes (app, uid, hash, state, lane, providers, created_at, due, expires_at,
                             page_due, route, expected, targets, body)
         SELECT app, uid, hash, 'running', lane, providers, created_at, due, expires_at,
                due, route, expected, targets, body
           FROM unnest($1::integer[], $2::text[], $3::bytea[], $4::smallint[], $5::bigint[], $6::bigint[], $7::bigint[],
                       $8::bigint[], $9::smallint[], $10::bigint[], $11::bytea[], $12::bytea[])
             AS new (app, uid, hash, lane, providers, created_at, due, expires_at, route, expected, targets, body)
         ON CONFLICT (app, uid) DO NOTHING RETURNING key, app, uid",
    )
    .bind(OwnPush::column(&pushes, |push| push.app))
    .bind(OwnPush::column(&pushes, |push| push.uid.as_str()))
    .bind(OwnPush::column(&pushes, |push| &push.hash[..]))
    .bind(OwnPush::column(&pushes, |push| i16::from(push.lane.code())))
    .bind(OwnPush::column(&pushes, |push| push.providers))
    .bind(OwnPush::column(&pushes, |push| push.created_at))
    .bind(OwnPush::column(&pushes, |push| push.due.0))
    .bind(OwnPush::column(&pushes, |push| push.expires_at))
    .bind(OwnPush::column(&pushes, |push| i16::from(push.route.code())))
    .bind(OwnPush::column(&pushes, |push| push.expected))
    .bind(OwnPush::column(&pushes, |push| push.targets.as_slice()))
    .bind(OwnPush::column(&pushes, |push| push.body.as_slice()))
    .fetch_all(conn)
    .await?;
    let places: HashMap<(i32, &str), usize> = which.iter().map(|at| (group[*at].id(), *at)).collect();
    let place = |(key, app, uid): &(i64, i32, String)| {
        let at = places.get(&(*app, uid.as_str()))?;
        Some((*at, PushKey(*key)))
    };
    Ok(inserted.iter().filter_map(place).collect())
}

/// The hashes of the pushes that have these uids, as far as there are any.
async fn hashes<'a>(
    conn: &mut PgConnection,
    ids: impl Iterator<Item = (i32, &'a str)>,
) -> Result<HashMap<(i32, String), Vec<u8>>> {
    let mut by_app: HashMap<i32, Vec<&str>> = HashMap::new();
    for (app, uid) in ids {
        by_app.entry(app).or_default().push(uid);
    }
    let mut hashes = HashMap::new();
    for (app, uids) in by_app {
        let found: Vec<(String, Vec<u8>)> =
            sqlx::query_as("SELECT uid, hash FROM pushes WHERE app = $1 AND uid = ANY($2)")
                .bind(app)
                .bind(uids)
                .fetch_all(&mut *conn)
                .await?;
        hashes.extend(found.into_iter().map(|(uid, hash)| ((app, uid), hash)));
    }
    Ok(hashes)
}

/// Is the push that has the uid the same one?
fn compare(there: &[u8], new: &[u8]) -> Accepted {
    if there == new {
        Accepted::Repeated
    } else {
        Accepted::Conflict
    }
}

// -- pushes with legs -----------------------------------------------------------------------------------------------------------------------

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
        let uid = new.uid.as_str();
        let there = hashes(tx.conn(), std::iter::once((app, uid))).await?;
        return match there.get(&(app, uid.to_owned())) {
            Some(hash) => Ok(compare(hash, &new.hash)),
            // It was forgotten in this moment: the caller may try again.
            None => Err(Error::Unavailable("the push that had this uid was just forgotten".into())),
        };
    };
    match plan {
        Plan::Split(parts) => {
            insert_legs(tx.conn(), key, app, new.due, parts.iter().map(Leg::of_part)).await?;
            for part in parts {
                insert_pages(tx, app, new, key, part).await?;
            }
            end_if_empty(tx, shared, new, key).await?;
        }
        _ => {
            let routes: BTreeSet<Route> = (new.providers.iter())
                .flat_map(|provider| Platform::ALL.map(|platform| Route::of(*provider, platform)))
                .collect();
            if routes.is_empty() {
                end_if_empty(tx, shared, new, key).await?;
            }
            insert_legs(tx.conn(), key, app, new.due, routes.into_iter().map(Leg::of_audience)).await?;
            tx.wake_legs();
        }
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

/// A leg at its beginning.
struct Leg {
    route: Route,
    closed: bool,
    pages: usize,
    waiting: u64,
    skipped: u64,
}

impl Leg {
    fn of_audience(route: Route) -> Self {
        Self {
            route,
            closed: false,
            pages: 0,
            waiting: 0,
            skipped: 0,
        }
    }

    fn of_part(part: &Part) -> Self {
        Self {
            route: part.route,
            closed: true,
            pages: part.targets.len().div_ceil(MAX_PAGE),
            waiting: part.targets.len() as u64,
            skipped: part.skipped,
        }
    }
}

async fn insert_legs(
    conn: &mut PgConnection,
    push: PushKey,
    app: i32,
    due: Timestamp,
    legs: impl Iterator<Item = Leg>,
) -> Result<()> {
    let legs: Vec<Leg> = legs.collect();
    let numbers = |number: fn(&Leg) -> u64| -> Vec<i64> {
        legs.iter()
            .map(|leg| i64::try_from(number(leg)).unwrap_or(i64::MAX))
            .collect()
    };
    let routes: Vec<i16> = legs.iter().map(|leg| i16::from(leg.route.code())).collect();
    let closed: Vec<bool> = legs.iter().map(|leg| leg.closed).collect();
    sqlx::query(
        "INSERT INTO legs (push, route, app, due, closed, next_seq, targeted, outstanding, skipped)
         SELECT $1, route, $2, $3, closed, pages + 1, waiting + skipped, waiting, skipped
           FROM unnest($4::smallint[], $5::boolean[], $6::bigint[], $7::bigint[], $8::bigint[])
             AS new (route, closed, pages, waiting, skipped)",
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
