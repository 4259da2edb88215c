//! Accepts pushes that are their own page: a row each. What arrives together is one statement.
//!
//! Those that this process sends itself are inserted with its lease and kept (`kept`).
//!
//! Rows of one statement are in the order of their uids, so that of two processes that insert the same ones only one waits for the other.

use std::collections::HashMap;
use std::sync::Arc;

use bugle_model::{Accepted, AppId, Lane, NewPush, PageRef, Progress, PushKey, PushState, Route, Timestamp};
use sqlx::PgConnection;
use tokio::runtime::Handle;

use super::extend::micros;
use super::kept::{Kept, KeptPush, Terms};
use super::rows::{self, OwnPage, Push};
use super::take::OwnLease;
use crate::Result;
use crate::books::page::own_page;
use crate::books::push::{Providers, compare};
use crate::codec::targets;
use crate::postgres::batch::{self, Batcher};
use crate::postgres::shared::{Shared, Tx, random};

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
    pub(super) fn new(new: NewPush, app: i32, route: Route, expected: usize, targets: Vec<u8>) -> Self {
        Self {
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
        }
    }

    /// What makes it one push.
    fn id(&self) -> (i32, &str) {
        (self.app, &self.uid)
    }

    fn bytes(&self) -> usize {
        self.targets.len() + self.body.len()
    }

    /// Its row as it is when it was inserted with a lease.
    fn lease(&self, key: PushKey) -> Result<OwnLease> {
        Ok(OwnLease {
            push: Push {
                key,
                app: self.app,
                state: PushState::Running,
                lane: self.lane,
                providers: Providers(self.providers),
                due: self.due,
                expires_at: Timestamp(self.expires_at),
                ended: false,
                channels: None,
            },
            own: OwnPage {
                due: Some(self.due),
                route: self.route,
                expected: rows::count(self.expected),
                answered: 0,
                payload: 0,
                progress: Progress::default(),
                epoch: 1,
                held: true,
                free: false,
            },
            stored: targets::decode(&self.targets, "pushes.targets")?,
            body: Some(self.body.clone()),
        })
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

/// Pushes that are inserted together, and those of them that are kept.
struct Group {
    pushes: Vec<OwnPush>,
    /// Under what lease; `None` = none are kept.
    terms: Option<Terms>,
    kept: Vec<bool>,
}

impl Group {
    fn new(shared: &Shared, pushes: Vec<OwnPush>) -> Result<Self> {
        let Some(lease) = shared.handover.lease() else {
            let kept = vec![false; pushes.len()];
            return Ok(Self {
                pushes,
                terms: None,
                kept,
            });
        };
        let (mut room, now) = (shared.kept.room(), shared.clock.now());
        let keep = |push: &OwnPush| {
            let keep = room > 0 && push.lane == Lane::Urgent && push.due <= now && Kept::takes(push.bytes());
            room -= usize::from(keep);
            keep
        };
        let kept = pushes.iter().map(keep).collect();
        let terms = Some(Terms::new(lease, random()?));
        Ok(Self { pushes, terms, kept })
    }

    /// What is told of one that was inserted.
    fn hand_over(&self, tx: &mut Tx, at: usize, key: PushKey) -> Result<()> {
        let push = &self.pushes[at];
        let page = PageRef {
            id: own_page(key),
            app: push.name.clone(),
            lane: push.lane,
            due: push.due,
        };
        match self.terms.filter(|_| self.kept[at]) {
            Some(terms) => tx.keep(KeptPush {
                page,
                uid: push.uid.clone(),
                lease: Arc::new(push.lease(key)?),
                terms,
            }),
            None => tx.hand_over(page),
        }
        Ok(())
    }
}

async fn write_group(shared: &Shared, group: Vec<OwnPush>) -> Result<Vec<Accepted>> {
    let group = Arc::new(Group::new(shared, group)?);
    shared
        .write(move |tx| {
            let group = Arc::clone(&group);
            Box::pin(async move { insert_group(tx, &group).await })
        })
        .await
}

/// Inserts those whose uid is new; of several with one uid the first.
async fn insert_group(tx: &mut Tx, all: &Group) -> Result<Vec<Accepted>> {
    let group = &all.pushes;
    let mut answers: Vec<Option<Accepted>> = vec![None; group.len()];
    loop {
        let mut firsts: Vec<usize> = (0..group.len()).filter(|at| answers[*at].is_none()).collect();
        if firsts.is_empty() {
            return Ok(answers.into_iter().flatten().collect());
        }
        firsts.sort_by_key(|at| group[*at].id());
        firsts.dedup_by_key(|at| group[*at].id());
        for (at, key) in insert_own(tx.conn(), all, &firsts).await? {
            answers[at] = Some(Accepted::New);
            all.hand_over(tx, at, key)?;
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
async fn insert_own(conn: &mut PgConnection, all: &Group, which: &[usize]) -> Result<Vec<(usize, PushKey)>> {
    let group = &all.pushes;
    let pushes: Vec<&OwnPush> = which.iter().map(|at| &group[*at]).collect();
    let inserted: Vec<(i64, i32, String)> = sqlx::query_as(
        "INSERT INTO pushes (app, uid, hash, state, lane, providers, created_at, due, expires_at,
                             page_due, route, expected, targets, body, epoch, lease_until, taker)
         SELECT app, uid, hash, 'running', lane, providers, created_at, due, expires_at,
                due, route, expected, targets, body, kept::integer,
                CASE WHEN kept THEN clock_timestamp() + $14 * interval '1 microsecond' END, CASE WHEN kept THEN $15::bigint END
           FROM unnest($1::integer[], $2::text[], $3::bytea[], $4::smallint[], $5::bigint[], $6::bigint[], $7::bigint[],
                       $8::bigint[], $9::smallint[], $10::bigint[], $11::bytea[], $12::bytea[], $13::boolean[])
             AS new (app, uid, hash, lane, providers, created_at, due, expires_at, route, expected, targets, body, kept)
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
    .bind(which.iter().map(|at| all.kept[*at]).collect::<Vec<_>>())
    .bind(all.terms.map_or(0, |terms| micros(terms.lease)))
    .bind(all.terms.map(|terms| terms.taker))
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
pub(super) async fn hashes<'a>(
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
