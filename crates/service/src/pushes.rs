//! Pushes: send, look at, call off.

use std::time::Duration;

use bugle_model::{
    Accepted, AppId, Channel, DeviceId, Lane, MAX_INLINE, NewPush, Provider, PushStatus, PushUid, Recipient, Timestamp,
    Token,
};
use bugle_provider::fcm::payload::{self, Addressee};
use serde_json::{Map, Value};

use crate::check::quoted;
use crate::{Error, Limits, PushConfig, Result, Service, Words, canonical, metrics};

/// Who is meant: exactly one kind. Empty is absent.
#[derive(Debug, Clone, Default)]
pub struct PushRecipient {
    /// Devices by id; those that do not exist count as skipped.
    pub device_ids: Vec<String>,
    /// Every device of at least one of these channels, once.
    pub channels: Vec<String>,
    /// Raw FCM tokens, registered or not.
    pub fcm_tokens: Vec<String>,
    /// A topic of FCM's own.
    pub fcm_topic: String,
}

/// What is sent, by provider.
#[derive(Debug, Clone, Default)]
pub struct Notification {
    /// FCM's message, typed or raw, as the API describes it.
    pub fcm: Option<Map<String, Value>>,
    /// Unix seconds; 0 = not set. With both set, the earlier counts.
    pub expire_at: i64,
}

/// A push that is asked for.
#[derive(Debug, Clone, Default)]
pub struct SendPush {
    /// Who is meant.
    pub recipient: PushRecipient,
    /// What is sent.
    pub notification: Notification,
    /// Chosen by the caller, so that asking twice sends once; empty = made here.
    pub uid: String,
    /// Unix seconds; 0 and the past = now.
    pub send_at: i64,
    /// Unix seconds; 0 = by `push.lifetime`.
    pub expire_at: i64,
    /// `urgent` or `bulk`; empty = few explicit targets are urgent, the rest is bulk.
    pub priority: String,
    /// Paths of fields that the API knows, that are set, and that this version cannot honour.
    pub unbuilt: Vec<&'static str>,
}

const TOPIC_BYTES: usize = 900;
const NO_PUSH: Error = Error::NotFound("push not found");

impl Service {
    /// Accepts a push and answers its uid. Once this has returned, no crash loses it.
    pub async fn send_push(&self, app: &AppId, asked: SendPush) -> Result<PushUid> {
        let push = self.checked_push(app, asked)?;
        let uid = push.uid.clone();
        let kind = kind(&push.recipient);
        match self.store.accept(push).await? {
            Accepted::New => ::metrics::counter!(metrics::PUSHES_ACCEPTED, "recipient" => kind).increment(1),
            Accepted::Repeated => ::metrics::counter!(metrics::PUSHES_REPEATED).increment(1),
            Accepted::Conflict => return Err(Error::Conflict("another push has this uid")),
        }
        Ok(uid)
    }

    fn checked_push(&self, app: &AppId, asked: SendPush) -> Result<NewPush> {
        if let Some(field) = asked.unbuilt.first() {
            return Err(Error::Unavailable(format!("{field} is not built yet")));
        }
        let recipient = asked.recipient.checked(&self.limits)?;
        if matches!(recipient, Recipient::Devices(_) | Recipient::Channels(_)) {
            self.needs_registry()?;
        }
        let fcm = asked.notification.fcm;
        let fcm = fcm.ok_or_else(|| Error::invalid("notification.fcm", "must be given"))?;
        let message =
            payload::build(&fcm, addressee(&recipient)).map_err(|wrong| Error::invalid(wrong.field, wrong.problem))?;
        let priority = priority(&asked.priority)?;
        let now = self.clock.now();
        let ends = [
            ("expire_at", asked.expire_at),
            ("notification.expire_at", asked.notification.expire_at),
        ];
        let (due, expires_at) = times(now, asked.send_at, ends, &self.push)?;
        let uid = match asked.uid {
            uid if uid.is_empty() => PushUid::generate(now),
            uid => PushUid::parse(uid).map_err(Error::at("uid"))?,
        };
        if !self.is_enabled(app, Provider::Fcm) {
            return Err(Error::Unavailable(
                "no credentials for the provider fcm are configured".to_owned(),
            ));
        }
        Ok(NewPush {
            app: app.clone(),
            uid,
            hash: canonical::hash(&recipient, &fcm, priority).map_err(|error| Error::Internal(Box::new(error)))?,
            lane: priority.unwrap_or_else(|| lane(&recipient)),
            recipient,
            body: body(&message),
            providers: vec![Provider::Fcm],
            created_at: now,
            due,
            expires_at,
        })
    }

    /// The account of a push.
    pub async fn push_status(&self, app: &AppId, uid: String) -> Result<PushStatus> {
        let uid = PushUid::parse(uid).map_err(Error::at("uid"))?;
        self.store.status(app, &uid).await?.ok_or(NO_PUSH)
    }

    /// Calls a push off: what has not left stops. One that has ended stays as it is.
    pub async fn cancel_push(&self, app: &AppId, uid: String) -> Result<()> {
        let uid = PushUid::parse(uid).map_err(Error::at("uid"))?;
        let known = self.store.cancel(app, &uid, self.clock.now()).await?;
        if known { Ok(()) } else { Err(NO_PUSH) }
    }
}

impl PushRecipient {
    fn checked(self, limits: &Limits) -> Result<Recipient> {
        let kinds = [
            ("device_ids", !self.device_ids.is_empty()),
            ("channels", !self.channels.is_empty()),
            ("fcm_tokens", !self.fcm_tokens.is_empty()),
            ("fcm_topic", !self.fcm_topic.is_empty()),
        ];
        let given: Vec<_> = kinds
            .iter()
            .filter(|(_, given)| *given)
            .map(|(name, _)| *name)
            .collect();
        let words = |field, values| Words::new(field, Some(values));
        match given.as_slice() {
            ["device_ids"] => words("recipient.device_ids", self.device_ids)
                .parse(limits.recipients, DeviceId::parse)
                .map(Recipient::Devices),
            ["channels"] => words("recipient.channels", self.channels)
                .parse(limits.push_channels, Channel::parse)
                .map(Recipient::Channels),
            ["fcm_tokens"] => words("recipient.fcm_tokens", self.fcm_tokens)
                .parse(limits.recipients, |token| Token::parse(&token))
                .map(|tokens| Recipient::Tokens(Provider::Fcm, tokens)),
            ["fcm_topic"] => fcm_topic(self.fcm_topic).map(|topic| Recipient::Topic(Provider::Fcm, topic)),
            given => {
                let got = if given.is_empty() {
                    "none".to_owned()
                } else {
                    given.join(", ")
                };
                let problem = format!("expected exactly one of device_ids, channels, fcm_tokens, fcm_topic, got {got}");
                Err(Error::invalid("recipient", problem))
            }
        }
    }
}

/// FCM's own rule: `[a-zA-Z0-9-_.~%]{1,900}`.
fn fcm_topic(name: String) -> Result<String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.~%".contains(&b);
    if name.len() > TOPIC_BYTES || !name.bytes().all(fits) {
        let problem = format!("expected 1 to {TOPIC_BYTES} of A-Z, a-z, 0-9, -, _, ., ~ and %");
        return Err(Error::invalid("recipient.fcm_topic", problem));
    }
    Ok(name)
}

fn kind(recipient: &Recipient) -> &'static str {
    match recipient {
        Recipient::Devices(_) => "devices",
        Recipient::Channels(_) => "channels",
        Recipient::Tokens(..) => "tokens",
        Recipient::Topic(..) | Recipient::Condition(..) => "topic",
    }
}

/// FCM takes less in a message to a topic.
fn addressee(recipient: &Recipient) -> Addressee {
    match recipient {
        Recipient::Topic(..) => Addressee::Topic,
        Recipient::Condition(..) => Addressee::Condition,
        Recipient::Devices(_) | Recipient::Channels(_) | Recipient::Tokens(..) => Addressee::Token,
    }
}

/// The lane that was asked for. `None` = none was.
fn priority(name: &str) -> Result<Option<Lane>> {
    if name.is_empty() {
        return Ok(None);
    }
    let lane = Lane::parse(name)
        .ok_or_else(|| Error::invalid("priority", format!("expected urgent or bulk, got {}", quoted(name))))?;
    Ok(Some(lane))
}

/// Few explicit targets are somebody's conversation; the rest is a broadcast.
fn lane(recipient: &Recipient) -> Lane {
    let urgent = match recipient {
        Recipient::Devices(ids) => ids.len() <= MAX_INLINE,
        Recipient::Tokens(_, tokens) => tokens.len() <= MAX_INLINE,
        Recipient::Topic(..) | Recipient::Condition(..) => true,
        Recipient::Channels(_) => false,
    };
    if urgent { Lane::Urgent } else { Lane::Bulk }
}

fn body(message: &[u8]) -> Vec<u8> {
    [br#"{"fcm":"#, message, b"}"].concat()
}

/// When a push is due and when it is over. `ends` are fields that may end it, 0 = not set.
fn times(
    now: Timestamp,
    send_at: i64,
    ends: [(&'static str, i64); 2],
    config: &PushConfig,
) -> Result<(Timestamp, Timestamp)> {
    let due = Timestamp::from_secs(send_at).max(now);
    if due > now.plus(config.max_delay.get()) {
        let problem = format!("at most {} ahead", config.max_delay);
        return Err(Error::invalid("send_at", problem));
    }
    let given = ends.into_iter().filter(|(_, at)| *at != 0);
    let Some((field, at)) = given.min_by_key(|(_, at)| *at) else {
        return Ok((due, due.plus(config.lifetime.get())));
    };
    let expires_at = Timestamp::from_secs(at);
    let ahead = expires_at.since(due);
    if ahead == Duration::ZERO {
        let when = if expires_at <= now { "the present" } else { "send_at" };
        return Err(Error::invalid(field, format!("must be later than {when}")));
    }
    Ok((due, due.plus(ahead.min(PushConfig::LONGEST.get()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_780_000_000_500);
    const DAY: i64 = 86_400;

    fn ends(outer: i64, inner: i64) -> [(&'static str, i64); 2] {
        [("expire_at", outer), ("notification.expire_at", inner)]
    }

    fn times_of(send_at: i64, outer: i64, inner: i64) -> std::result::Result<(i64, i64), String> {
        times(NOW, send_at, ends(outer, inner), &PushConfig::default())
            .map(|(due, expires)| (due.0, expires.0))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_push_is_due_now_and_lives_for_a_day_unless_told_otherwise() {
        let day = DAY * 1_000;
        assert_eq!(times_of(0, 0, 0), Ok((NOW.0, NOW.0 + day)));
        assert_eq!(times_of(-5, 0, 0), Ok((NOW.0, NOW.0 + day)), "the past is now");
        assert_eq!(
            times_of(1_780_000_100, 0, 0),
            Ok((1_780_000_100_000, 1_780_000_100_000 + day))
        );
    }

    #[test]
    fn the_earlier_end_counts() {
        assert_eq!(times_of(0, 1_780_000_010, 1_780_000_020).unwrap().1, 1_780_000_010_000);
        assert_eq!(times_of(0, 1_780_000_030, 1_780_000_020).unwrap().1, 1_780_000_020_000);
        assert_eq!(times_of(0, 0, 1_780_000_020).unwrap().1, 1_780_000_020_000);
    }

    #[test]
    fn an_end_that_leaves_no_time_is_refused_by_its_name() {
        assert_eq!(
            times_of(0, 1_780_000_000, 0).unwrap_err(),
            "expire_at: must be later than the present"
        );
        assert_eq!(
            times_of(0, 1_780_000_010, -1).unwrap_err(),
            "notification.expire_at: must be later than the present"
        );
        assert_eq!(
            times_of(1_780_000_100, 1_780_000_100, 0).unwrap_err(),
            "expire_at: must be later than send_at"
        );
    }

    #[test]
    fn no_push_lives_longer_than_28_days_and_none_waits_longer_than_allowed() {
        assert_eq!(times_of(0, i64::MAX, 0), Ok((NOW.0, NOW.0 + 28 * DAY * 1_000)));
        let last = 1_780_000_000 + 28 * DAY;
        assert!(times_of(last, 0, 0).is_ok());
        assert_eq!(times_of(last + 1, 0, 0).unwrap_err(), "send_at: at most 28d ahead");
        assert!(times_of(i64::MAX, 0, 0).is_err());
    }

    #[test]
    fn a_topic_name_follows_fcms_rule() {
        for name in ["news", "a-b_c.d~e%20", &"x".repeat(900)] {
            assert!(fcm_topic(name.to_owned()).is_ok(), "{name}");
        }
        for name in ["a/b", "a b", "ü", "a\"b", "a'", &"x".repeat(901)] {
            assert!(fcm_topic(name.to_owned()).is_err(), "{name}");
        }
    }

    #[test]
    fn few_explicit_targets_are_urgent() {
        let devices = |count: usize| {
            let ids = (0..count).map(|n| DeviceId::parse(format!("d{n}")).unwrap());
            lane(&Recipient::Devices(ids.collect()))
        };
        assert_eq!(devices(100), Lane::Urgent);
        assert_eq!(devices(101), Lane::Bulk);
        assert_eq!(
            lane(&Recipient::Channels(vec![Channel::parse("a").unwrap()])),
            Lane::Bulk
        );
        assert_eq!(lane(&Recipient::Topic(Provider::Fcm, "t".to_owned())), Lane::Urgent);
    }
}
