//! Distinct tokens where each begins with a number: one bit for each, and the moment at which those from [`FIRST_MARK`] on came.
//!
//! Far cheaper than hashes ([`super::tokens::Tokens`]), for benchmarks that choose their tokens themselves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use memchr::memmem::Finder;
use serde::Serialize;

const KEY: &[u8] = br#""token":""#;
/// Digits of a token's number.
const DIGITS: usize = 9;
/// Numbers below have a bit: 2 MiB for all of them.
const LIMIT: usize = 1 << 24;
/// Tokens from this number on are marked: when they arrive is written down.
const FIRST_MARK: usize = 900_000_000;
/// So many arrivals are kept.
const MARKS: usize = 100_000;

/// What was seen in a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    New,
    Again,
    Marked,
    /// No token, or none that begins with a number that is known here.
    Nothing,
}

/// All numbers of a blind sink.
pub(crate) struct Numbers {
    key: Finder<'static>,
    seen: Box<[AtomicU64]>,
    repeats: AtomicU64,
    started: Instant,
    marks: Mutex<Vec<(usize, u64)>>,
}

/// When marked tokens arrived.
#[derive(Debug, Serialize)]
pub(crate) struct Marks {
    /// The present moment, in microseconds since the simulator was started.
    clock_us: u64,
    /// Each marked token's number, and when it came, by the same clock.
    marks: Vec<(usize, u64)>,
}

impl Numbers {
    pub(crate) fn new() -> Self {
        Self {
            key: Finder::new(KEY),
            seen: (0..LIMIT / 64).map(|_| AtomicU64::new(0)).collect(),
            repeats: AtomicU64::new(0),
            started: Instant::now(),
            marks: Mutex::default(),
        }
    }

    /// Reads the number of a body's token. `place` is where the last one was, mostly the right place again.
    pub(crate) fn see(&self, body: &[u8], place: &mut usize) -> Seen {
        if !body.get(*place..).is_some_and(|rest| rest.starts_with(KEY)) {
            match self.key.find(body) {
                Some(at) => *place = at,
                None => return Seen::Nothing,
            }
        }
        let Some(number) = body[*place + KEY.len()..].first_chunk().and_then(number) else {
            return Seen::Nothing;
        };
        if let Some(word) = self.seen.get(number / 64) {
            let bit = 1 << (number % 64);
            return if word.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
                Seen::New
            } else {
                self.repeats.fetch_add(1, Ordering::Relaxed);
                Seen::Again
            };
        }
        if number < FIRST_MARK {
            return Seen::Nothing;
        }
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.len() < MARKS {
            marks.push((number, self.clock_us()));
        }
        Seen::Marked
    }

    /// How many numbers there were, marked ones not counted, and how many times one came again.
    pub(crate) fn sums(&self) -> (u64, u64) {
        let ones = self
            .seen
            .iter()
            .map(|word| u64::from(word.load(Ordering::Relaxed).count_ones()));
        (ones.sum(), self.repeats.load(Ordering::Relaxed))
    }

    pub(crate) fn marks(&self) -> Marks {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Marks {
            clock_us: self.clock_us(),
            marks,
        }
    }

    pub(crate) fn reset(&self) {
        for word in &self.seen {
            word.store(0, Ordering::Relaxed);
        }
        self.repeats.store(0, Ordering::Relaxed);
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn clock_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

fn number(digits: &[u8; DIGITS]) -> Option<usize> {
    digits.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + usize::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(before: &str, token: &str) -> Vec<u8> {
        format!(r#"{{"message":{{{before}"token":"{token}"}}}}"#).into_bytes()
    }

    #[test]
    fn distinct_numbers_and_repeats_are_counted_wherever_the_token_stands() {
        let (numbers, mut place) = (Numbers::new(), 0);
        for n in 0..5_000 {
            let before = if n % 2 == 0 { "" } else { r#""data":{},"# };
            assert_eq!(numbers.see(&body(before, &format!("{n:09}:x")), &mut place), Seen::New);
        }
        assert_eq!(numbers.see(&body("", "000000007:x"), &mut place), Seen::Again);
        assert_eq!(numbers.sums(), (5_000, 1));
        numbers.reset();
        assert_eq!(numbers.sums(), (0, 0));
    }

    #[test]
    fn what_has_no_number_is_not_counted() {
        let (numbers, mut place) = (Numbers::new(), 1_000);
        for body in [
            body("", "abc"),
            body("", "00000001"),
            body("", "100000000:x"),
            br#"{"message":{"topic":"news"}}"#.to_vec(),
            br#""token":""#.to_vec(),
            Vec::new(),
        ] {
            assert_eq!(numbers.see(&body, &mut place), Seen::Nothing);
        }
        assert_eq!(numbers.sums(), (0, 0));
    }

    #[test]
    fn marked_tokens_are_told_with_their_moment_in_order() {
        let (numbers, mut place) = (Numbers::new(), 0);
        for n in [900_000_002, 900_000_001] {
            assert_eq!(numbers.see(&body("", &format!("{n}:x")), &mut place), Seen::Marked);
        }
        let Marks { clock_us, marks } = numbers.marks();
        assert_eq!(
            marks.iter().map(|(n, _)| *n).collect::<Vec<_>>(),
            [900_000_002, 900_000_001]
        );
        assert!(marks[0].1 <= marks[1].1 && marks[1].1 <= clock_us);
        assert_eq!(numbers.sums(), (0, 0));
    }
}
