//! How long answers may collect before a connection is read again.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

/// A round that finds fewer answers than this, while more than `BUSY` streams are open, is followed by a pause.
const FEW: usize = 16;
const BUSY: usize = 64;
/// How long answers may collect.
const PAUSE: Duration = Duration::from_millis(1);
/// The same where a round finds less than this part of what is open: an answer takes many rounds, and some milliseconds more are little beside that.
const SLOW: usize = 12;
pub(super) const LONG_PAUSE: Duration = Duration::from_millis(4);
/// The same where an answer is seen to take longer than [`SLOW_ANSWER`].
const LONGEST_PAUSE: Duration = Duration::from_millis(8);
const SLOW_ANSWER: Duration = Duration::from_millis(40);

/// How long answers should collect after a round that has found so many, with so many streams open. `last` = the pause before that round, zero if there was none.
pub(super) fn pause(last: Duration, answers: usize, open: usize) -> Option<Duration> {
    if answers == 0 || open <= BUSY {
        return None;
    }
    // If an answer takes so long, a pause brings this part of what is open, or less.
    let takes_long = answers as u128 * SLOW_ANSWER.as_millis() < open as u128 * last.as_millis();
    if last >= LONG_PAUSE && takes_long {
        return Some(LONGEST_PAUSE);
    }
    if answers * SLOW < open {
        return Some(LONG_PAUSE);
    }
    (answers < FEW).then_some(PAUSE)
}

/// When the next pause of this length ends. All connections' end at once, so that the thread wakes up once for all of them.
pub(super) fn next_beat(pause: Duration) -> Instant {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let now = Instant::now();
    let first = *FIRST.get_or_init(|| now);
    let over = now.duration_since(first).as_nanos() % pause.as_nanos();
    now + pause - Duration::from_nanos(u64::try_from(over).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_collect_where_few_come_at_a_time_of_many_that_are_open() {
        let none = Duration::ZERO;
        let cases = [
            // At once, or hardly any open: nobody waits.
            ((none, 0, 1_000), None),
            ((none, 3, 64), None),
            ((none, 100, 100), None),
            ((none, 16, 100), None),
            ((none, 9, 100), Some(PAUSE)),
            ((none, 8, 100), Some(LONG_PAUSE)),
            ((none, 83, 1_000), Some(LONG_PAUSE)),
            ((none, 84, 1_000), None),
            ((PAUSE, 1, 1_000), Some(LONG_PAUSE)),
            // A tenth in 4 ms, or a fifth in 8: it takes 40 ms.
            ((LONG_PAUSE, 99, 1_000), Some(LONGEST_PAUSE)),
            ((LONG_PAUSE, 100, 1_000), None),
            ((LONGEST_PAUSE, 199, 1_000), Some(LONGEST_PAUSE)),
            ((LONGEST_PAUSE, 200, 1_000), None),
        ];
        for ((last, answers, open), expected) in cases {
            assert_eq!(
                pause(last, answers, open),
                expected,
                "{answers} of {open} after {last:?}"
            );
        }
    }
}
