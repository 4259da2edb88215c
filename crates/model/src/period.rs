//! Lengths of time as people write them in a configuration.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Invalid;

/// A length of time, written as a whole number and a unit: `30ms`, `15s`, `5m`, `24h`, `14d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(Duration);

const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl Period {
    /// So many milliseconds.
    #[must_use]
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }

    /// So many seconds.
    #[must_use]
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// As the standard library has it.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Checks that it is in a range; the error names the key.
    pub fn within(self, key: &str, low: Self, high: Self) -> Result<(), String> {
        if (low..=high).contains(&self) {
            return Ok(());
        }
        Err(format!("{key}: expected {low} to {high}, got {self}"))
    }
}

impl FromStr for Period {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let expected = || Invalid::new("expected a whole number and a unit of ms, s, m, h or d, like 15s");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let (_, factor) = UNITS
            .into_iter()
            .find(|(name, _)| *name == unit.trim())
            .ok_or_else(expected)?;
        let number: u64 = number.parse().map_err(|_| expected())?;
        number.checked_mul(factor).map(Self::millis).ok_or_else(expected)
    }
}

impl fmt::Display for Period {
    /// In the largest unit that gives a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let fits = |(_, factor): &&(&str, u64)| millis.is_multiple_of(*factor) && millis >= *factor;
        let (unit, factor) = UNITS.iter().find(fits).unwrap_or(&("s", 1));
        write!(f, "{}{unit}", millis / factor)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|problem| serde::de::Error::custom(format!("{problem}, got {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_read_and_others_refused() {
        let millis = |text: &str| text.parse::<Period>().map(|p| p.get().as_millis());
        assert_eq!(millis("30ms"), Ok(30));
        assert_eq!(millis("15s"), Ok(15_000));
        assert_eq!(millis("24h"), Ok(86_400_000));
        assert_eq!(millis("0s"), Ok(0));
        for wrong in [
            "",
            "15",
            "s",
            "1.5s",
            "-1s",
            "1w",
            "99999999999999999999s",
            "300000000000d",
            "s15",
        ] {
            assert!(millis(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn it_is_shown_in_the_largest_whole_unit() {
        let shown = |millis| Period::millis(millis).to_string();
        assert_eq!(
            [shown(0), shown(1_500), shown(90_000), shown(86_400_000)],
            ["0s", "1500ms", "90s", "1d"]
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(millis in 0u64..10_000_000_000) {
            let period = Period::millis(millis);
            prop_assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
        }
    }
}
