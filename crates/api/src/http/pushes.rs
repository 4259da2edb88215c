//! `send_push_notification`, `push_status`, `cancel_push` on the wire.

use bugle_model::{AppId, Counts, LegStatus, PushStatus};
use bugle_service::{Error, Notification, PushRecipient, SendPush, Service};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::methods::{Empty, Operation};
use super::read::Object;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Submission {
    recipient: Option<Object<RecipientFields>>,
    notification: Option<Object<NotificationFields>>,
    uid: Option<String>,
    send_at: Option<i64>,
    expire_at: Option<i64>,
    priority: Option<String>,
    optimize_for_reliability: Value,
    limit_strategy: Value,
    analytics_uid: Value,
    localizations: Value,
    use_templating: Value,
    use_meta: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RecipientFields {
    device_ids: Option<Vec<String>>,
    channels: Option<Vec<String>>,
    fcm_tokens: Option<Vec<String>>,
    fcm_topic: Option<String>,
    filter: Value,
    fcm_condition: Value,
    hms_tokens: Value,
    hms_topic: Value,
    hms_condition: Value,
    apns_tokens: Value,
    webpush_tokens: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NotificationFields {
    fcm: Option<Map<String, Value>>,
    expire_at: Option<i64>,
    hms: Value,
    apns: Value,
    webpush: Value,
}

#[derive(Serialize)]
pub(super) struct Sent {
    uid: String,
}

impl Operation for Submission {
    type Answer = Sent;

    async fn run(self, service: &Service, app: &AppId) -> Result<Sent, Error> {
        let Object(recipient) = self.recipient.unwrap_or_default();
        let Object(notification) = self.notification.unwrap_or_default();
        let unbuilt = set_of([
            ("recipient.filter", &recipient.filter),
            ("recipient.fcm_condition", &recipient.fcm_condition),
            ("recipient.hms_tokens", &recipient.hms_tokens),
            ("recipient.hms_topic", &recipient.hms_topic),
            ("recipient.hms_condition", &recipient.hms_condition),
            ("recipient.apns_tokens", &recipient.apns_tokens),
            ("recipient.webpush_tokens", &recipient.webpush_tokens),
            ("notification.hms", &notification.hms),
            ("notification.apns", &notification.apns),
            ("notification.webpush", &notification.webpush),
            ("optimize_for_reliability", &self.optimize_for_reliability),
            ("limit_strategy", &self.limit_strategy),
            ("analytics_uid", &self.analytics_uid),
            ("localizations", &self.localizations),
            ("use_templating", &self.use_templating),
            ("use_meta", &self.use_meta),
        ]);
        let asked = SendPush {
            recipient: PushRecipient {
                device_ids: recipient.device_ids.unwrap_or_default(),
                channels: recipient.channels.unwrap_or_default(),
                fcm_tokens: recipient.fcm_tokens.unwrap_or_default(),
                fcm_topic: recipient.fcm_topic.unwrap_or_default(),
            },
            notification: Notification {
                fcm: notification.fcm,
                expire_at: notification.expire_at.unwrap_or_default(),
            },
            uid: self.uid.unwrap_or_default(),
            send_at: self.send_at.unwrap_or_default(),
            expire_at: self.expire_at.unwrap_or_default(),
            priority: self.priority.unwrap_or_default(),
            unbuilt,
        };
        let uid = service.send_push(app, asked).await?;
        Ok(Sent { uid: uid.to_string() })
    }
}

/// The names of those that are set.
fn set_of<const N: usize>(fields: [(&'static str, &Value); N]) -> Vec<&'static str> {
    let set = fields.into_iter().filter(|(_, value)| is_set(value));
    set.map(|(name, _)| name).collect()
}

/// Zero values are how some clients write "absent".
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => members.values().any(is_set),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Status {
    uid: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Account {
    uid: String,
    state: &'static str,
    created_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<i64>,
    #[serde(flatten)]
    sums: Sums,
    legs: Vec<Leg>,
}

#[derive(Serialize)]
struct Leg {
    provider: &'static str,
    platform: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<&'static str>,
    #[serde(flatten)]
    sums: Sums,
}

/// The eight counts.
#[derive(Serialize, Default)]
struct Sums {
    targeted: u64,
    sent: u64,
    failed: u64,
    invalid: u64,
    skipped: u64,
    expired: u64,
    cancelled: u64,
    waiting: u64,
}

impl Sums {
    fn new(targeted: u64, counts: &Counts, waiting: u64) -> Self {
        Self {
            targeted,
            sent: counts.sent,
            failed: counts.failed,
            invalid: counts.invalid,
            skipped: counts.skipped,
            expired: counts.expired,
            cancelled: counts.cancelled,
            waiting,
        }
    }

    fn of(leg: &LegStatus) -> Self {
        Self::new(leg.targeted, &leg.counts, leg.waiting())
    }

    fn of_all(legs: &[LegStatus]) -> Self {
        let mut counts = Counts::default();
        for leg in legs {
            counts += leg.counts;
        }
        let targeted = legs.iter().map(|leg| leg.targeted).sum();
        let waiting = legs.iter().map(LegStatus::waiting).sum();
        Self::new(targeted, &counts, waiting)
    }
}

impl From<PushStatus> for Account {
    fn from(status: PushStatus) -> Self {
        let legs = status.legs.iter().map(|leg| Leg {
            provider: leg.route.provider_str(),
            platform: leg.route.platform_str(),
            held: leg.held.map(bugle_model::HoldReason::as_str),
            sums: Sums::of(leg),
        });
        Self {
            uid: status.uid.to_string(),
            state: status.state.as_str(),
            created_at: status.created_at.as_secs(),
            ended_at: status.ended_at.map(bugle_model::Timestamp::as_secs),
            sums: Sums::of_all(&status.legs),
            legs: legs.collect(),
        }
    }
}

impl Operation for Status {
    type Answer = Account;

    async fn run(self, service: &Service, app: &AppId) -> Result<Account, Error> {
        let status = service.push_status(app, self.uid.unwrap_or_default()).await?;
        Ok(status.into())
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Cancel {
    uid: Option<String>,
}

impl Operation for Cancel {
    type Answer = Empty;

    async fn run(self, service: &Service, app: &AppId) -> Result<Empty, Error> {
        let uid = self.uid.unwrap_or_default();
        service.cancel_push(app, uid).await.map(|()| Empty {})
    }
}
