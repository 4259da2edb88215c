//! Inserts pushes that arrived together, by one statement that is its own transaction: two ways to the server less than with a beginning and an end.
//!
//! Those that this process sends itself are inserted with its lease and kept (`kept`). All rows carry a number that only this group has, so that a statement whose answer
//! was lost with its connection can be tried again, and finds what it has inserted.
//!
//! Rows are in the order of their uids, so that of two processes that insert the same ones only one waits for the other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bugle_model::{Accepted, Lane, PageRef, Progress, PushKey, Target};
use sqlx::{PgConnection, Row};

use super::OwnPush;
use crate::Result;
use crate::books::page::own_page;
use crate::books::push::compare;
use crate::codec;
use crate::postgres::batch;
use crate::postgres::ledger::extend::micros;
use crate::postgres::ledger::kept::{Kept, KeptPush, Terms};
use crate::postgres::ledger::targets::{self, Explicit};
use crate::postgres::shared::{Shared, random};

/// Pushes that are inserted together.
struct Group {
    pushes: Vec<OwnPush>,
    taker: i64,
    /// Under what lease some are kept; `None` = none are.
    terms: Option<Terms>,
    kept: Vec<bool>,
}

/// A push's key, the hash of what was asked for, and its taker.
type Known = (i64, Vec<u8>, Option<i64>);

/// What stands under a uid.
enum There {
    /// This push.
    Inserted(PushKey),
    /// Another one, or the same one that was asked for before.
    Before(Accepted),
}

/// Writes a group. A push that was inserted is accepted, whatever becomes of the others.
pub(super) async fn write(shared: &Shared, pushes: Vec<OwnPush>) -> Vec<Result<Accepted>> {
    let mut answers: Vec<Option<Accepted>> = vec![None; pushes.len()];
    match write_all(shared, pushes, &mut answers).await {
        Ok(()) => answers.into_iter().flatten().map(Ok).collect(),
        Err(error) => {
            let cause = Arc::new(error);
            let answer = |answer: Option<Accepted>| answer.ok_or_else(|| batch::shared_error(&cause));
            answers.into_iter().map(answer).collect()
        }
    }
}

/// One that was in the way, and was forgotten since, leaves room: so it may take more than one round.
async fn write_all(shared: &Shared, pushes: Vec<OwnPush>, answers: &mut [Option<Accepted>]) -> Result<()> {
    let group = Arc::new(Group::new(shared, pushes)?);
    let all = (0..answers.len()).collect();
    // The targets are read while the rows are on their way to the disk.
    let (mut found, mut targets) = tokio::join!(group.write(shared, all), group.read_targets(shared));
    loop {
        let there = found?;
        let inserted = there.iter().filter_map(|(at, there)| match there {
            There::Inserted(key) => Some((*at, *key)),
            There::Before(_) => None,
        });
        group.hand_over(shared, inserted, &mut targets);
        for (at, there) in there {
            answers[at] = Some(match there {
                There::Inserted(_) => Accepted::New,
                There::Before(answer) => answer,
            });
        }
        let undecided: Vec<usize> = (0..answers.len()).filter(|at| answers[*at].is_none()).collect();
        if undecided.is_empty() {
            return Ok(());
        }
        found = group.write(shared, undecided).await;
    }
}

impl Group {
    fn new(shared: &Shared, pushes: Vec<OwnPush>) -> Result<Self> {
        let taker = random()?;
        let terms = shared.handover.lease().map(|lease| Terms::new(lease, taker));
        let mut room = if terms.is_some() { shared.kept.room() } else { 0 };
        let now = shared.clock.now();
        let keep = |push: &OwnPush| {
            let keep = room > 0 && push.lane == Lane::Urgent && push.due <= now && Kept::takes(push.bytes());
            room -= usize::from(keep);
            keep
        };
        let kept = pushes.iter().map(keep).collect();
        Ok(Self {
            pushes,
            taker,
            terms,
            kept,
        })
    }

    async fn write(self: &Arc<Self>, shared: &Shared, undecided: Vec<usize>) -> Result<Vec<(usize, There)>> {
        let (group, undecided) = (Arc::clone(self), Arc::new(undecided));
        shared
            .read(move |conn| {
                let (group, undecided) = (Arc::clone(&group), Arc::clone(&undecided));
                Box::pin(async move { group.insert(conn, &undecided).await })
            })
            .await
    }

    /// The targets of those that are kept, as they are now. None if that fails: then who takes them will see.
    async fn read_targets(self: &Arc<Self>, shared: &Shared) -> HashMap<usize, Vec<Target>> {
        let kept: Vec<usize> = (0..self.pushes.len()).filter(|at| self.kept[*at]).collect();
        if kept.is_empty() {
            return HashMap::new();
        }
        let (group, which) = (Arc::clone(self), kept.clone());
        let read = shared.read(move |conn| {
            let (group, which) = (Arc::clone(&group), which.clone());
            Box::pin(async move { group.targets(conn, &which).await })
        });
        read.await
            .map_or_else(|_| HashMap::new(), |targets| kept.into_iter().zip(targets).collect())
    }

    async fn targets(&self, conn: &mut PgConnection, which: &[usize]) -> Result<Vec<Vec<Target>>> {
        let nothing = Progress::default();
        let pushes: Vec<_> = which
            .iter()
            .map(|at| (&self.pushes[*at], self.pushes[*at].before_its_key()))
            .collect();
        let pages = pushes.iter().map(|(own, push)| {
            Ok(Explicit {
                push,
                route: own.route,
                stored: codec::targets::decode(&own.targets, "pushes.targets")?,
                progress: &nothing,
            })
        });
        targets::explicit(conn, &pages.collect::<Result<Vec<_>>>()?).await
    }

    /// Inserts those whose uid is new, of several with one uid the first; looks up the others, but for such as are forgotten in this moment.
    async fn insert(&self, conn: &mut PgConnection, undecided: &[usize]) -> Result<Vec<(usize, There)>> {
        let mut firsts = undecided.to_vec();
        firsts.sort_by_key(|at| self.pushes[*at].id());
        firsts.dedup_by_key(|at| self.pushes[*at].id());
        let inserted = self.insert_rows(conn, &firsts).await?;
        let mut found: Vec<(usize, There)> = inserted.iter().map(|(at, key)| (*at, There::Inserted(*key))).collect();
        let known: HashSet<usize> = inserted.into_iter().map(|(at, _)| at).collect();
        let others: Vec<usize> = undecided.iter().copied().filter(|at| !known.contains(at)).collect();
        if others.is_empty() {
            return Ok(found);
        }
        let firsts: HashSet<usize> = firsts.into_iter().collect();
        for (at, (key, hash, taker)) in self.look_up(conn, &others).await? {
            let there = if taker == Some(self.taker) && firsts.contains(&at) {
                // By a statement whose answer was lost.
                There::Inserted(PushKey(key))
            } else {
                There::Before(compare(&hash, &self.pushes[at].hash))
            };
            found.push((at, there));
        }
        Ok(found)
    }

    /// Tells of those that were inserted.
    fn hand_over(
        &self,
        shared: &Shared,
        inserted: impl Iterator<Item = (usize, PushKey)>,
        targets: &mut HashMap<usize, Vec<Target>>,
    ) {
        let (mut kept, mut pages) = (Vec::new(), Vec::new());
        for (at, key) in inserted {
            let push = &self.pushes[at];
            let page = PageRef {
                id: own_page(key),
                app: push.name.clone(),
                lane: push.lane,
                due: push.due,
            };
            match self.terms.filter(|_| self.kept[at]) {
                Some(terms) => kept.push(KeptPush {
                    page,
                    uid: push.uid.clone(),
                    expires_at: push.expires_at,
                    body: push.body.clone(),
                    terms,
                    targets: targets.remove(&at),
                }),
                None => pages.push(page),
            }
        }
        shared.keep(kept);
        if !pages.is_empty() {
            shared.handover.pages(pages);
        }
    }

    fn column<'a, T>(&'a self, which: &[usize], value: impl Fn(&'a OwnPush) -> T) -> Vec<T> {
        which.iter().map(|at| value(&self.pushes[*at])).collect()
    }

    /// Inserts some of the group, in this order, and tells which were new.
    async fn insert_rows(&self, conn: &mut PgConnection, which: &[usize]) -> Result<Vec<(usize, PushKey)>> {
        let inserted: Vec<(i64, i32, String)> = sqlx::query_as(
            "INSERT INTO pushes (app, uid, hash, state, lane, providers, created_at, due, expires_at,
                                 page_due, route, expected, targets, body, epoch, lease_until, taker)
             SELECT app, uid, hash, 'running', lane, providers, created_at, due, expires_at,
                    due, route, expected, targets, body, kept::integer,
                    CASE WHEN kept THEN clock_timestamp() + $14 * interval '1 microsecond' END, $15
               FROM (SELECT unnest($1::integer[]) AS app, unnest($2::text[]) AS uid, unnest($3::bytea[]) AS hash, unnest($4::smallint[]) AS lane,
                            unnest($5::bigint[]) AS providers, unnest($6::bigint[]) AS created_at, unnest($7::bigint[]) AS due, unnest($8::bigint[]) AS expires_at,
                            unnest($9::smallint[]) AS route, unnest($10::bigint[]) AS expected, unnest($11::bytea[]) AS targets, unnest($12::bytea[]) AS body,
                            unnest($13::boolean[]) AS kept) AS new
             ON CONFLICT (app, uid) DO NOTHING RETURNING key, app, uid",
        )
        .bind(self.column(which, |push| push.app))
        .bind(self.column(which, |push| push.uid.as_str()))
        .bind(self.column(which, |push| &push.hash[..]))
        .bind(self.column(which, |push| i16::from(push.lane.code())))
        .bind(self.column(which, |push| push.providers))
        .bind(self.column(which, |push| push.created_at))
        .bind(self.column(which, |push| push.due.0))
        .bind(self.column(which, |push| push.expires_at.0))
        .bind(self.column(which, |push| i16::from(push.route.code())))
        .bind(self.column(which, |push| push.expected))
        .bind(self.column(which, |push| push.targets.as_slice()))
        .bind(self.column(which, |push| push.body.as_slice()))
        .bind(which.iter().map(|at| self.kept[*at]).collect::<Vec<_>>())
        .bind(self.terms.map_or(0, |terms| micros(terms.lease)))
        .bind(self.taker)
        .fetch_all(conn)
        .await?;
        let places: HashMap<(i32, &str), usize> = which.iter().map(|at| (self.pushes[*at].id(), *at)).collect();
        let place = |(key, app, uid): &(i64, i32, String)| {
            let at = places.get(&(*app, uid.as_str()))?;
            Some((*at, PushKey(*key)))
        };
        Ok(inserted.iter().filter_map(place).collect())
    }

    /// The pushes that have the uids of these, as far as there are any.
    async fn look_up(&self, conn: &mut PgConnection, which: &[usize]) -> Result<Vec<(usize, Known)>> {
        let rows = sqlx::query(
            "SELECT p.app, p.uid, p.key, p.hash, p.taker FROM (SELECT unnest($1::integer[]) AS app, unnest($2::text[]) AS uid) AS w
               JOIN pushes p ON p.app = w.app AND p.uid = w.uid",
        )
        .bind(self.column(which, |push| push.app))
        .bind(self.column(which, |push| push.uid.as_str()))
        .fetch_all(conn)
        .await?;
        let mut known: HashMap<(i32, &str), Known> = HashMap::with_capacity(rows.len());
        for row in &rows {
            let push = (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
            known.insert((row.try_get(0)?, row.try_get(1)?), push);
        }
        let found = which.iter().filter_map(|at| {
            let push = known.get(&self.pushes[*at].id())?;
            Some((*at, push.clone()))
        });
        Ok(found.collect())
    }
}
