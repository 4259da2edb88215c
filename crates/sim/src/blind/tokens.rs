//! Distinct tokens by their hashes: how many there were, not which.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Mutex, PoisonError};

use memchr::memmem::FinderRev;

const SHARDS: usize = 16;

/// The tokens that a blind sink has seen, 8 bytes and some for each. Two tokens are taken for one with a probability
/// of `n² / 2⁶⁵`: one in a million among six million.
pub(crate) struct Tokens {
    key: FinderRev<'static>,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    seen: HashSet<u64>,
    repeats: u64,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        Self {
            key: FinderRev::new(br#""token":""#),
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Counts the token of a body. The last one: whoever writes a payload first may have a key of that name in it.
    /// Whether there was one.
    pub(crate) fn see(&self, body: &[u8]) -> bool {
        let Some(token) = self.key.rfind(body).map(|at| &body[at + self.key.needle().len()..]) else {
            return false;
        };
        let token = &token[..memchr::memchr(b'"', token).unwrap_or(token.len())];
        let hash = self.hasher.hash_one(token);
        let shard = usize::try_from(hash >> 60).unwrap_or(0) % SHARDS;
        let mut shard = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        if !shard.seen.insert(hash) {
            shard.repeats += 1;
        }
        true
    }

    /// How many there were, and how many times one came again.
    pub(crate) fn sums(&self) -> (u64, u64) {
        self.shards.iter().fold((0, 0), |(distinct, repeats), shard| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let seen = u64::try_from(shard.seen.len()).unwrap_or(u64::MAX);
            (distinct + seen, repeats + shard.repeats)
        })
    }

    pub(crate) fn reset(&self) {
        for shard in &self.shards {
            *shard.lock().unwrap_or_else(PoisonError::into_inner) = Shard::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_tokens_and_repeats_are_counted_and_a_body_without_one_is_not() {
        let tokens = Tokens::new();
        for n in 0..5_000 {
            assert!(tokens.see(format!(r#"{{"message":{{"data":{{"token":"x"}},"token":"t{n}"}}}}"#).as_bytes()));
        }
        assert!(tokens.see(br#"{"message":{"token":"t7","data":{}}}"#));
        assert!(!tokens.see(br#"{"message":{"topic":"news"}}"#));
        assert_eq!(tokens.sums(), (5_000, 1));
        tokens.reset();
        assert_eq!(tokens.sums(), (0, 0));
    }
}
