//! What became of every token: the independent account that tests compare bugle's own with.
//!
//! A table in 64 shards, each behind its own mutex that is held for one look-up. An entry is never moved or removed
//! (except by [`Tally::reset`], which starts a new epoch), so a [`Ticket`] is its place and a page's cursor too.
//! Sums over tokens (classes, repeats) are kept up to date with each settled request; nothing walks the table for them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::choice::scramble;
use crate::fault::Outcome;

const SHARDS: usize = 64;

/// What became of one token's requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    /// The token; `topic:NAME` or `condition:TEXT` for a message that went to one of those.
    pub token: String,
    /// The newest definitive outcome; the newest of all where none was definitive; none while all are open.
    pub class: Option<Outcome>,
    /// How many requests had each outcome.
    #[serde(flatten)]
    pub counts: BTreeMap<Outcome, u32>,
}

impl TokenCounts {
    /// How many requests had this outcome.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u32 {
        self.counts.get(&outcome).copied().unwrap_or(0)
    }
}

/// Some tokens, in no particular but a stable order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenPage {
    /// At most as many as were asked for.
    pub tokens: Vec<TokenCounts>,
    /// What to ask for as `after` for the next page; none after the last.
    pub next: Option<String>,
}

/// The sums over all tokens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sums {
    pub(crate) tokens: u64,
    pub(crate) classes: [u64; Outcome::COUNT],
    pub(crate) repeats: u64,
    pub(crate) requests_repeated: u64,
}

/// The place of a token in the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    shard: usize,
    place: usize,
    epoch: u32,
}

pub(crate) struct Tally {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    epoch: u32,
    places: HashMap<Arc<str>, usize>,
    entries: Vec<Entry>,
    sums: Sums,
}

struct Entry {
    token: Arc<str>,
    /// Requests that came as far as the question what to do with this token.
    seen: u32,
    accepted: u32,
    definitive: Option<Outcome>,
    newest: Option<Outcome>,
    /// Counts of everything but `accepted`; most tokens never need them.
    others: Option<Box<[u32; Outcome::COUNT]>>,
}

impl Entry {
    fn class(&self) -> Option<Outcome> {
        self.definitive.or(self.newest)
    }

    fn counts(&self) -> TokenCounts {
        let mut counts = BTreeMap::new();
        if self.accepted > 0 {
            counts.insert(Outcome::Accepted, self.accepted);
        }
        for (outcome, count) in Outcome::ALL
            .into_iter()
            .zip(self.others.iter().flat_map(|others| others.iter()))
        {
            if *count > 0 {
                counts.insert(outcome, *count);
            }
        }
        TokenCounts {
            token: self.token.as_ref().to_owned(),
            class: self.class(),
            counts,
        }
    }
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    fn shard(&self, shard: usize) -> MutexGuard<'_, Shard> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds or makes the entry of a token with this hash. The number says how often it was seen before, and is only
    /// moved on where `seen` is set.
    pub(crate) fn begin(&self, token: &str, hash: u64, seen: bool) -> (Ticket, u32) {
        let at = shard_of(hash);
        let mut shard = self.shard(at);
        let place = if let Some(place) = shard.places.get(token) {
            *place
        } else {
            let place = shard.entries.len();
            let token: Arc<str> = Arc::from(token);
            shard.places.insert(Arc::clone(&token), place);
            shard.entries.push(Entry {
                token,
                seen: 0,
                accepted: 0,
                definitive: None,
                newest: None,
                others: None,
            });
            shard.sums.tokens += 1;
            place
        };
        let before = shard.entries[place].seen;
        shard.entries[place].seen += u32::from(seen);
        (
            Ticket {
                shard: at,
                place,
                epoch: shard.epoch,
            },
            before,
        )
    }

    /// Counts what became of a request.
    pub(crate) fn settle(&self, ticket: Ticket, outcome: Outcome) {
        let mut shard = self.shard(ticket.shard);
        // A ticket from before a reset counts for nothing: its place may belong to another token by now.
        if shard.epoch != ticket.epoch {
            return;
        }
        let Shard { entries, sums, .. } = &mut *shard;
        let entry = &mut entries[ticket.place];
        if let Some(class) = entry.class() {
            sums.classes[class.index()] -= 1;
        }
        if outcome == Outcome::Accepted {
            sums.repeats += u64::from(entry.accepted > 0);
            entry.accepted += 1;
        } else {
            entry.others.get_or_insert_default()[outcome.index()] += 1;
        }
        if outcome.is_definitive() {
            sums.requests_repeated += u64::from(entry.definitive.is_some());
            entry.definitive = Some(outcome);
        }
        entry.newest = Some(outcome);
        sums.classes[entry.definitive.unwrap_or(outcome).index()] += 1;
    }

    pub(crate) fn sums(&self) -> Sums {
        let mut total = Sums::default();
        for at in 0..SHARDS {
            let shard = self.shard(at);
            total.tokens += shard.sums.tokens;
            total.repeats += shard.sums.repeats;
            total.requests_repeated += shard.sums.requests_repeated;
            for (sum, class) in total.classes.iter_mut().zip(shard.sums.classes) {
                *sum += class;
            }
        }
        total
    }

    pub(crate) fn token(&self, token: &str, hash: u64) -> Option<TokenCounts> {
        let shard = self.shard(shard_of(hash));
        let place = *shard.places.get(token)?;
        Some(shard.entries[place].counts())
    }

    /// Up to `limit` tokens behind the cursor, of this class or of all. `None`: the cursor is none of ours.
    pub(crate) fn page(&self, class: Option<Outcome>, after: Option<&str>, limit: usize) -> Option<TokenPage> {
        let (first, mut from) = match after {
            None => (0, 0),
            Some(cursor) => {
                let (shard, place) = cursor.split_once('.')?;
                (shard.parse().ok()?, place.parse().ok()?)
            }
        };
        let mut tokens = Vec::new();
        for at in first..SHARDS {
            let shard = self.shard(at);
            for (place, entry) in shard.entries.iter().enumerate().skip(from) {
                if class.is_some() && entry.class() != class {
                    continue;
                }
                if tokens.len() == limit {
                    return Some(TokenPage {
                        tokens,
                        next: Some(format!("{at}.{place}")),
                    });
                }
                tokens.push(entry.counts());
            }
            from = 0;
        }
        Some(TokenPage { tokens, next: None })
    }

    /// Forgets every token.
    pub(crate) fn reset(&self) {
        for at in 0..SHARDS {
            let mut shard = self.shard(at);
            let epoch = shard.epoch.wrapping_add(1);
            *shard = Shard {
                epoch,
                ..Shard::default()
            };
        }
    }
}

fn shard_of(hash: u64) -> usize {
    let shards = u64::try_from(SHARDS).unwrap_or(1);
    usize::try_from(scramble(hash) % shards).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::choice::token_hash;

    fn send(tally: &Tally, token: &str, outcome: Outcome) {
        let (ticket, _) = tally.begin(token, token_hash(token), true);
        tally.settle(ticket, outcome);
    }

    #[test]
    fn a_token_has_the_class_of_its_newest_definitive_outcome() {
        let tally = Tally::new();
        send(&tally, "a", Outcome::Unavailable);
        assert_eq!(
            tally.token("a", token_hash("a")).unwrap().class,
            Some(Outcome::Unavailable)
        );
        send(&tally, "a", Outcome::Accepted);
        send(&tally, "a", Outcome::Cut);
        let counts = tally.token("a", token_hash("a")).unwrap();
        assert_eq!(counts.class, Some(Outcome::Accepted));
        assert_eq!((counts.count(Outcome::Accepted), counts.count(Outcome::Cut)), (1, 1));
        let sums = tally.sums();
        assert_eq!((sums.tokens, sums.classes.iter().sum::<u64>()), (1, 1));
        assert_eq!(sums.classes[Outcome::Accepted.index()], 1);
    }

    #[test]
    fn repeats_are_what_was_accepted_beyond_the_first() {
        let tally = Tally::new();
        for _ in 0..3 {
            send(&tally, "a", Outcome::Accepted);
            send(&tally, "b", Outcome::Payload);
        }
        send(&tally, "c", Outcome::Accepted);
        let sums = tally.sums();
        assert_eq!((sums.repeats, sums.requests_repeated), (2, 4));
    }

    #[test]
    fn pages_hold_every_token_once() {
        let tally = Tally::new();
        for n in 0..1_000 {
            send(
                &tally,
                &format!("t{n}"),
                if n % 10 == 0 {
                    Outcome::Payload
                } else {
                    Outcome::Accepted
                },
            );
        }
        let mut seen = BTreeSet::new();
        let mut after = None;
        loop {
            let page = tally.page(Some(Outcome::Accepted), after.as_deref(), 97).unwrap();
            for token in page.tokens {
                assert!(seen.insert(token.token));
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), 900);
        assert!(tally.page(None, Some("x"), 1).is_none());
        assert_eq!(tally.page(None, Some("64.0"), 1).unwrap().tokens.len(), 0);
    }

    #[test]
    fn what_began_before_a_reset_is_not_counted_after_it() {
        let tally = Tally::new();
        let (ticket, _) = tally.begin("a", token_hash("a"), true);
        tally.reset();
        assert_eq!(tally.begin("a", token_hash("a"), true).1, 0);
        tally.settle(ticket, Outcome::Accepted);
        assert_eq!(tally.token("a", token_hash("a")).unwrap().counts.len(), 0);
    }
}
