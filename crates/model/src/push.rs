//! A push on its way into the ledger.

use crate::{AppId, Channel, DeviceId, Lane, Provider, PushUid, Timestamp, Token};

/// So many explicit targets stay in the push's own row, which is then its only page.
pub const MAX_INLINE: usize = 100;

/// So many targets make a page at most.
pub const MAX_PAGE: usize = 1_000;

/// Who is meant. Duplicates have been dropped by whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// Devices by id.
    Devices(Vec<DeviceId>),
    /// Every device that is subscribed to at least one of these.
    Channels(Vec<Channel>),
    /// Tokens that need not be registered.
    Tokens(Provider, Vec<Token>),
    /// A topic of the provider's own.
    Topic(Provider, String),
    /// A condition over topics of the provider's own.
    Condition(Provider, String),
}

/// A push that has been checked and waits to be accepted.
#[derive(Debug, Clone)]
pub struct NewPush {
    /// The app.
    pub app: AppId,
    /// The public id.
    pub uid: PushUid,
    /// SHA-256 of the canonical request: the same uid with the same hash is the same push.
    pub hash: [u8; 32],
    /// Who is meant.
    pub recipient: Recipient,
    /// The notification as JSON, by provider: `{"fcm": {…the provider's own message without a target…}}`.
    pub body: Vec<u8>,
    /// The providers that `body` has a payload for.
    pub providers: Vec<Provider>,
    /// How soon.
    pub lane: Lane,
    /// Now.
    pub created_at: Timestamp,
    /// Not sent before this.
    pub due: Timestamp,
    /// Not sent after this.
    pub expires_at: Timestamp,
}

/// What became of a push that was handed to the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is durable.
    New,
    /// This very push was accepted before; nothing was written.
    Repeated,
    /// Another push has this uid; nothing was written.
    Conflict,
}
