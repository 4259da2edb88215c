//! When the requests of a connection are given up.
//!
//! All requests may take equally long, so that their deadlines come in the order of their streams. Those of requests that left within [`GRAIN`] are one entry, the latest
//! of them: nobody is given up early, somebody up to a grain late. So this grows with the time that requests may take, and never with how many there are.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::http2::StreamId;

const GRAIN: Duration = Duration::from_millis(20);

/// The deadlines of one connection, oldest first.
#[derive(Default)]
pub(super) struct Deadlines(VecDeque<Group>);

/// Requests that are given up together.
struct Group {
    first: Instant,
    last: Instant,
    /// The youngest of their streams.
    upto: StreamId,
}

impl Deadlines {
    /// The request on this stream, which is younger than all before, is given up then, or shortly after.
    pub(super) fn add(&mut self, at: Instant, stream: StreamId) {
        match self.0.back_mut() {
            Some(group) if at < group.first + GRAIN => {
                group.last = group.last.max(at);
                group.upto = stream;
            }
            _ => self.0.push_back(Group {
                first: at,
                last: at,
                upto: stream,
            }),
        }
    }

    /// Takes out what is over. Answers the youngest stream of it: the requests on it and on all older ones have had their time.
    pub(super) fn over(&mut self, now: Instant) -> Option<StreamId> {
        let mut upto = None;
        while let Some(group) = self.0.front()
            && group.last <= now
        {
            upto = Some(group.upto);
            self.0.pop_front();
        }
        upto
    }

    /// When [`Self::over`] is to be asked next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.front().map(|group| group.last)
    }

    /// No request is open.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn nobody_is_given_up_early_and_nobody_much_later() {
        let (start, mut deadlines, mut over) = (Instant::now(), Deadlines::default(), 0);
        let left = |stream: u32| start + Duration::from_millis(3) * (stream / 2);
        for tick in 0..12_000 {
            let now = start + Duration::from_millis(3) * tick;
            deadlines.add(now + PATIENCE, StreamId(2 * tick + 1));
            if deadlines.next().is_some_and(|at| at <= now) {
                over = deadlines.over(now).unwrap().0;
                assert!(left(over) + PATIENCE <= now);
            }
            assert!(left(over) + PATIENCE + GRAIN * 2 >= now, "{over} at tick {tick}");
        }
        assert!(over > 1);
    }

    #[test]
    fn it_does_not_grow_with_the_requests() {
        let (start, mut deadlines) = (Instant::now(), Deadlines::default());
        for number in 0..1_000_000_u32 {
            let now = start + Duration::from_micros(10) * number;
            deadlines.add(now + PATIENCE, StreamId(2 * number + 1));
        }
        let grains = PATIENCE.as_millis() / GRAIN.as_millis();
        assert!(deadlines.0.len() as u128 <= grains + 1, "{}", deadlines.0.len());
        assert_eq!(deadlines.over(start + PATIENCE * 3), Some(StreamId(1_999_999)));
        assert_eq!((deadlines.next(), deadlines.over(start + PATIENCE * 4)), (None, None));
    }

    #[test]
    fn a_shorter_deadline_waits_for_the_ones_before_it() {
        let (start, mut deadlines) = (Instant::now(), Deadlines::default());
        deadlines.add(start + PATIENCE, StreamId(1));
        deadlines.add(start + PATIENCE / 2, StreamId(3));
        assert_eq!(deadlines.over(start + PATIENCE / 2), None);
        assert_eq!(deadlines.over(start + PATIENCE), Some(StreamId(3)));
    }
}
