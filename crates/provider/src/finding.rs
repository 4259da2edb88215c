//! What a check of a configuration found, for `bugle check`.

use serde::Serialize;

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, like `FCM token exchange`.
    pub item: String,
    /// How it stands.
    pub state: State,
    /// What was found, in words. Never a secret.
    pub finding: String,
    /// What to do about a failure; empty for everything else.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// How an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It works.
    Ok,
    /// It does not.
    Failed,
    /// It could not be looked at, or there is nothing to look at.
    Skipped,
}

impl Finding {
    /// Something that works.
    pub fn ok(item: impl Into<String>, finding: impl Into<String>) -> Self {
        Self::new(item, State::Ok, finding, "")
    }

    /// Something that does not work, and what to do about it.
    pub fn failed(item: impl Into<String>, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(item, State::Failed, finding, remedy)
    }

    /// Something that was not looked at, and why.
    pub fn skipped(item: impl Into<String>, finding: impl Into<String>) -> Self {
        Self::new(item, State::Skipped, finding, "")
    }

    fn new(item: impl Into<String>, state: State, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            item: item.into(),
            state,
            finding: finding.into(),
            remedy: remedy.into(),
        }
    }
}
