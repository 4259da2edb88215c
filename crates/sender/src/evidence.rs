//! When do failures say something of the provider, and not of the targets? Pure.
//!
//! - 20 different targets with the same credential answer, or one refused token exchange: the app's credentials are wrong.
//! - 50 transient outcomes over different targets: an outage.
//!
//! An acceptance clears both. Three things are no evidence of an outage, or single bad tokens at the end of a broadcast, when nothing else is left to be accepted,
//! would look like one: what failed while others were accepted since its try began; a target that once failed so (a **suspect**); and of the
//! requests that were lost with one connection all but one.

use std::collections::HashSet;

use bugle_model::{HoldReason, Outcome};

/// So many different targets prove wrong credentials.
const CREDENTIAL_TARGETS: usize = 20;
/// So many different targets prove an outage.
const OUTAGE_TARGETS: usize = 50;

/// What speaks against a route, since its last acceptance.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    credential: Option<(&'static str, HashSet<u64>)>,
    transient: HashSet<u64>,
    connections: HashSet<u64>,
}

/// One failure.
pub(crate) struct Failure<'a> {
    /// What came.
    pub(crate) outcome: &'a Outcome,
    /// Identifies the target: a hash of its token.
    pub(crate) target: u64,
    /// It failed while others were accepted, now or earlier.
    pub(crate) suspect: bool,
}

impl Evidence {
    /// Weighs a failure. `Some` = it is enough; the evidence is used up.
    pub(crate) fn weigh(&mut self, failure: &Failure<'_>) -> Option<HoldReason> {
        let proved = match failure.outcome {
            Outcome::Credential {
                exchange_refused: true, ..
            } => Some(HoldReason::Credential),
            Outcome::Credential { reason, .. } => self.credential(reason, failure.target),
            Outcome::Transient { connection, .. } if !failure.suspect => self.transient(failure.target, *connection),
            _ => None,
        };
        if proved.is_some() {
            self.clear();
        }
        proved
    }

    fn credential(&mut self, reason: &'static str, target: u64) -> Option<HoldReason> {
        let (_, targets) = match &mut self.credential {
            Some(same) if same.0 == reason => same,
            other => other.insert((reason, HashSet::new())),
        };
        targets.insert(target);
        (targets.len() >= CREDENTIAL_TARGETS).then_some(HoldReason::Credential)
    }

    fn transient(&mut self, target: u64, connection: Option<u64>) -> Option<HoldReason> {
        if connection.is_some_and(|number| !self.connections.insert(number)) {
            return None;
        }
        self.transient.insert(target);
        (self.transient.len() >= OUTAGE_TARGETS).then_some(HoldReason::Outage)
    }

    /// Something was accepted, or a hold began or ended.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Is there nothing to clear?
    pub(crate) fn is_empty(&self) -> bool {
        self.credential.is_none() && self.transient.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: &'static str) -> Outcome {
        Outcome::Credential {
            reason,
            exchange_refused: false,
        }
    }

    fn down(connection: Option<u64>) -> Outcome {
        Outcome::Transient {
            reason: "UNAVAILABLE",
            after: None,
            connection,
        }
    }

    fn weigh(evidence: &mut Evidence, outcome: &Outcome, target: u64, suspect: bool) -> Option<HoldReason> {
        evidence.weigh(&Failure {
            outcome,
            target,
            suspect,
        })
    }

    #[test]
    fn twenty_different_targets_prove_wrong_credentials_one_target_never_does() {
        let mut evidence = Evidence::default();
        for _ in 0..1_000 {
            assert_eq!(weigh(&mut evidence, &refused("UNAUTHENTICATED"), 1, false), None);
        }
        for target in 2..20 {
            assert_eq!(weigh(&mut evidence, &refused("UNAUTHENTICATED"), target, false), None);
        }
        assert_eq!(
            weigh(&mut evidence, &refused("UNAUTHENTICATED"), 20, false),
            Some(HoldReason::Credential)
        );
        assert!(evidence.is_empty());
    }

    #[test]
    fn different_answers_and_acceptances_start_anew() {
        let mut evidence = Evidence::default();
        for target in 0..19 {
            assert_eq!(weigh(&mut evidence, &refused("UNAUTHENTICATED"), target, false), None);
        }
        assert_eq!(weigh(&mut evidence, &refused("PERMISSION_DENIED"), 19, false), None);
        for target in 20..38 {
            assert_eq!(weigh(&mut evidence, &refused("PERMISSION_DENIED"), target, false), None);
        }
        evidence.clear();
        assert_eq!(weigh(&mut evidence, &refused("PERMISSION_DENIED"), 38, false), None);
    }

    #[test]
    fn a_refused_exchange_is_enough() {
        let outcome = Outcome::Credential {
            reason: "invalid_grant",
            exchange_refused: true,
        };
        assert_eq!(
            weigh(&mut Evidence::default(), &outcome, 1, false),
            Some(HoldReason::Credential)
        );
    }

    #[test]
    fn fifty_different_targets_prove_an_outage_suspects_never_do() {
        let mut evidence = Evidence::default();
        for target in 0..1_000 {
            assert_eq!(weigh(&mut evidence, &down(None), target, true), None);
        }
        for target in 0..49 {
            assert_eq!(weigh(&mut evidence, &down(None), target, false), None);
            assert_eq!(weigh(&mut evidence, &down(None), target, false), None);
        }
        assert_eq!(weigh(&mut evidence, &down(None), 49, false), Some(HoldReason::Outage));
    }

    #[test]
    fn a_lost_connection_is_one_piece_of_evidence() {
        let mut evidence = Evidence::default();
        for target in 0..400 {
            assert_eq!(weigh(&mut evidence, &down(Some(target / 100)), target, false), None);
        }
        for connection in 4..49 {
            assert_eq!(
                weigh(&mut evidence, &down(Some(connection)), 1_000 + connection, false),
                None
            );
        }
        assert_eq!(
            weigh(&mut evidence, &down(Some(49)), 2_000, false),
            Some(HoldReason::Outage)
        );
    }
}
