//! How long to wait after the nth failure in a row.

use std::time::Duration;

use rand::Rng;

/// Doubles from `first` to `cap`. The upper half of each wait is random, so that many clients do not return at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) cap: Duration,
}

impl Backoff {
    /// The wait after `failures` in a row, of which there is at least one.
    pub(crate) fn after(self, failures: u32) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        doubled.min(self.cap).mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_never_vanish() {
        let backoff = Backoff {
            first: Duration::from_millis(100),
            cap: Duration::from_secs(5),
        };
        for failures in 0..100 {
            let wait = backoff.after(failures);
            assert!(
                wait >= Duration::from_millis(50) && wait <= Duration::from_secs(5),
                "{wait:?}"
            );
        }
        assert!(backoff.after(1) <= Duration::from_millis(100));
        assert!(backoff.after(30) >= Duration::from_millis(2_500));
    }
}
