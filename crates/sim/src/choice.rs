//! Which tokens meet which fault: by their first word, else by the shares.

use crate::fault::Fault;
use crate::settings::Settings;

/// What to do to this token, which was asked for `seen` times before. `None` is: accept.
///
/// A prefix decides before the shares. The shares of definitive faults depend on (token, seed), so that it is the
/// token that is bad; those of transient ones on (token, seed, seen), so that another try can succeed.
pub(crate) fn fault_for(token: &str, hash: u64, seen: u32, settings: &Settings) -> Option<Fault> {
    if let Some((fault, digits)) = by_prefix(token) {
        let times = digits.or(match fault {
            Fault::Refused => Some(1),
            fault if fault.is_transient() => settings.faults_per_token,
            _ => None,
        });
        return times.is_none_or(|times| seen < times).then_some(fault);
    }
    if settings.shares.is_empty() {
        return None;
    }
    let base = hash ^ scramble(settings.seed);
    let definitive = pick(settings, false, scramble(base));
    let may_fail = settings.faults_per_token.is_none_or(|times| seen < times);
    definitive.or_else(|| {
        let again = base.wrapping_add(u64::from(seen).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        may_fail.then(|| pick(settings, true, scramble(again))).flatten()
    })
}

/// The fault that a token's first word names, with the number of times behind it: `unavailable2-x` is (503, 2).
fn by_prefix(token: &str) -> Option<(Fault, Option<u32>)> {
    let (first, _) = token.split_once('-')?;
    let word = first.trim_end_matches(|c: char| c.is_ascii_digit());
    let fault = Fault::ALL.into_iter().find(|fault| fault.name() == word)?;
    Some((fault, first[word.len()..].parse().ok()))
}

/// The fault into whose share the point falls.
fn pick(settings: &Settings, transient: bool, point: u64) -> Option<Fault> {
    let point = point % 1000;
    let mut edge = 0;
    settings
        .shares
        .iter()
        .filter(|(fault, _)| fault.is_transient() == transient)
        .find(|(_, share)| {
            edge += u64::from(**share);
            point < edge
        })
        .map(|(fault, _)| *fault)
}

/// FNV-1a of the token: the same on every machine and in every run, so that a seed names one set of bad tokens.
pub(crate) fn token_hash(token: &str) -> u64 {
    token.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The finaliser of splitmix64: spreads a difference of one bit over all of them.
pub(crate) fn scramble(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(token: &str, seen: u32, settings: &Settings) -> Option<Fault> {
        fault_for(token, token_hash(token), seen, settings)
    }

    #[test]
    fn a_prefix_needs_its_dash_and_takes_digits() {
        let settings = Settings::default();
        assert_eq!(decide("unavailable-x", 9, &settings), Some(Fault::Unavailable));
        assert_eq!(decide("unavailable2-x", 1, &settings), Some(Fault::Unavailable));
        assert_eq!(decide("unavailable2-x", 2, &settings), None);
        assert_eq!(decide("unavailablex", 0, &settings), None);
        assert_eq!(decide("unavailables-x", 0, &settings), None);
        assert_eq!(decide("dQw4:APA91b-unavailable-x", 0, &settings), None);
        assert_eq!(decide("refused-x", 0, &settings), Some(Fault::Refused));
        assert_eq!(decide("refused-x", 1, &settings), None);
        assert_eq!(decide("unregistered-x", 1000, &settings), Some(Fault::Unregistered));
    }

    #[test]
    fn faults_per_token_bounds_transient_faults_only() {
        let settings = Settings {
            faults_per_token: Some(1),
            ..Settings::default()
        };
        assert_eq!(decide("unavailable-x", 0, &settings), Some(Fault::Unavailable));
        assert_eq!(decide("unavailable-x", 1, &settings), None);
        assert_eq!(decide("unavailable3-x", 2, &settings), Some(Fault::Unavailable));
        assert_eq!(decide("mismatch-x", 5, &settings), Some(Fault::Mismatch));
    }

    #[test]
    fn shares_are_kept_and_a_definitive_fault_stays_with_its_token() {
        let shares = [
            (Fault::Unregistered, 10),
            (Fault::Payload, 20),
            (Fault::Unavailable, 100),
        ];
        let settings = Settings {
            shares: shares.into_iter().collect(),
            ..Settings::default()
        };
        let mut counts = std::collections::BTreeMap::new();
        for n in 0..100_000 {
            let token = format!("device-token-{n}");
            let first = decide(&token, 0, &settings);
            *counts.entry(first).or_insert(0u32) += 1;
            if first.is_some_and(|fault| !fault.is_transient()) {
                assert_eq!(decide(&token, 7, &settings), first);
            }
        }
        assert!((800..1200).contains(&counts[&Some(Fault::Unregistered)]), "{counts:?}");
        assert!((1700..2300).contains(&counts[&Some(Fault::Payload)]), "{counts:?}");
        assert!(
            (9000..10_500).contains(&counts[&Some(Fault::Unavailable)]),
            "{counts:?}"
        );
    }

    #[test]
    fn a_transient_share_lets_another_try_succeed_and_a_seed_chooses_other_tokens() {
        let settings = Settings {
            shares: [(Fault::Cut, 300)].into_iter().collect(),
            ..Settings::default()
        };
        let tokens: Vec<_> = (0..1000).map(|n| format!("t{n}")).collect();
        let hit = |seen, settings: &Settings| -> Vec<bool> {
            tokens
                .iter()
                .map(|token| decide(token, seen, settings).is_some())
                .collect()
        };
        let first = hit(0, &settings);
        let both = first.iter().zip(hit(1, &settings)).filter(|(a, b)| **a && *b).count();
        assert!((50..140).contains(&both), "{both}");
        assert_ne!(
            first,
            hit(
                0,
                &Settings {
                    seed: 1,
                    ..settings.clone()
                }
            )
        );
    }
}
