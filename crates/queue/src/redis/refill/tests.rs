use std::collections::{BTreeSet, HashMap};

use bugle_model::{AppId, Platform, Provider, Route};
use proptest::prelude::*;

use super::super::look::Seen;
use super::*;

const NOW: Timestamp = Timestamp(1_000_000_000);

fn keys() -> Keys {
    Keys::new("t:", Lane::Urgent, &[AppId::default_app()])
}

/// A page to Android devices that became due so long ago.
fn page(push: i64, age: Duration) -> PageRef {
    PageRef {
        id: PageId {
            push: PushKey(push),
            leg: Some(Route::of(Provider::Fcm, Platform::Android)),
            seq: 1,
        },
        app: AppId::default_app(),
        lane: Lane::Urgent,
        due: NOW.minus(age),
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The stream of FCM has so many undelivered; the last that was read is so old.
fn look(undelivered: usize, read: Duration) -> Look {
    let mut streams = vec![Seen::default(); 5];
    streams[0] = Seen {
        undelivered,
        last_read: (NOW.minus(read).0, 0),
    };
    Look {
        streams,
        ..Look::default()
    }
}

fn planned(look: &Look, room: usize, pages: Vec<PageRef>, complete: bool) -> Plan {
    let keys = keys();
    let situation = Situation {
        now: NOW,
        room,
        look,
        keys: &keys,
    };
    plan(&situation, pages, complete, |_| false)
}

fn added(plan: &Plan) -> Vec<i64> {
    plan.add.iter().map(|(_, page)| page.id.push.0).collect()
}

#[test]
fn an_empty_lane_gets_all_but_what_may_be_on_its_way() {
    let pages = vec![page(1, secs(50)), page(2, secs(3)), page(3, secs(1))];
    let plan = planned(&look(0, secs(0)), 10, pages, true);
    assert_eq!(added(&plan), [1, 2]);
    assert_eq!(plan.gap, None);
}

#[test]
fn what_has_no_room_is_the_gap_and_follows_from_there() {
    let pages: Vec<_> = (1..=6).map(|push| page(push, secs(60 - push.unsigned_abs()))).collect();
    let first = planned(&look(0, secs(0)), 2, pages.clone(), true);
    assert_eq!(added(&first), [1, 2]);
    assert_eq!(first.gap, Some(place(&pages[2])));
    let mut now = look(2, secs(600));
    now.gap = first.gap;
    let second = planned(&now, 2, pages.clone(), false);
    assert_eq!(added(&second), [3, 4], "not those that are there already");
    now.gap = second.gap;
    let third = planned(&now, 10, pages.clone(), false);
    assert_eq!(added(&third), [5, 6]);
    assert_eq!(third.gap, Some(after(place(&pages[5]))), "the ledger has more");
    now.gap = third.gap;
    let last = planned(&now, 10, pages, true);
    assert_eq!(last.gap, None);
}

#[test]
fn a_page_is_lost_when_its_stream_was_read_far_beyond_its_time() {
    let pages = vec![page(1, secs(60)), page(2, secs(38)), page(3, secs(10))];
    assert_eq!(added(&planned(&look(5, secs(40)), 10, pages.clone(), true)), [1]);
    assert_eq!(added(&planned(&look(5, secs(55)), 10, pages.clone(), true)), [0_i64; 0]);
    let full = planned(&look(5, secs(40)), 0, pages.clone(), true);
    assert!(full.starved && full.gap.is_none(), "what follows is in the stream");
    let mut refilled = look(5, secs(40));
    refilled.refilled = HashMap::from([(0, (NOW.minus(secs(30)).0, 0))]);
    assert_eq!(
        added(&planned(&refilled, 10, pages, true)),
        [0_i64; 0],
        "it may be among those that were added late and not read yet"
    );
}

#[test]
fn pages_that_are_not_due_are_kept_by_one_process() {
    let mut soon = page(1, secs(0));
    soon.due = NOW.plus(secs(20));
    let mut later = page(2, secs(0));
    later.due = NOW.plus(secs(40));
    let pages = vec![soon.clone(), later.clone()];
    let first = planned(&look(0, secs(0)), 10, pages.clone(), true);
    assert_eq!(first.later, pages);
    let mut now = look(0, secs(0));
    now.ahead = Some(place(&soon));
    assert_eq!(planned(&now, 10, pages, true).later, [later]);
    assert_eq!(first.gap, None);
}

proptest! {
    /// Refills over a backlog of which nothing is read: each page is added once, in order, as far as there is room.
    #[test]
    fn refills_never_add_a_waiting_page_again(backlog in 1_usize..60, rounds in proptest::collection::vec((1_usize..20, 1_usize..80), 1..10)) {
        let pages: Vec<_> = (1..=backlog).map(|n| page(i64::try_from(n).unwrap(), secs(600 - n as u64))).collect();
        let mut now = look(0, secs(0));
        let mut seen = BTreeSet::new();
        for (room, limit) in rounds {
            let told: Vec<_> = pages.iter().take(limit).cloned().collect();
            let complete = told.len() == pages.len();
            let plan = planned(&now, room, told, complete);
            prop_assert!(plan.add.len() <= room);
            for push in added(&plan) {
                prop_assert!(seen.insert(push), "{} was added twice", push);
                prop_assert_eq!(usize::try_from(push).unwrap(), seen.len());
            }
            prop_assert!(seen.len() == backlog || plan.gap.is_some(), "what is missing is not known to be");
            now = look(seen.len(), secs(600));
            now.gap = plan.gap;
        }
    }
}
