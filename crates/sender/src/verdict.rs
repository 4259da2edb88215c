//! What follows from an outcome for its target. Pure.

use std::time::Duration;

use bugle_model::{LeftOver, MAX_WAIT, Outcome, Target, Timestamp};

use crate::{Config, backoff};

/// How a target ends, or that it does not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Accepted by the provider.
    Sent,
    /// Refused for good, or given up.
    Failed,
    /// Its token is dead.
    Dead(&'static str),
    /// It must be tried again.
    Again(LeftOver),
}

/// What the verdict depends on beside the outcome.
pub(crate) struct Circumstances {
    /// The time of day.
    pub(crate) now: Timestamp,
    /// The push's expiry.
    pub(crate) expires_at: Timestamp,
    /// The time on the route's own clock, in milliseconds.
    pub(crate) route_clock: i64,
    /// When this try began, on the route's clock.
    pub(crate) started: i64,
    /// The route is on hold: tries are not counted.
    pub(crate) held: bool,
    /// The provider accepted something since this try began.
    pub(crate) others_accepted: bool,
    /// Random, 0 to 1.
    pub(crate) dice: f64,
}

/// Decides.
pub(crate) fn judge(config: &Config, target: &Target, outcome: &Outcome, at: &Circumstances) -> Ending {
    match outcome {
        Outcome::Accepted => Ending::Sent,
        Outcome::Device { reason } => Ending::Dead(reason),
        Outcome::Payload { .. } | Outcome::Mismatch { .. } => Ending::Failed,
        Outcome::Unprocessed => Ending::Again(left_over(target, at, Duration::ZERO, 0)),
        Outcome::Credential { .. } => Ending::Again(left_over(target, at, first_pause(config, at), 0)),
        Outcome::Throttle { after, .. } => {
            if given_up(config, target, at) {
                return Ending::Failed;
            }
            Ending::Again(left_over(target, at, *after, 0))
        }
        Outcome::Transient { after, .. } => transient(config, target, *after, at),
    }
}

fn transient(config: &Config, target: &Target, after: Option<Duration>, at: &Circumstances) -> Ending {
    let counted = u8::from(!at.held);
    let attempts = target.attempts.saturating_add(counted);
    if attempts >= config.max_attempts || given_up(config, target, at) {
        return Ending::Failed;
    }
    let (first, longest) = (config.backoff.get(), config.backoff_max.get());
    let pause = after
        .unwrap_or_default()
        .max(backoff::pause(first, longest, attempts.max(1), at.dice));
    if at.now.plus(pause) >= at.expires_at && !at.held {
        return Ending::Failed;
    }
    Ending::Again(left_over(target, at, pause, counted))
}

fn first_pause(config: &Config, at: &Circumstances) -> Duration {
    backoff::pause(config.backoff.get(), config.backoff_max.get(), 1, at.dice)
}

fn given_up(config: &Config, target: &Target, at: &Circumstances) -> bool {
    let give_up = i64::try_from(config.give_up.get().as_millis()).unwrap_or(i64::MAX);
    target.first_try > 0 && at.route_clock.saturating_sub(target.first_try) >= give_up
}

/// The target to be tried again after a pause, but not after the push's expiry: then the sweep ends it as expired.
fn left_over(target: &Target, at: &Circumstances, pause: Duration, counted: u8) -> LeftOver {
    LeftOver {
        position: target.position,
        route: target.route,
        due: at.now.plus(pause.min(MAX_WAIT)).min(at.expires_at),
        attempts: target.attempts.saturating_add(counted),
        first_try: if target.first_try > 0 {
            target.first_try
        } else {
            at.started.max(1)
        },
        suspect: target.suspect || at.others_accepted,
    }
}

#[cfg(test)]
mod tests {
    use bugle_model::{Platform, Provider, Route, TargetKind, Token};

    use super::*;

    const NOW: i64 = 1_000_000_000;

    fn target(attempts: u8, first_try: i64) -> Target {
        Target {
            position: 7,
            route: Route::of(Provider::Fcm, Platform::Android),
            kind: TargetKind::Token(Token::parse("t").unwrap()),
            device: None,
            attempts,
            first_try,
            suspect: false,
        }
    }

    fn at() -> Circumstances {
        Circumstances {
            now: Timestamp(NOW),
            expires_at: Timestamp(NOW + 86_400_000),
            route_clock: NOW,
            started: NOW - 5,
            held: false,
            others_accepted: false,
            dice: 1.0,
        }
    }

    fn unavailable(after: Option<u64>) -> Outcome {
        Outcome::Transient {
            reason: "UNAVAILABLE",
            after: after.map(Duration::from_secs),
            connection: None,
        }
    }

    fn again(ending: Ending) -> LeftOver {
        match ending {
            Ending::Again(left_over) => left_over,
            other => panic!("expected another try, got {other:?}"),
        }
    }

    #[test]
    fn final_answers_end_a_target() {
        let judge = |outcome| judge(&Config::default(), &target(3, 5), &outcome, &at());
        assert_eq!(judge(Outcome::Accepted), Ending::Sent);
        assert_eq!(
            judge(Outcome::Device { reason: "UNREGISTERED" }),
            Ending::Dead("UNREGISTERED")
        );
        assert_eq!(
            judge(Outcome::Payload {
                reason: "INVALID_ARGUMENT"
            }),
            Ending::Failed
        );
        assert_eq!(
            judge(Outcome::Mismatch {
                reason: "SENDER_ID_MISMATCH"
            }),
            Ending::Failed
        );
    }

    #[test]
    fn a_transient_failure_counts_and_waits() {
        let left = again(judge(&Config::default(), &target(0, 0), &unavailable(None), &at()));
        assert_eq!((left.attempts, left.first_try, left.due.0), (1, NOW - 5, NOW + 10_000));
        let left = again(judge(
            &Config::default(),
            &target(2, 77_000_000_000.min(NOW)),
            &unavailable(Some(120)),
            &at(),
        ));
        assert_eq!((left.attempts, left.due.0), (3, NOW + 120_000), "Retry-After is obeyed");
    }

    #[test]
    fn tries_and_time_are_limited() {
        assert_eq!(
            judge(&Config::default(), &target(9, NOW), &unavailable(None), &at()),
            Ending::Failed
        );
        let hour_ago = NOW - 3_600_000;
        assert_eq!(
            judge(&Config::default(), &target(1, hour_ago), &unavailable(None), &at()),
            Ending::Failed
        );
        let throttled = Outcome::Throttle {
            after: Duration::from_secs(60),
            whole: false,
        };
        assert_eq!(
            judge(&Config::default(), &target(1, hour_ago), &throttled, &at()),
            Ending::Failed,
            "throttles included"
        );
        assert_eq!(
            again(judge(&Config::default(), &target(9, NOW), &throttled, &at())).attempts,
            9,
            "a throttle is no try"
        );
    }

    #[test]
    fn nothing_is_counted_on_hold() {
        let held = Circumstances { held: true, ..at() };
        assert_eq!(
            again(judge(&Config::default(), &target(9, NOW), &unavailable(None), &held)).attempts,
            9
        );
    }

    #[test]
    fn a_pause_beyond_the_expiry_fails_what_is_transient_and_keeps_what_is_throttled_until_then() {
        let soon = Circumstances {
            expires_at: Timestamp(NOW + 1_000),
            ..at()
        };
        assert_eq!(
            judge(&Config::default(), &target(0, 0), &unavailable(None), &soon),
            Ending::Failed
        );
        let throttled = Outcome::Throttle {
            after: Duration::from_secs(60),
            whole: true,
        };
        assert_eq!(
            again(judge(&Config::default(), &target(0, 0), &throttled, &soon)).due,
            Timestamp(NOW + 1_000)
        );
    }

    #[test]
    fn credentials_and_unprocessed_requests_cost_no_try() {
        let refused = Outcome::Credential {
            reason: "UNAUTHENTICATED",
            exchange_refused: false,
        };
        assert_eq!(
            again(judge(&Config::default(), &target(4, NOW), &refused, &at())).attempts,
            4
        );
        let left = again(judge(&Config::default(), &target(4, NOW), &Outcome::Unprocessed, &at()));
        assert_eq!((left.attempts, left.due), (4, Timestamp(NOW)));
    }

    #[test]
    fn who_fails_while_others_are_accepted_is_suspect_for_good() {
        let amid = Circumstances {
            others_accepted: true,
            ..at()
        };
        assert!(again(judge(&Config::default(), &target(0, 0), &unavailable(None), &amid)).suspect);
        let again_suspect = Target {
            suspect: true,
            ..target(1, NOW)
        };
        assert!(again(judge(&Config::default(), &again_suspect, &unavailable(None), &at())).suspect);
    }
}
