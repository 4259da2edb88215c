//! How long answers take: distributions by what one knows of them, the middle and the tail.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::choice::scramble;
use crate::error::{Error, Result};

/// The longest latency that can be asked for or drawn, in milliseconds: ten minutes.
const LONGEST_MS: u32 = 600_000;
/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_874;

/// How long an answer to a message waits; every number in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Latency {
    /// Always so long.
    Fixed(u32),
    /// Anything between the two, each as likely.
    Uniform {
        /// The shortest.
        min: u32,
        /// The longest.
        max: u32,
    },
    /// Symmetric around the median; what would be negative is zero.
    Normal {
        /// Half of the answers are faster.
        median: u32,
        /// One answer in a hundred is slower.
        p99: u32,
    },
    /// Most answers near the median and a long tail, as networks and providers have it.
    LogNormal {
        /// Half of the answers are faster; at least 1.
        median: u32,
        /// One answer in a hundred is slower.
        p99: u32,
    },
}

impl Latency {
    /// Whether the numbers make sense together.
    pub(crate) fn check(self) -> Result<()> {
        let (low, high) = match self {
            Self::Fixed(ms) => (ms, ms),
            Self::Uniform { min, max } => (min, max),
            Self::Normal { median, p99 } | Self::LogNormal { median, p99 } => (median, p99),
        };
        let wrong = |text: &str| Err(Error::Settings(format!("latency: {text}")));
        if low > high {
            return wrong("max and p99 must not be below min and median");
        }
        if high > LONGEST_MS {
            return wrong("600000 milliseconds at most");
        }
        if matches!(self, Self::LogNormal { median: 0, .. }) {
            return wrong("the median of lognormal is at least 1");
        }
        Ok(())
    }

    /// The latency at a point that was chosen at random; the same point gives the same one.
    pub(crate) fn draw(self, point: u64) -> Duration {
        let ms = match self {
            Self::Fixed(ms) => f64::from(ms),
            Self::Uniform { min, max } => f64::from(min) + unit(scramble(point)) * (f64::from(max) - f64::from(min)),
            Self::Normal { median, p99 } => {
                f64::from(median) + standard_normal(point) * (f64::from(p99) - f64::from(median)) / Z99
            }
            Self::LogNormal { median, p99 } => {
                let sigma = (f64::from(p99) / f64::from(median)).ln() / Z99;
                f64::from(median) * (standard_normal(point) * sigma).exp()
            }
        };
        Duration::from_secs_f64(ms.clamp(0.0, f64::from(LONGEST_MS)) / 1_000.0)
    }
}

/// Between 0 and 1, neither included.
fn unit(point: u64) -> f64 {
    let high = u32::try_from(point >> 32).unwrap_or(u32::MAX);
    (f64::from(high) + 0.5) / 4_294_967_296.0
}

/// Box and Muller's transformation of two points that are made of one.
fn standard_normal(point: u64) -> f64 {
    let (first, second) = (unit(scramble(point)), unit(scramble(!point)));
    (-2.0 * first.ln()).sqrt() * (std::f64::consts::TAU * second).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The quantiles 0.01, 0.5 and 0.99 of many draws, in milliseconds, and the extremes.
    fn quantiles(latency: Latency) -> [f64; 5] {
        let mut drawn: Vec<f64> = (0..100_000)
            .map(|point| latency.draw(point).as_secs_f64() * 1_000.0)
            .collect();
        drawn.sort_unstable_by(f64::total_cmp);
        [0, 1_000, 50_000, 99_000, 99_999].map(|at| drawn[at])
    }

    fn near(value: f64, expected: f64) -> bool {
        (value - expected).abs() <= expected * 0.05
    }

    #[test]
    fn half_of_the_answers_are_below_the_median_and_one_in_a_hundred_above_p99() {
        let [_, low, median, p99, _] = quantiles(Latency::LogNormal { median: 40, p99: 400 });
        assert!(
            near(median, 40.0) && near(p99, 400.0) && near(low, 4.0),
            "{low} {median} {p99}"
        );
        let [_, low, median, p99, _] = quantiles(Latency::Normal { median: 100, p99: 150 });
        assert!(
            near(median, 100.0) && near(p99, 150.0) && near(low, 50.0),
            "{low} {median} {p99}"
        );
    }

    #[test]
    fn a_uniform_latency_fills_its_range_and_does_not_leave_it() {
        let [first, low, median, high, last] = quantiles(Latency::Uniform { min: 10, max: 110 });
        assert!(
            near(low, 11.0) && near(median, 60.0) && near(high, 109.0),
            "{low} {median} {high}"
        );
        assert!(first >= 10.0 && last <= 110.0, "{first} {last}");
    }

    #[test]
    fn a_normal_latency_is_never_negative_and_a_wild_tail_ends_at_ten_minutes() {
        let [first, ..] = quantiles(Latency::Normal { median: 1, p99: 1_000 });
        assert!(first.abs() < f64::EPSILON, "{first}");
        let [.., last] = quantiles(Latency::LogNormal {
            median: 1,
            p99: 600_000,
        });
        assert!((last - 600_000.0).abs() < 1.0, "{last}");
    }

    #[test]
    fn numbers_that_contradict_each_other_are_refused() {
        for wrong in [
            Latency::Uniform { min: 2, max: 1 },
            Latency::Normal { median: 2, p99: 1 },
            Latency::LogNormal { median: 0, p99: 1 },
            Latency::Fixed(600_001),
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
        Latency::Uniform { min: 0, max: 0 }.check().unwrap();
        Latency::LogNormal { median: 5, p99: 5 }.check().unwrap();
    }
}
