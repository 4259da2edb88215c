//! Ends free pages without sending them: by what they expected and had not counted, left-overs included.
//!
//! They are locked first, so that nobody takes a page that is just being settled.

use bugle_model::{PushKey, PushState, Timestamp};
use sqlx::PgConnection;

use super::rows::{self, OwnPage, Page, Push, Pushes};
use super::settle::Books;
use super::targets::{self, Explicit};
use crate::Result;
use crate::books::ending::{Bucket, room_of_own_page};
use crate::postgres::shared::{Shared, Tx};

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
            self.books.accounts.touch_leg(PushKey(*push), rows::route(*leg)?);
        }
        for push in pushes {
            self.books.accounts.touch_push(PushKey(*push));
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
            "UPDATE legs l SET closed = true FROM (SELECT unnest($1::bigint[]) AS push, unnest($2::smallint[]) AS route) AS w
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
            let ended = bucket(&page).end_page(page.leg, page.expected, &page.progress);
            self.books.settle_page(&page, &ended, &[], None);
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
            self.room = self.room.saturating_sub(room_of_own_page(own.expected));
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
            let bucket = Bucket::of(push.state);
            let ended = bucket.end_own_page(own.route, own.expected, &own.progress, &targets);
            self.books.settle_own_page(push, own, ended, &[], &[]);
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
