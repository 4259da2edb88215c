//! Adds what the streams lack, from what the ledger has.
//!
//! Many processes read the ledger, each every 30 s and when it thinks it must, and a long backlog is in both: what is added twice must not multiply. So they
//! agree by a hash of **marks**, and only one refills at a time (the key `turn`, which expires by itself).
//!
//! - `gap`: from this place on, in the order of (due, page), the ledger knows more than the streams. Everything there is added, as far as there is
//!   room, and the gap moves on or closes. A lane with nothing undelivered is all gap.
//! - Before the gap everything was added when it was due, and whoever reads takes what came first. So a page that is free in the ledger
//!   though its stream has been read well beyond its time is **lost**, and added again.
//! - what is added late stands behind younger pages, where that conclusion would be wrong: the stream's own mark is the last entry that
//!   a refill added, and nothing counts as lost before that one was read.
//! - `ahead`: up to here some process keeps the pages that are not due yet until they are. If it dies, they are lost pages like others.
//! - `read`: how far the ledger was read when the gap was closed; who dropped something beyond, not knowing of that, opens it again from there.
//! - `asked`: counted up by a process that does not read the ledger and has released a route.
//!
//! A page that this process has itself is never added. Clocks matter little: where Redis's clock differs by more than [`MARGIN`], some undelivered pages are added
//! once more, or lost ones later.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bugle_model::{Lane, PageId, PageRef, PushKey, Timestamp};

use super::keeper::{self, Turn};
use super::keys::{Keys, Stream};
use super::link::{Link, Lost};
use super::look::{EntryId, Look, entry_id};
use super::outbox::{Place, after, place};
use super::writer::{add, text};
use super::{PATIENCE, Shared};
use crate::metrics as names;

/// How much younger than a page the last entry read must be to call the page lost.
const MARGIN: Duration = Duration::from_secs(10);
/// A page that became due no longer ago may be on its way through an empty lane.
const FRESH: Duration = Duration::from_secs(2);
/// A ledger that told of no page that is due was read no longer ago than this.
const READ: Duration = Duration::from_secs(1);
/// References that are added together.
const BATCH: usize = 1_000;
/// Before all places.
const FIRST: Place = (
    Timestamp(i64::MIN),
    PageId {
        push: PushKey(i64::MIN),
        leg: None,
        seq: i64::MIN,
    },
);

/// What a refill is about to do.
#[derive(Debug, Default)]
struct Plan {
    add: Vec<(Stream, PageRef)>,
    lost: u64,
    later: Vec<PageRef>,
    gap: Option<Place>,
    ahead: Option<Place>,
    read: Option<Place>,
    /// Lost pages found no room.
    starved: bool,
}

/// What it is planned from.
struct Situation<'a> {
    now: Timestamp,
    room: usize,
    look: &'a Look,
    keys: &'a Keys,
}

/// The ledger was read; see [`crate::Queue::refill`].
pub(super) async fn run(shared: &Shared, lane: Lane, pages: Vec<PageRef>, complete: bool) {
    shared.side(lane).refills.store(true, Ordering::SeqCst);
    // When Redis answers again, the ledger is read again.
    if let Ok(mut link) = tokio::time::timeout(PATIENCE, shared.side(lane).link.lock()).await
        && link.is_up()
    {
        let _: Result<(), Lost> = refill(shared, lane, &mut link, pages, complete).await;
    }
}

async fn refill(shared: &Shared, lane: Lane, link: &mut Link, pages: Vec<PageRef>, complete: bool) -> Result<(), Lost> {
    let side = shared.side(lane);
    if keeper::try_turn(shared, side, link).await? == Turn::Theirs {
        return Ok(());
    }
    let mut look = Look::take(&side.keys, link).await?;
    // A gap that was found here may not be marked yet.
    look.gap = [look.gap, side.outbox().gap()].into_iter().flatten().min();
    let situation = Situation {
        now: shared.clock.now(),
        room: side.outbox().room(look.undelivered()),
        look: &look,
        keys: &side.keys,
    };
    let plan = plan(&situation, pages, complete, |page| shared.has(lane, page));
    if plan.lost > 0 {
        metrics::counter!(names::RESCUED, "lane" => lane.as_str()).increment(plan.lost);
    }
    let mut last = BTreeMap::new();
    for batch in plan.add.chunks(BATCH) {
        add_all(&side.keys, link, batch, &mut last).await?;
    }
    write_marks(&side.keys, link, &plan, &look, &last).await?;
    side.set_turn(None);
    side.starved.store(plan.starved, Ordering::SeqCst);
    side.outbox()
        .refilled(look.undelivered() + plan.add.len(), plan.gap, plan.read);
    side.offer(plan.later, situation.now);
    Ok(())
}

async fn add_all(
    keys: &Keys,
    link: &mut Link,
    pages: &[(Stream, PageRef)],
    last: &mut BTreeMap<Stream, EntryId>,
) -> Result<(), Lost> {
    let mut commands = redis::pipe();
    for (stream, page) in pages {
        add(&mut commands, keys, *stream, place(page));
    }
    let answers = link.pipeline(&mut commands).await?;
    for ((stream, _), answer) in pages.iter().zip(answers) {
        if let Some(id) = answer
            .ok()
            .and_then(|value| redis::from_redis_value::<String>(value).ok())
        {
            last.insert(*stream, entry_id(&id));
        }
    }
    Ok(())
}

async fn write_marks(
    keys: &Keys,
    link: &mut Link,
    plan: &Plan,
    look: &Look,
    last: &BTreeMap<Stream, EntryId>,
) -> Result<(), Lost> {
    let mut commands = redis::pipe();
    let places = [
        ("gap", plan.gap),
        ("ahead", plan.ahead.max(look.ahead)),
        ("read", plan.read),
    ];
    for (name, place) in places {
        match place {
            Some(place) => commands.cmd("HSET").arg(&keys.marks).arg(name).arg(text(place)),
            None => commands.cmd("HDEL").arg(&keys.marks).arg(name),
        };
    }
    for (stream, (millis, count)) in last {
        let key = &keys.streams[*stream];
        commands
            .cmd("HSET")
            .arg(&keys.marks)
            .arg(key)
            .arg(format!("{millis}-{count}"));
    }
    commands.cmd("DEL").arg(&keys.turn);
    link.pipeline(&mut commands).await.map(|_| ())
}

fn plan(at: &Situation<'_>, pages: Vec<PageRef>, complete: bool, has: impl Fn(PageId) -> bool) -> Plan {
    let empty = at.look.undelivered() == 0;
    let from = if empty { Some(FIRST) } else { at.look.gap };
    let mut plan = Plan::default();
    let mut room = at.room;
    for page in pages {
        let here = place(&page);
        if page.due > at.now {
            plan.ahead = Some(here);
            if Some(here) > at.look.ahead && !has(page.id) {
                plan.later.push(page);
            }
            continue;
        }
        plan.read = Some(here);
        let Some(stream) = at.keys.stream_of(&page).filter(|_| !has(page.id)) else {
            continue;
        };
        let dropped = at.look.gap.is_some_and(|gap| here >= gap);
        let fresh = page.due.plus(FRESH) > at.now;
        if dropped || (empty && !fresh) {
            if room > 0 {
                plan.add.push((stream, page));
                room -= 1;
            } else if plan.gap.is_none() {
                plan.gap = Some(here);
            }
        } else if !empty && is_lost(at, stream, page.due) {
            if room > 0 {
                plan.add.push((stream, page));
                plan.lost += 1;
                room -= 1;
            } else {
                plan.starved = true;
            }
        }
    }
    if complete && plan.read.is_none() {
        plan.read = Some((at.now.minus(READ), FIRST.1));
    }
    if plan.gap.is_none() && !complete && from.is_some() {
        let kept = at.look.gap.filter(|_| !empty);
        plan.gap = plan.read.map(after).max(kept);
    }
    plan
}

/// Has its entry been read, and what came of that is nobody's?
fn is_lost(at: &Situation<'_>, stream: Stream, due: Timestamp) -> bool {
    let seen = at.look.streams[stream];
    if seen.undelivered == 0 {
        return due.plus(FRESH) <= at.now;
    }
    let read_so_far = at.look.refilled.get(&stream).is_none_or(|last| seen.last_read >= *last);
    read_so_far && due.plus(MARGIN) < Timestamp(seen.last_read.0)
}

#[cfg(test)]
mod tests;
