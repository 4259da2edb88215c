//! From text that came from outside to model types, naming the field that does not fit.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;

use bugle_model::{Channel, Invalid, Paging, Platform, Provider};

use crate::{Error, Limits, Result};

/// The longest text of a filter, in bytes: as long as the longest token.
const MAX_FILTER_BYTES: usize = 4_096;

/// A list of texts and the name of the field that it came in. Absent and empty are the same.
#[derive(Debug, Clone, Default)]
pub struct Words {
    field: &'static str,
    values: Vec<String>,
}

impl Words {
    /// The values of a field.
    #[must_use]
    pub fn new(field: &'static str, values: Option<Vec<String>>) -> Self {
        Self {
            field,
            values: values.unwrap_or_default(),
        }
    }

    /// Whichever is given, where two fields mean the same. Both given is an error: which one counts would be a guess.
    pub fn either(one: Self, other: Self) -> Result<Self> {
        match (one.is_empty(), other.is_empty()) {
            (false, false) => Err(Error::invalid(
                other.field,
                format!("cannot be combined with {}, which means the same", one.field),
            )),
            (false, true) => Ok(one),
            (true, _) => Ok(other),
        }
    }

    /// Is nothing given?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Each value parsed, duplicates dropped, in order; at most `max`, duplicates included.
    pub(crate) fn parse<T: Eq + Hash + Clone>(
        self,
        max: usize,
        parse: impl Fn(String) -> std::result::Result<T, Invalid>,
    ) -> Result<Vec<T>> {
        if self.values.len() > max {
            let problem = format!("at most {max} values, got {}", self.values.len());
            return Err(Error::invalid(self.field, problem));
        }
        let mut seen = HashSet::with_capacity(self.values.len());
        let mut parsed = Vec::with_capacity(self.values.len());
        for (at, value) in self.values.into_iter().enumerate() {
            let value = parse(value).map_err(|invalid| Error::at(format!("{}[{at}]", self.field))(invalid))?;
            if seen.insert(value.clone()) {
                parsed.push(value);
            }
        }
        Ok(parsed)
    }

    /// The values as they are, for comparing with what is stored.
    pub(crate) fn texts(self, limits: &Limits) -> Result<Vec<String>> {
        self.parse(limits.filter_values, |value| {
            comparable(&value)?;
            Ok(value)
        })
    }

    /// The values as platforms.
    pub(crate) fn platforms(self, limits: &Limits) -> Result<Vec<Platform>> {
        self.parse(limits.filter_values, |value| {
            platform(&value).map(|(platform, _)| platform)
        })
    }

    /// The values as providers.
    pub(crate) fn providers(self, limits: &Limits) -> Result<Vec<Provider>> {
        self.parse(limits.filter_values, |value| provider(&value))
    }
}

/// Channels of a registration or a change of subscriptions.
pub(crate) fn channels(field: &'static str, names: Vec<String>, limits: &Limits) -> Result<Vec<Channel>> {
    Words::new(field, Some(names)).parse(limits.channels, Channel::parse)
}

/// A platform and the word that it was given by.
pub(crate) fn platform(word: &str) -> std::result::Result<(Platform, &'static str), Invalid> {
    const WORDS: [&str; 4] = ["apns", "ios", "android", "web"];
    let known = WORDS.into_iter().find(|known| *known == word);
    known
        .and_then(|known| Some((Platform::parse(known)?, known)))
        .ok_or_else(|| Invalid::new(format!("expected one of {}, got {}", WORDS.join(", "), quoted(word))))
}

/// A provider.
pub(crate) fn provider(word: &str) -> std::result::Result<Provider, Invalid> {
    Provider::parse(word).ok_or_else(|| {
        let known = Provider::ALL.map(Provider::as_str).join(", ");
        Invalid::new(format!("expected one of {known}, got {}", quoted(word)))
    })
}

/// A user's name: any text without control characters, within the limit; may be empty.
pub(crate) fn user(name: String, limits: &Limits) -> Result<String> {
    if name.len() > limits.user_bytes {
        let problem = format!("at most {} bytes, got {}", limits.user_bytes, name.len());
        return Err(Error::invalid("user", problem));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::invalid("user", "must not contain control characters"));
    }
    Ok(name)
}

/// A device's meta.
pub(crate) fn meta(meta: BTreeMap<String, String>, limits: &Limits) -> Result<BTreeMap<String, String>> {
    let invalid = |problem: String| Err(Error::invalid("meta", problem));
    if meta.len() > limits.meta_pairs {
        return invalid(format!("at most {} pairs, got {}", limits.meta_pairs, meta.len()));
    }
    let bytes: usize = meta.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > limits.meta_bytes {
        return invalid(format!(
            "at most {} bytes of keys and values, got {bytes}",
            limits.meta_bytes
        ));
    }
    if meta
        .keys()
        .any(|key| key.is_empty() || key.chars().any(char::is_control))
    {
        return invalid("keys must not be empty and must not contain control characters".to_owned());
    }
    if meta.values().any(|value| value.contains('\0')) {
        return invalid("values must not contain NUL".to_owned());
    }
    Ok(meta)
}

/// Where a list goes on, and how far. `limit` 0 = 100, more than 1 000 = 1 000.
pub(crate) fn paging(since: String, cursor: String, limit: i64, count_total: bool) -> Result<Paging> {
    if !since.is_empty() && !cursor.is_empty() && since != cursor {
        return Err(Error::invalid("cursor", "cannot be combined with another since"));
    }
    let (field, after) = if since.is_empty() {
        ("cursor", cursor)
    } else {
        ("since", since)
    };
    comparable(&after).map_err(Error::at(field))?;
    let limit = match limit {
        ..0 => return Err(Error::invalid("limit", format!("must not be negative, got {limit}"))),
        0 => 100,
        _ => u32::try_from(limit).unwrap_or(u32::MAX).min(1_000),
    };
    Ok(Paging {
        after: Some(after).filter(|after| !after.is_empty()),
        limit,
        count_total,
    })
}

/// Can the text be compared with what is stored? No database takes NUL in a text.
fn comparable(text: &str) -> std::result::Result<(), Invalid> {
    if text.len() > MAX_FILTER_BYTES {
        return Err(Invalid::new(format!(
            "at most {MAX_FILTER_BYTES} bytes, got {}",
            text.len()
        )));
    }
    if text.contains('\0') {
        return Err(Invalid::new("must not contain NUL"));
    }
    Ok(())
}

/// The beginning of a word, escaped, to be shown to whoever sent it.
pub(crate) fn quoted(word: &str) -> String {
    let shown: String = word.chars().take(32).collect();
    let dots = if shown.len() < word.len() { "…" } else { "" };
    format!("{shown:?}{dots}")
}
