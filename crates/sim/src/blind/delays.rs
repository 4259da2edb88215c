//! Answers of one blind connection that are not due yet, by the millisecond.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Which stream is answered when. Streams of one millisecond are answered together.
pub(super) struct Delays {
    began: Instant,
    /// By milliseconds since `began`: streams, and the microsecond in which each ended.
    due: BTreeMap<u64, Vec<(u32, u64)>>,
}

impl Delays {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            due: BTreeMap::new(),
        }
    }

    /// These streams have ended just now; each waits as long as `latency` says.
    pub(super) fn add(&mut self, streams: &mut Vec<u32>, mut latency: impl FnMut() -> Duration) {
        let now = self.micros();
        for stream in streams.drain(..) {
            // To the nearest millisecond, so that the mean stays what it should be.
            let due = now + u64::try_from(latency().as_micros()).unwrap_or(u64::MAX / 2);
            self.due.entry((due + 500) / 1_000).or_default().push((stream, now));
        }
    }

    /// When the next answer is due, if one waits.
    pub(super) fn next(&self) -> Option<Instant> {
        let (due, _) = self.due.first_key_value()?;
        Some(self.began + Duration::from_millis(*due))
    }

    /// Takes out what is due, in the order of that. Answers how many there were, and the sum of the microseconds that they really waited.
    pub(super) fn take(&mut self, mut answer: impl FnMut(u32)) -> (u64, u64) {
        let (mut count, mut waited) = (0, 0);
        let now = self.micros();
        while let Some(first) = self.due.first_entry()
            && *first.key() <= now / 1_000
        {
            for (stream, ended) in first.remove() {
                answer(stream);
                count += 1;
                waited += now.saturating_sub(ended);
            }
        }
        (count, waited)
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_out_and_the_rest_waits() {
        let mut delays = Delays::new();
        let mut latencies = [3_600_000, 0, 0].map(Duration::from_millis).into_iter();
        delays.add(&mut vec![1, 3, 5], || latencies.next().unwrap());
        assert!(delays.next().unwrap() < Instant::now() + Duration::from_millis(2));
        std::thread::sleep(Duration::from_millis(2));
        let mut answered = Vec::new();
        let (count, waited) = delays.take(|stream| answered.push(stream));
        assert_eq!((answered, count), (vec![3, 5], 2));
        assert!((4_000..3_600_000).contains(&waited), "{waited}");
        assert!(delays.next().unwrap() > Instant::now() + Duration::from_mins(59));
        assert_eq!(delays.take(|stream| panic!("{stream}")), (0, 0));
    }
}
