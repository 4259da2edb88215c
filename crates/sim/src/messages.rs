//! The newest accepted messages, to be looked at.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An accepted message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeenMessage {
    /// The token; `topic:NAME` or `condition:TEXT` for a message that went to one of those.
    pub target: String,
    /// The name that was answered: `projects/P/messages/ID`.
    pub name: String,
    /// The `message` object of the request.
    pub message: Value,
}

/// An accepted message as it arrived; it is parsed only when somebody looks.
pub(crate) struct Accepted {
    pub(crate) target: String,
    pub(crate) name: String,
    pub(crate) body: Bytes,
}

/// A ring of the newest ones.
pub(crate) struct Messages {
    keep: usize,
    newest: Mutex<VecDeque<Accepted>>,
}

impl Messages {
    pub(crate) fn new(keep: usize) -> Self {
        Self {
            keep,
            newest: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Accepted>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, accepted: Accepted) {
        if self.keep == 0 {
            return;
        }
        let mut newest = self.lock();
        if newest.len() == self.keep {
            newest.pop_front();
        }
        newest.push_back(accepted);
    }

    /// The newest message last.
    pub(crate) fn list(&self) -> Vec<SeenMessage> {
        let message = |body: &Bytes| {
            let mut envelope: Value = serde_json::from_slice(body).unwrap_or_default();
            envelope["message"].take()
        };
        self.lock()
            .iter()
            .map(|seen| SeenMessage {
                target: seen.target.clone(),
                name: seen.name.clone(),
                message: message(&seen.body),
            })
            .collect()
    }

    pub(crate) fn reset(&self) {
        self.lock().clear();
    }
}
