//! How long a target waits after a transient failure. Pure.

use std::time::Duration;

/// Exponential with jitter: `first` doubled with every try, at most `longest`, of which a random half to the whole (`dice` in 0 to 1) is waited.
///
/// Jitter spreads what failed together: a provider that comes back is not met by everybody at once.
pub(crate) fn pause(first: Duration, longest: Duration, attempts: u8, dice: f64) -> Duration {
    let doubled = first.saturating_mul(2u32.saturating_pow(u32::from(attempts.saturating_sub(1)).min(31)));
    doubled.min(longest).mul_f64(0.5 + dice.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_doubles_up_to_the_longest() {
        let pause = |attempts| pause(Duration::from_secs(10), Duration::from_secs(60), attempts, 1.0).as_secs();
        assert_eq!(
            [pause(1), pause(2), pause(3), pause(4), pause(200)],
            [10, 20, 40, 60, 60]
        );
    }

    proptest! {
        #[test]
        fn it_stays_between_half_and_whole(attempts in 1u8.., dice in 0.0f64..1.0) {
            let (first, longest) = (Duration::from_secs(10), Duration::from_secs(900));
            let whole = pause(first, longest, attempts, 1.0);
            let got = pause(first, longest, attempts, dice);
            prop_assert!(got <= whole && got >= whole.mul_f64(0.49));
            prop_assert!(whole <= longest);
        }
    }
}
