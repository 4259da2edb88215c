//! What a target is sent with.

use std::rc::Rc;

use bugle_model::{Outcome, Target};

use super::Work;
use crate::bodies::Unprepared;
use crate::delivery::Batch;

/// Why a target cannot be sent now.
pub(super) enum Unready {
    /// It ends as if the provider had answered so.
    Refused(Outcome),
    /// The page waits.
    Later,
}

/// The outcome where the provider is not configured: held for lack of credentials, and sent once there are some.
const UNCONFIGURED: Outcome = Outcome::Credential {
    reason: "not configured",
    exchange_refused: false,
};

impl Work {
    /// What the target is sent with.
    pub(super) async fn ready(&mut self, target: &Target) -> Result<Rc<Batch>, Unready> {
        if let Some(batch) = &self.batch
            && batch.route.route == target.route
        {
            return Ok(Rc::clone(batch));
        }
        let provider = target.route.provider.ok_or(Unready::Refused(UNCONFIGURED))?;
        let client = self
            .thread
            .client(&self.page.app, provider)
            .ok_or(Unready::Refused(UNCONFIGURED))?;
        let route = self.route(target);
        let (store, push, body) = (self.thread.store.as_ref(), self.page.id.push, self.body.as_deref());
        match self
            .thread
            .bodies
            .prepare(store, push, body, provider, client.as_ref())
            .await
        {
            Ok(prepared) => Ok(Rc::new(Batch {
                page: Rc::clone(&self.page),
                route,
                client,
                prepared,
                way: self.thread.way(&self.page.app, provider),
                mode: self.mode,
            })),
            Err(Unprepared::Store(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot read a push's body: the store failed"
                );
                Err(Unready::Later)
            }
            Err(Unprepared::Invalid(problem)) => {
                tracing::warn!(push.key = push.0, problem = %problem, "a push cannot be rendered");
                Err(Unready::Refused(Outcome::Payload { reason: "unrenderable" }))
            }
        }
    }
}
