//! A provider's message quota as people write it in a configuration.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Messages a minute: a whole number, 0 = no limit, or `auto` = what is known of the provider's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PerMinute {
    /// As the address suggests: the provider's own quota at the provider's own address, no limit anywhere else (a simulator, a proxy for tests).
    #[default]
    Auto,
    /// So many. 0 = no limit.
    Of(u32),
}

impl PerMinute {
    /// The number, given what `auto` stands for. 0 = no limit.
    #[must_use]
    pub fn or(self, auto: u32) -> u32 {
        match self {
            Self::Auto => auto,
            Self::Of(messages) => messages,
        }
    }
}

impl fmt::Display for PerMinute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Of(messages) => messages.fmt(f),
        }
    }
}

impl Serialize for PerMinute {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Of(messages) => serializer.serialize_u32(*messages),
        }
    }
}

impl<'de> Deserialize<'de> for PerMinute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Words)
    }
}

struct Words;

impl Visitor<'_> for Words {
    type Value = PerMinute;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("auto or a whole number of messages a minute, 0 = no limit")
    }

    fn visit_u64<E: Error>(self, messages: u64) -> Result<PerMinute, E> {
        let fits = u32::try_from(messages).ok();
        fits.map(PerMinute::Of)
            .ok_or_else(|| E::custom(format!("expected at most {}, got {messages}", u32::MAX)))
    }

    fn visit_i64<E: Error>(self, messages: i64) -> Result<PerMinute, E> {
        let messages = u64::try_from(messages).map_err(|_| E::custom(format!("expected 0 or more, got {messages}")))?;
        self.visit_u64(messages)
    }

    /// The environment knows texts only.
    fn visit_str<E: Error>(self, text: &str) -> Result<PerMinute, E> {
        if text == "auto" {
            return Ok(PerMinute::Auto);
        }
        let number = text
            .parse()
            .map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))?;
        self.visit_u64(number)
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IntoDeserializer;
    use serde::de::value::Error;

    use super::*;

    fn read<'de>(written: impl IntoDeserializer<'de, Error>) -> Result<PerMinute, String> {
        PerMinute::deserialize(written.into_deserializer()).map_err(|error| error.to_string())
    }

    #[test]
    fn it_is_a_number_or_auto() {
        assert_eq!(read("auto"), Ok(PerMinute::Auto));
        assert_eq!(read(0_u64), Ok(PerMinute::Of(0)));
        assert_eq!(read(600_000_i64), Ok(PerMinute::Of(600_000)));
        assert_eq!(read("600000"), Ok(PerMinute::Of(600_000)), "as the environment has it");
        assert_eq!((PerMinute::Auto.or(7), PerMinute::Of(0).or(7)), (7, 0));
        assert_eq!(format!("{} {}", PerMinute::Auto, PerMinute::Of(60)), "auto 60");
    }

    #[test]
    fn anything_else_is_refused_in_words() {
        for problem in [
            read(-1_i64),
            read("fast"),
            read(5_000_000_000_u64),
            read(1.5),
            read(true),
        ] {
            let problem = problem.unwrap_err();
            assert!(problem.contains("expected"), "{problem}");
        }
    }
}
