//! How many targets each open leg may hand out now. Pure.

use std::collections::HashMap;

use bugle_model::{AppId, MAX_PAGE, Route};
use bugle_store::OpenLeg;

use crate::Config;

type Key = (AppId, Route);

/// The room of each leg, in the order of `legs`.
///
/// A window belongs to an app's route. Legs that are still open share it evenly, at most [`Config::push_window`] each; what closed legs have outstanding counts
/// against the window, too. A leg is given room when a good part of its share has become free, and for whole pages only, unless its share is smaller than a page.
/// On hold nothing is handed out, but one single target where nothing waits: the probe needs it.
pub(crate) fn rooms(
    config: &Config,
    legs: &[OpenLeg],
    outstanding: &[(AppId, Route, u64)],
    held: impl Fn(&AppId, Route) -> bool,
) -> Vec<u32> {
    let mut open: HashMap<Key, u64> = HashMap::new();
    for leg in legs {
        *open.entry((leg.app.clone(), leg.route)).or_default() += 1;
    }
    let mut free: HashMap<Key, u64> = HashMap::new();
    for key in open.keys() {
        let used = outstanding
            .iter()
            .find(|(app, route, _)| *app == key.0 && *route == key.1)
            .map_or(0, |(_, _, n)| *n);
        free.insert(key.clone(), config.window.saturating_sub(used));
    }
    legs.iter()
        .map(|leg| {
            let key = (leg.app.clone(), leg.route);
            let free = free.entry(key.clone()).or_default();
            let room = if held(&leg.app, leg.route) {
                u64::from(*free == config.window)
            } else {
                let share = (config.window / open.get(&key).copied().unwrap_or(1).max(1)).clamp(1, config.push_window);
                whole_pages(worth_it(share.saturating_sub(leg.outstanding), share).min(*free), share)
            };
            *free -= room;
            u32::try_from(room).unwrap_or(u32::MAX)
        })
        .collect()
}

/// Nothing, unless a quarter of the share is free: a walk and its transaction cost about the same for one page as for sixteen, and what is handed out lasts meanwhile.
fn worth_it(room: u64, share: u64) -> u64 {
    if room.saturating_mul(4) < share { 0 } else { room }
}

/// Room in whole pages, so that a share that empties target by target is not handed out target by target.
fn whole_pages(room: u64, share: u64) -> u64 {
    let page = (MAX_PAGE as u64).min(share);
    room / page * page
}

#[cfg(test)]
mod tests {
    use bugle_model::{Platform, Provider, PushKey};
    use proptest::prelude::*;

    use super::*;

    fn leg(push: i64, outstanding: u64) -> OpenLeg {
        OpenLeg {
            push: PushKey(push),
            route: android(),
            app: AppId::default_app(),
            outstanding,
        }
    }

    fn android() -> Route {
        Route::of(Provider::Fcm, Platform::Android)
    }

    fn config(window: u64, push_window: u64) -> Config {
        Config {
            window,
            push_window,
            ..Config::default()
        }
    }

    fn used(n: u64) -> Vec<(AppId, Route, u64)> {
        vec![(AppId::default_app(), android(), n)]
    }

    #[test]
    fn one_leg_gets_its_push_window() {
        assert_eq!(
            rooms(&config(256_000, 64_000), &[leg(1, 0)], &[], |_, _| false),
            [64_000]
        );
        assert_eq!(
            rooms(&config(256_000, 64_000), &[leg(1, 63_500)], &used(63_500), |_, _| false),
            [0]
        );
    }

    #[test]
    fn a_leg_gets_room_when_a_quarter_of_its_share_is_free() {
        let room = |outstanding| {
            rooms(
                &config(256_000, 64_000),
                &[leg(1, outstanding)],
                &used(outstanding),
                |_, _| false,
            )
        };
        assert_eq!(room(48_001), [0]);
        assert_eq!(room(48_000), [16_000]);
        assert_eq!(room(46_500), [17_000]);
    }

    #[test]
    fn a_small_share_gets_room_for_each_page() {
        let room = |outstanding| {
            rooms(
                &config(2_000, 2_000),
                &[leg(1, outstanding)],
                &used(outstanding),
                |_, _| false,
            )
        };
        assert_eq!(room(1_001), [0]);
        assert_eq!(room(1_000), [1_000]);
    }

    #[test]
    fn many_legs_share_the_window_evenly() {
        let legs: Vec<_> = (0..8).map(|push| leg(push, 0)).collect();
        assert_eq!(rooms(&config(256_000, 64_000), &legs, &[], |_, _| false), [32_000; 8]);
    }

    #[test]
    fn what_closed_legs_have_outstanding_counts() {
        assert_eq!(
            rooms(&config(256_000, 64_000), &[leg(1, 0)], &used(250_000), |_, _| false),
            [6_000]
        );
    }

    #[test]
    fn a_held_route_hands_out_one_target_where_nothing_waits() {
        assert_eq!(
            rooms(&config(8_000, 8_000), &[leg(1, 0), leg(2, 0)], &[], |_, _| true),
            [1, 0]
        );
        assert_eq!(rooms(&config(8_000, 8_000), &[leg(1, 0)], &used(1), |_, _| true), [0]);
    }

    proptest! {
        #[test]
        fn the_window_is_never_exceeded(
            window in 1_000u64..300_000,
            push_window in 1_000u64..300_000,
            outs in proptest::collection::vec(0u64..70_000, 1..40),
            closed in 0u64..400_000,
        ) {
            let legs: Vec<_> = outs.iter().enumerate().map(|(i, n)| leg(i64::try_from(i).unwrap(), *n)).collect();
            let total = outs.iter().sum::<u64>() + closed;
            let rooms = rooms(&config(window, push_window), &legs, &used(total), |_, _| false);
            let handed: u64 = rooms.iter().map(|n| u64::from(*n)).sum();
            prop_assert!(handed == 0 || total + handed <= window);
            for (leg, room) in legs.iter().zip(rooms) {
                prop_assert!(room == 0 || leg.outstanding + u64::from(room) <= push_window);
            }
        }
    }
}
