use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000;
/// FCM's.
const FCM: Pace = Pace {
    per_second: 10_000.0,
    ramp_up: Duration::from_secs(60),
};
const AT_ONCE: Pace = Pace {
    per_second: 10_000.0,
    ramp_up: Duration::ZERO,
};

fn draw(pace: Pace, permits: u32) -> Draw {
    Draw {
        pace,
        permits,
        throttle: None,
    }
}

fn told(pace: Pace, after: Option<Duration>) -> Draw {
    Draw {
        throttle: Some(Throttle { after }),
        ..draw(pace, 1)
    }
}

/// Everybody takes all there is, for so many seconds from `from` on. How many permits that gives.
fn greedily(bucket: &mut Bucket, pace: Pace, from: i64, seconds: i64) -> i64 {
    let mut got = 0;
    for step in 0..seconds * 100 {
        let now = from + step * 10_000;
        loop {
            let grant = bucket.draw(now, &draw(pace, u32::MAX));
            if grant.permits == 0 || grant.wait > Duration::from_millis(100) {
                got += i64::from(grant.permits);
                break;
            }
            got += i64::from(grant.permits);
        }
    }
    got
}

#[test]
fn a_minute_at_the_full_rate_is_the_quota() {
    let mut bucket = Bucket::default();
    let got = greedily(&mut bucket, AT_ONCE, SECOND, 60);
    assert!((600_000..=605_000).contains(&got), "{got}");
}

#[test]
fn it_takes_the_ramp_s_time_to_the_full_rate_and_half_of_it_is_sent_meanwhile() {
    let mut bucket = Bucket::default();
    let seconds: Vec<i64> = (1..=65)
        .map(|second| greedily(&mut bucket, FCM, second * SECOND, 1))
        .collect();
    assert!(seconds[0] < 1_100, "{seconds:?}");
    assert!((4_500..=5_500).contains(&seconds[30]), "{seconds:?}");
    assert!(seconds[63] >= 9_800, "{seconds:?}");
    assert!(seconds.iter().all(|sent| *sent <= 11_100), "{seconds:?}");
    let first: i64 = seconds[..60].iter().sum();
    assert!((300_000..=330_000).contains(&first), "{first}");
}

#[test]
fn a_trickle_does_not_warm_it_up_and_an_idle_time_cools_it_down() {
    let mut bucket = Bucket::default();
    for second in 1..600 {
        bucket.draw(second * SECOND, &draw(FCM, 10));
    }
    assert!(bucket.level < 550.0, "{}", bucket.level);
    greedily(&mut bucket, FCM, 600 * SECOND, 61);
    assert!(bucket.level > 9_900.0);
    let grant = bucket.draw(692 * SECOND, &draw(FCM, u32::MAX));
    assert!(
        (480..=520).contains(&grant.permits),
        "half of it is left after half the time: {grant:?}"
    );
}

#[test]
fn the_very_first_message_leaves_at_once_and_slow_quotas_work() {
    let slow = Pace::per_minute(6, Duration::from_secs(60));
    let mut bucket = Bucket::default();
    let first = bucket.draw(SECOND, &draw(slow, 5));
    assert_eq!((first.permits, first.wait), (1, Duration::ZERO));
    assert_eq!(bucket.draw(2 * SECOND, &draw(slow, 5)).permits, 0);
    let mut got = 1;
    for second in 2..=61 {
        got += bucket.draw(second * SECOND, &draw(slow, 5)).permits;
    }
    assert!((6..=7).contains(&got), "{got}");
}

#[test]
fn a_throttle_holds_everybody_for_the_time_that_was_told_and_halves_the_rate() {
    let mut bucket = Bucket::default();
    greedily(&mut bucket, FCM, SECOND, 70);
    let now = 71 * SECOND;
    let grant = bucket.draw(now, &told(FCM, Some(Duration::from_secs(7))));
    assert_eq!((grant.permits, grant.throttled), (0, Duration::from_secs(7)));
    assert_eq!(
        bucket.draw(now + 6 * SECOND, &draw(FCM, 1)).throttled,
        Duration::from_secs(1)
    );
    assert_eq!(bucket.throttled(now + 6 * SECOND), Duration::from_secs(1));
    // A shorter one changes nothing.
    bucket.draw(now + SECOND, &told(FCM, Some(Duration::from_secs(1))));
    assert_eq!(bucket.throttled(now + 6 * SECOND), Duration::from_secs(1));
    let after = bucket.draw(now + 8 * SECOND, &draw(FCM, 1));
    assert_eq!(after.permits, 1);
    assert!(bucket.level <= 5_000.0, "{}", bucket.level);
}

#[test]
fn pauses_that_the_provider_does_not_name_double_when_it_goes_on_and_begin_anew_after_a_while() {
    let mut bucket = Bucket::default();
    let mut now = SECOND;
    let mut pause = |bucket: &mut Bucket, gap: i64| {
        let length = bucket.draw(now, &told(Pace::UNLIMITED, None)).throttled;
        // The others that were open at the time say the same.
        assert_eq!(bucket.draw(now, &told(Pace::UNLIMITED, None)).throttled, length);
        now += i64::try_from(length.as_micros()).unwrap() + gap;
        length.as_secs()
    };
    let pauses: Vec<u64> = (0..6).map(|_| pause(&mut bucket, 5 * SECOND)).collect();
    assert_eq!(pauses, [60, 120, 240, 480, 900, 900]);
    pause(&mut bucket, 1_000 * SECOND);
    assert_eq!(pause(&mut bucket, 0), 60);
}

#[test]
fn nobody_is_held_for_ever_by_a_clock_that_was_put_back() {
    let mut bucket = Bucket::default();
    let late = 1_000_000 * SECOND;
    greedily(&mut bucket, AT_ONCE, late, 1);
    bucket.draw(late + SECOND, &told(AT_ONCE, Some(Duration::from_secs(9))));
    let grant = bucket.draw(SECOND, &draw(AT_ONCE, 100));
    assert_eq!(
        (grant.permits, grant.wait, grant.throttled),
        (100, Duration::ZERO, Duration::ZERO)
    );
    assert_eq!(bucket.throttled(SECOND), Duration::ZERO);
}

#[test]
fn without_a_limit_only_throttles_count() {
    let mut bucket = Bucket::default();
    assert_eq!(bucket.draw(SECOND, &draw(Pace::UNLIMITED, 9)), Grant::default());
}

/// A permit's first and last moment, and how many.
type Use = (i64, i64, i64);

fn worst_window(uses: &[Use], length: i64) -> i64 {
    let in_window = |from: i64| -> i64 {
        let overlapping = uses
            .iter()
            .filter(|(begin, end, _)| *begin < from + length && *end >= from);
        overlapping.map(|(_, _, permits)| permits).sum()
    };
    uses.iter()
        .flat_map(|(begin, end, _)| [*begin, *end, end - length])
        .map(in_window)
        .max()
        .unwrap_or(0)
}

proptest! {
    /// Any number of processes, drawing when they like, using their permits at the worst moment that is allowed.
    #[test]
    fn no_window_sees_more_than_the_rate_and_the_burst(
        draws in prop::collection::vec((0i64..120_000, 1u32..3_000), 1..300),
        length in 10_000i64..5_000_000,
        ramp in 0u64..20,
        per_second in 1.0f64..50_000.0,
    ) {
        let pace = Pace { per_second, ramp_up: Duration::from_secs(ramp) };
        let mut bucket = Bucket::default();
        let mut now = SECOND;
        let mut uses = Vec::new();
        for (gap, permits) in draws {
            now += gap;
            let grant = bucket.draw(now, &draw(pace, permits));
            prop_assert!(grant.permits <= permits.min(grant.most));
            if grant.permits > 0 {
                let at = |length: Duration| now + i64::try_from(length.as_micros()).unwrap();
                uses.push((at(grant.wait), at(grant.lasts), i64::from(grant.permits)));
            }
        }
        // A piece holds at least one message, however long that takes.
        let piece = seconds(CHUNK).max(1.0 / Ramp::of(pace).floor);
        let bound = per_second * (seconds(length) + 2.0 * piece + seconds(GRACE)) + 2.0;
        let worst = worst_window(&uses, length);
        prop_assert!(worst <= i64::from(whole(bound)), "{worst} in {length} µs, bound {bound}");
    }

    #[test]
    fn a_jump_of_the_clock_gives_away_no_more_than_lay_ahead(
        jumps in prop::collection::vec(-10_000_000i64..10_000_000, 1..6),
    ) {
        let mut bucket = Bucket::default();
        let (mut offset, mut got) = (1_000 * SECOND, 0);
        let jumps_made = i64::try_from(jumps.len()).unwrap();
        for (round, jump) in jumps.into_iter().enumerate() {
            let real = i64::try_from(round).unwrap() * SECOND;
            got += greedily(&mut bucket, AT_ONCE, real + offset, 1);
            offset += jump;
        }
        // Ten thousand for each real second, and what one process may have ahead for each jump.
        prop_assert!(got <= jumps_made * (10_000 + 7_000), "{got}");
    }

    #[test]
    fn a_piece_is_as_long_as_its_messages_take(level in 100.0f64..10_000.0, messages in 1.0f64..50_000.0) {
        let ramp = Ramp::of(FCM);
        let length = ramp.length(level, messages);
        prop_assert!((ramp.within(level, length) - messages).abs() < 0.01);
    }
}
