//! Targets to be tried again become pages of their own.
//!
//! They are merged over all pages that one job settles, by (leg, attempts, due second). When they were first tried and whether they
//! are suspect stands beside each target.

use std::collections::BTreeMap;

use bugle_model::{LeftOver, MAX_PAGE, PageId, PageRef, PushKey, Timestamp};

use super::rows::{self, Push};
use super::{Context, pages};
use crate::Result;
use crate::codec::targets::{Stored, What};
use crate::sqlite::writer::Tx;

/// What makes targets fit on one page.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    push: PushKey,
    leg: u8,
    due_second: i64,
    attempts: u8,
}

/// Left-overs of the pages that a job settles.
#[derive(Default)]
pub(super) struct LeftOvers(BTreeMap<Group, (Timestamp, Vec<Stored>)>);

impl LeftOvers {
    pub(super) fn add(&mut self, push: PushKey, left: &LeftOver, what: What) {
        let group = Group {
            push,
            leg: left.route.code(),
            due_second: left.due.as_secs(),
            attempts: left.attempts,
        };
        let (due, stored) = self.0.entry(group).or_default();
        // None of them goes before its time.
        *due = (*due).max(left.due);
        stored.push(Stored {
            what,
            attempts: left.attempts,
            first_try: left.first_try,
            suspect: left.suspect,
        });
    }

    /// Writes the pages, whose legs exist.
    pub(super) fn into_pages(self, tx: &Tx<'_>, cx: &Context) -> Result<()> {
        let conn = tx.conn();
        let mut of: Option<Push> = None;
        for (group, (due, stored)) in self.0 {
            if of.as_ref().is_none_or(|push| push.key != group.push) {
                of = Push::read(conn, group.push)?;
            }
            let Some(push) = &of else { continue };
            let leg = rows::route(group.leg)?;
            for stored in stored.chunks(MAX_PAGE) {
                let mut id = PageId {
                    push: push.key,
                    leg: Some(leg),
                    seq: 0,
                };
                id.seq = pages::next_seq(conn, id, leg)?;
                pages::insert_explicit(conn, push, id, leg, due, stored)?;
                tx.hand_over(PageRef {
                    id,
                    app: cx.apps.name(conn, push.app)?,
                    lane: push.lane,
                    due,
                });
            }
        }
        Ok(())
    }

    /// Into how many pages these fall, at most.
    pub(super) fn groups(left_over: &[LeftOver]) -> usize {
        let mut groups: Vec<(u8, i64, u8)> = (left_over.iter())
            .map(|l| (l.route.code(), l.due.as_secs(), l.attempts))
            .collect();
        groups.sort_unstable();
        groups.dedup();
        groups.len() + left_over.len() / MAX_PAGE
    }
}
