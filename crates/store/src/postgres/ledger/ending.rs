//! Ends free pages without sending them: by what they expected and had not counted, left-overs included.
//!
//! They are locked first, so that nobody takes a page that is just being settled.

use bugle_model::{Counts, Progress, PushKey, PushState, Route, Target, Timestamp};
use sqlx::PgConnection;

use super::rows::{self, OwnPage, Page, Push, Pushes};
use super::settle::Books;
use super::targets::{self, Explicit};
use crate::Result;
use crate::postgres::shared::{Shared, Tx};

/// What targets end as that are not sent to.
#[derive(Clone, Copy)]
pub(super) enum Bucket {
    Cancelled,
    Expired,
    Failed,
}

impl Bucket {
    fn of(state: PushState) -> Self {
        match state {
            PushState::Cancelled => Self::Cancelled,
            _ => Self::Expired,
        }
    }

    fn add(self, counts: &mut Counts, targets: u64) {
        match self {
            Self::Cancelled => counts.cancelled += targets,
            Self::Expired => counts.expired += targets,
            Self::Failed => counts.failed += targets,
        }
    }
}

/// A transaction of a sweep: its books, and how much more it may do.
pub(super) struct Step {
    books: Books,
    room: u64,
    pages: u64,
}

/// What a transaction of a sweep did.
#[derive(Default)]
pub(super) struct Done {
    pub(super) pages: u64,
    pub(super) pushes: u64,
    /// Room that is left; 0 = there may be more.
    pub(super) room: u64,
}

impl Step {
    pub(super) fn new(now: Timestamp, room: u64) -> Self {
        Self {
            books: Books::new(now),
            room,
            pages: 0,
        }
    }

    /// Locks the legs of these pushes that have not ended; all may end by what is done.
    pub(super) async fn lock_legs(&mut self, conn: &mut PgConnection, pushes: &[i64]) -> Result<Vec<(i64, i16)>> {
        let legs: Vec<(i64, i16)> = sqlx::query_as(
            "SELECT push, route FROM legs WHERE push = ANY($1) AND ended_at IS NULL ORDER BY push, route FOR UPDATE",
        )
        .bind(pushes)
        .fetch_all(conn)
        .await?;
        for (push, leg) in &legs {
            self.books.touch_leg(PushKey(*push), rows::route(*leg)?);
        }
        for push in pushes {
            self.books.touch_push(PushKey(*push));
        }
        Ok(legs)
    }

    /// Puts pushes, which are locked, into a state in which they run no more.
    pub(super) async fn turn(&mut self, conn: &mut PgConnection, pushes: &[i64], state: PushState) -> Result<()> {
        let legs = self.lock_legs(conn, pushes).await?;
        sqlx::query("UPDATE pushes SET state = $2 WHERE key = ANY($1)")
            .bind(pushes)
            .bind(state.as_str())
            .execute(&mut *conn)
            .await?;
        let (of, routes): (Vec<i64>, Vec<i16>) = legs.into_iter().unzip();
        sqlx::query(
            "UPDATE legs l SET closed = true FROM unnest($1::bigint[], $2::smallint[]) AS w (push, route)
              WHERE l.push = w.push AND l.route = w.route AND NOT l.closed",
        )
        .bind(of)
        .bind(routes)
        .execute(conn)
        .await?;
        Ok(())
    }

    /// Ends free pages of pushes that are locked, with their legs.
    pub(super) async fn pushes(&mut self, conn: &mut PgConnection, pushes: &Pushes) -> Result<()> {
        self.own_pages(conn, pushes).await?;
        if self.room == 0 {
            return Ok(());
        }
        let keys: Vec<i64> = pushes.keys().map(|key| key.0).collect();
        let free = sqlx::query(
            "SELECT id, push, route, seq, expected, after_key, upto_key, progress, epoch FROM pages
              WHERE push = ANY($1) AND (lease_until IS NULL OR lease_until < clock_timestamp())
              ORDER BY push, route, seq LIMIT $2 FOR UPDATE SKIP LOCKED",
        )
        .bind(&keys)
        .bind(rows::int(self.room))
        .fetch_all(&mut *conn)
        .await?;
        let free: Vec<Page> = free.iter().map(Page::from_row).collect::<Result<_>>()?;
        let bucket = |page: &Page| {
            let push = pushes.get(&page.id.push);
            push.map_or(Bucket::Expired, |(push, _)| Bucket::of(push.state))
        };
        self.settle(free, bucket);
        Ok(())
    }

    pub(super) fn settle(&mut self, free: Vec<Page>, bucket: impl Fn(&Page) -> Bucket) {
        for page in free {
            let mut ended = page.progress.clone();
            let rest = page.targeted() - ended.ended();
            bucket(&page).add(ended.counts_mut(page.leg), rest);
            self.books.settle_page(&page, &ended.counts, &[], None);
            self.room = self.room.saturating_sub(1);
            self.pages += 1;
        }
    }

    async fn own_pages(&mut self, conn: &mut PgConnection, pushes: &Pushes) -> Result<()> {
        let mut free: Vec<&(Push, OwnPage)> = pushes
            .values()
            .filter(|(_, own)| own.due.is_some() && own.free)
            .collect();
        let fit = free.iter().take_while(|(_, own)| {
            let fits = self.room > 0;
            // Its targets have to be looked up.
            self.room = self.room.saturating_sub(1 + own.expected / 10);
            fits
        });
        let fit = fit.count();
        free.truncate(fit);
        let keys: Vec<i64> = free.iter().map(|(push, _)| push.key.0).collect();
        let mut stored = OwnPage::targets_of(conn, &keys).await?;
        let pages: Vec<Explicit<'_>> = (free.iter())
            .map(|(push, own)| Explicit {
                push,
                route: own.route,
                stored: stored.remove(&push.key).unwrap_or_default(),
                progress: &own.progress,
            })
            .collect();
        for ((push, own), targets) in free.iter().zip(targets::explicit(conn, &pages).await?) {
            let mut ended = Progress {
                counts: own.progress.counts.clone(),
                ..Progress::default()
            };
            for (route, targets) in waiting_by_route(own, &targets) {
                Bucket::of(push.state).add(ended.counts_mut(route), targets);
            }
            self.books.settle_own_page(push, own, ended.counts, &[], &[]);
            self.pages += 1;
        }
        Ok(())
    }

    pub(super) async fn finish(self, tx: &mut Tx, shared: &Shared) -> Result<Done> {
        Ok(Done {
            pages: self.pages,
            room: self.room,
            pushes: self.books.close(tx, shared).await?,
        })
    }
}

/// How many targets of an unsettled own page have not ended, by the route that they would go over now. `targets` are those that are still to be sent.
pub(super) fn waiting_by_route(own: &OwnPage, targets: &[Target]) -> Vec<(Route, u64)> {
    let mut waiting: Vec<(Route, u64)> = Vec::new();
    let mut add = |route: Route, targets: u64| match waiting.iter_mut().find(|(r, _)| *r == route) {
        Some((_, sum)) => *sum += targets,
        None => waiting.push((route, targets)),
    };
    let left_over = own.progress.left_over.iter().map(|left| left.route);
    for route in targets.iter().map(|target| target.route).chain(left_over) {
        add(route, 1);
    }
    let found = (targets.len() + own.progress.left_over.len()) as u64;
    // Every target is open, left over, above the position, or counted. Should one be none of it, it still waits.
    let missing = (own.targeted() - own.progress.ended()).saturating_sub(found);
    if missing > 0 {
        add(own.route, missing);
    }
    waiting
}
