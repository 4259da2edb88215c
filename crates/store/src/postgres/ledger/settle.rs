//! Keeps the books of a transaction: what its pages change in the accounts of their legs, and who ends by it.
//!
//! `books::account` says what settling adds. Changes are added up in memory and written at the end, each table by one statement: own pages; page rows go; left-overs become pages; legs; pushes that end.
//!
//! Whoever keeps books has locked the pushes whose legs or pages he settles, so that nobody else adds or ends one of their legs meanwhile. A leg that is locked has
//! exactly the pages that a statement sees: pages are inserted and removed by those who have locked their leg.

use std::collections::{BTreeMap, BTreeSet};

use bugle_model::{Counts, LeftOver, PushKey, PushState, Route, Timestamp};
use sqlx::PgConnection;

use super::legs::{self, Leg};
use super::rows::{self, OwnPage, Page, Push, Pushes, int};
use super::{leftovers, pages};
use crate::Result;
use crate::books::account::{self, Accounts, LegKey, is_refused};
use crate::books::page::Content;
use crate::books::push::end_state;
use crate::codec::targets::Stored;
use crate::postgres::shared::{Shared, Tx};

/// A push's own page that is settled.
struct OwnEnd {
    key: PushKey,
    account: Vec<u8>,
    answered: u64,
    payload: u64,
    /// The push ends with it, in this state; `None` = its left-overs go on.
    state: Option<PushState>,
}

/// What a transaction changes.
pub(super) struct Books {
    now: Timestamp,
    pub(super) accounts: Accounts,
    own: Vec<OwnEnd>,
    rows: Vec<i64>,
    explicit: Vec<i64>,
    legs: BTreeMap<LegKey, Leg>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Closed {
    /// So many pushes have ended.
    pub(super) ended: u64,
    /// Legs in these books that are rejected.
    pub(super) rejected: BTreeSet<LegKey>,
}

impl Books {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            now,
            accounts: Accounts::new(now),
            own: Vec::new(),
            rows: Vec::new(),
            explicit: Vec::new(),
            legs: BTreeMap::new(),
        }
    }

    /// Locks legs that will change, before pages are locked. Others are locked when the books are closed.
    pub(super) async fn lock_legs(&mut self, conn: &mut PgConnection, keys: &BTreeSet<LegKey>) -> Result<()> {
        let missing: Vec<LegKey> = keys
            .iter()
            .filter(|key| !self.legs.contains_key(key))
            .copied()
            .collect();
        if !missing.is_empty() {
            self.legs.append(&mut legs::lock(conn, &missing).await?);
        }
        Ok(())
    }

    /// Ends a page, which is locked, with these counts; its row goes when the books are closed. `stored` = its explicit targets, for those that are left over.
    pub(super) fn settle_page(
        &mut self,
        page: &Page,
        counts: &[(Route, Counts)],
        left_over: &[LeftOver],
        stored: Option<&[Stored]>,
    ) {
        let push = page.id.push;
        self.rows.push(page.row);
        let stored = match page.content {
            Content::Explicit => {
                self.explicit.push(page.row);
                Some(stored.unwrap_or_default())
            }
            Content::Range(..) => None,
        };
        self.accounts.settle(push, page.leg, page.expected, counts);
        self.accounts.leave_over(push, left_over, stored);
    }

    /// Ends the own page of a push, which is locked, with these counts, which stay in the push's row; without left-overs the push ends with it.
    pub(super) fn settle_own_page(
        &mut self,
        push: &Push,
        own: &OwnPage,
        counts: Vec<(Route, Counts)>,
        left_over: &[LeftOver],
        stored: &[Stored],
    ) {
        let rejected = is_refused(own.answered, own.payload);
        let state = (left_over.is_empty()).then(|| end_state(push.state, push.expires_at, rejected, self.now));
        self.own.push(OwnEnd {
            key: push.key,
            account: account::of_own_page(counts),
            answered: own.answered,
            payload: own.payload,
            state,
        });
        self.accounts.leave_over(push.key, left_over, Some(stored));
    }

    /// Writes everything down. Returns how many pushes have ended.
    pub(super) async fn close(self, tx: &mut Tx, shared: &Shared) -> Result<u64> {
        Ok(self.enter(tx, shared, &Pushes::new()).await?.ended)
    }

    /// The same, and says which of the legs are rejected. `known` = pushes that were read in this transaction.
    pub(super) async fn enter(mut self, tx: &mut Tx, shared: &Shared, known: &Pushes) -> Result<Closed> {
        let mut closed = Closed {
            ended: write_own_pages(tx.conn(), &self.own, self.now).await?,
            rejected: BTreeSet::new(),
        };
        if !self.accounts.changes.is_empty() {
            closed.rejected = self.enter_legs(tx, shared, known).await?;
        }
        closed.ended += end_pushes(tx.conn(), &self.accounts.touched, self.now).await?;
        Ok(closed)
    }

    async fn enter_legs(&mut self, tx: &mut Tx, shared: &Shared, known: &Pushes) -> Result<BTreeSet<LegKey>> {
        let keys: BTreeSet<LegKey> = self.accounts.changes.keys().copied().collect();
        self.lock_legs(tx.conn(), &keys).await?;
        let mut of: Vec<i64> = keys.iter().map(|(push, _)| push.0).collect();
        of.dedup();
        let read;
        let pushes = if of.iter().all(|key| known.contains_key(&PushKey(*key))) {
            known
        } else {
            read = Push::read_many(tx.conn(), &of).await?;
            &read
        };
        let mut legs = std::mem::take(&mut self.legs);
        legs.retain(|key, _| keys.contains(key));
        for (key, change) in &self.accounts.changes {
            let leg = legs.entry(*key).or_insert_with(Leg::new);
            leg.add(change);
            if !leg.closed && change.outstanding < 0 {
                tx.wake_legs();
            }
        }
        // Before left-overs look for a page to join: none of these.
        pages::remove(tx.conn(), &self.rows, &self.explicit).await?;
        let groups = std::mem::take(&mut self.accounts.left_overs.groups);
        leftovers::write(groups, self.now, tx, shared, (pushes, &mut legs)).await?;
        self.end_legs(tx.conn(), &mut legs).await?;
        let entries: Vec<legs::Entry<'_>> = (self.accounts.changes.iter())
            .filter_map(|(key, change)| {
                let (push, _) = pushes.get(&key.0)?;
                Some(legs::Entry {
                    key: *key,
                    app: push.app,
                    change,
                    leg: legs.get(key)?,
                })
            })
            .collect();
        legs::write(tx.conn(), &entries).await?;
        Ok(legs
            .iter()
            .filter(|(_, leg)| leg.rejected)
            .map(|(key, _)| *key)
            .collect())
    }

    /// Closed legs without a page have ended.
    async fn end_legs(&mut self, conn: &mut PgConnection, legs: &mut BTreeMap<LegKey, Leg>) -> Result<()> {
        // Every page expects somebody.
        let over = |leg: &Leg| leg.closed && leg.ended_at.is_none() && leg.outstanding <= 0;
        let candidates: Vec<LegKey> = legs.iter().filter(|(_, leg)| over(leg)).map(|(key, _)| *key).collect();
        if candidates.is_empty() {
            return Ok(());
        }
        for key in legs::without_pages(conn, &candidates).await? {
            if let Some(leg) = legs.get_mut(&key) {
                leg.ended_at = Some(self.now.0);
                self.accounts.touched.insert(key.0);
            }
        }
        Ok(())
    }
}

/// Writes own pages that are settled; returns how many pushes have ended by it.
async fn write_own_pages(conn: &mut PgConnection, own: &[OwnEnd], now: Timestamp) -> Result<u64> {
    let (over, goes_on): (Vec<&OwnEnd>, Vec<&OwnEnd>) = own.iter().partition(|own| own.state.is_some());
    if !over.is_empty() {
        sqlx::query(
            "UPDATE pushes p SET page_due = NULL, lease_until = NULL, progress = w.progress, answered = w.answered, payload = w.payload,
                                 state = w.state, ended_at = $6, channels = NULL, targets = NULL, body = NULL
               FROM (SELECT unnest($1::bigint[]) AS key, unnest($2::bytea[]) AS progress, unnest($3::bigint[]) AS answered, unnest($4::bigint[]) AS payload,
                            unnest($5::text[]) AS state) AS w
              WHERE p.key = w.key",
        )
        .bind(over.iter().map(|o| o.key.0).collect::<Vec<_>>())
        .bind(over.iter().map(|o| o.account.as_slice()).collect::<Vec<_>>())
        .bind(over.iter().map(|o| int(o.answered)).collect::<Vec<_>>())
        .bind(over.iter().map(|o| int(o.payload)).collect::<Vec<_>>())
        .bind(over.iter().map(|o| o.state.map_or("", PushState::as_str)).collect::<Vec<_>>())
        .bind(now.0)
        .execute(&mut *conn)
        .await?;
    }
    if !goes_on.is_empty() {
        sqlx::query(
            "UPDATE pushes p SET page_due = NULL, lease_until = NULL, progress = w.progress, answered = w.answered, payload = w.payload,
                                 targets = NULL
               FROM (SELECT unnest($1::bigint[]) AS key, unnest($2::bytea[]) AS progress, unnest($3::bigint[]) AS answered, unnest($4::bigint[]) AS payload) AS w
              WHERE p.key = w.key",
        )
        .bind(goes_on.iter().map(|o| o.key.0).collect::<Vec<_>>())
        .bind(goes_on.iter().map(|o| o.account.as_slice()).collect::<Vec<_>>())
        .bind(goes_on.iter().map(|o| int(o.answered)).collect::<Vec<_>>())
        .bind(goes_on.iter().map(|o| int(o.payload)).collect::<Vec<_>>())
        .execute(&mut *conn)
        .await?;
    }
    Ok(over.len() as u64)
}

/// Ends those of these pushes of which nothing is left; returns how many those were.
async fn end_pushes(conn: &mut PgConnection, touched: &BTreeSet<PushKey>, now: Timestamp) -> Result<u64> {
    if touched.is_empty() {
        return Ok(0);
    }
    let keys: Vec<i64> = touched.iter().map(|push| push.0).collect();
    let pushes = Push::lock_many(conn, &keys).await?;
    let legs = legs::standing(conn, &keys).await?;
    let (mut over, mut states) = (Vec::new(), Vec::new());
    for (key, (push, own)) in &pushes {
        let standing = legs.get(key).copied().unwrap_or_default();
        if push.ended || own.due.is_some() || standing.open {
            continue;
        }
        let rejected = own.expected == 0 && standing.rejected;
        over.push(key.0);
        states.push(end_state(push.state, push.expires_at, rejected, now).as_str());
    }
    if over.is_empty() {
        return Ok(0);
    }
    sqlx::query(
        "UPDATE pushes p SET state = w.state, ended_at = $3, channels = NULL, targets = NULL, body = NULL
           FROM (SELECT unnest($1::bigint[]) AS key, unnest($2::text[]) AS state) AS w WHERE p.key = w.key",
    )
    .bind(&over)
    .bind(&states)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(over.len() as u64)
}

/// All legs of a push, which is locked, may have ended, and the push itself.
pub(super) async fn touch_legs(conn: &mut PgConnection, push: PushKey, books: &mut Books) -> Result<()> {
    for code in legs::unended(conn, push).await? {
        books.accounts.touch_leg(push, rows::route(code)?);
    }
    books.accounts.touch_push(push);
    Ok(())
}
