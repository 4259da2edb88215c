//! Accepts pushes that are their own page: a row each. What arrives together is one statement (`group`).

mod group;

use std::sync::Arc;

use bugle_model::{Accepted, AppId, Lane, NewPush, PushKey, PushState, Route, Timestamp};
use tokio::runtime::Handle;

use super::rows::Push;
use crate::Result;
use crate::books::push::Providers;
use crate::postgres::batch::{self, Batcher};
use crate::postgres::shared::Shared;

/// Pushes of one statement at most, …
const GROUP: usize = 256;
/// … and bytes of their targets and bodies, where it has more than one.
const GROUP_BYTES: usize = 4 << 20;
/// So many groups are under way at most.
const GROUPS: usize = 2;

/// Takes pushes that are their own page.
pub(in crate::postgres) type Accepts = Batcher<OwnPush, Result<Accepted>>;

/// A push that is its own page, as its row will be.
pub(in crate::postgres) struct OwnPush {
    name: AppId,
    app: i32,
    uid: String,
    hash: [u8; 32],
    lane: Lane,
    providers: i64,
    created_at: i64,
    due: Timestamp,
    expires_at: Timestamp,
    route: Route,
    expected: i64,
    targets: Vec<u8>,
    body: Vec<u8>,
}

impl OwnPush {
    pub(super) fn new(new: NewPush, app: i32, route: Route, expected: usize, targets: Vec<u8>) -> Self {
        Self {
            app,
            uid: new.uid.as_str().to_owned(),
            hash: new.hash,
            lane: new.lane,
            providers: Providers::of(&new.providers).bits(),
            created_at: new.created_at.0,
            due: new.due,
            expires_at: new.expires_at,
            route,
            expected: i64::try_from(expected).unwrap_or(i64::MAX),
            targets,
            body: new.body,
            name: new.app,
        }
    }

    /// What makes it one push.
    fn id(&self) -> (i32, &str) {
        (self.app, &self.uid)
    }

    fn bytes(&self) -> usize {
        self.targets.len() + self.body.len()
    }

    /// What reading its targets needs to know of it. It has no key yet, and none is asked for.
    fn before_its_key(&self) -> Push {
        Push {
            key: PushKey(0),
            app: self.app,
            state: PushState::Running,
            lane: self.lane,
            providers: Providers(self.providers),
            due: self.due,
            expires_at: self.expires_at,
            ended: false,
            channels: None,
        }
    }
}

/// Starts the writers of pushes that are their own page.
pub(in crate::postgres) fn start(runtime: &Handle, shared: &Arc<Shared>) -> Accepts {
    let shared = Arc::clone(shared);
    let write: batch::Write<OwnPush, Result<Accepted>> = Arc::new(move |pushes, _| {
        let shared = Arc::clone(&shared);
        Box::pin(async move { Ok(write_groups(&shared, pushes).await) })
    });
    Batcher::start(runtime, GROUPS, GROUP, write)
}

/// Writes what has arrived, in as many statements as its size asks for. One answer per push, in order.
async fn write_groups(shared: &Shared, pushes: Vec<OwnPush>) -> Vec<Result<Accepted>> {
    let mut answers = Vec::with_capacity(pushes.len());
    let mut left = pushes.into_iter().peekable();
    while let Some(first) = left.next() {
        let mut bytes = first.bytes();
        let mut group = vec![first];
        while let Some(next) = left.next_if(|next| bytes + next.bytes() <= GROUP_BYTES) {
            bytes += next.bytes();
            group.push(next);
        }
        answers.extend(group::write(shared, group).await);
    }
    answers
}
