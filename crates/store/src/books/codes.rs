//! Numbers and words that stand in rows, as values. What this version does not know is `Error::Corrupt`.

use bugle_model::{HoldReason, Lane, Progress, PushState, Route};

use crate::codec::progress;
use crate::{Error, Result};

pub(crate) fn route(code: u8) -> Result<Route> {
    Route::from_code(code).ok_or_else(|| Error::corrupt("a route", format!("code {code}")))
}

pub(crate) fn lane(code: u8) -> Result<Lane> {
    Lane::from_code(code).ok_or_else(|| Error::corrupt("a lane", format!("code {code}")))
}

pub(crate) fn state(name: &str) -> Result<PushState> {
    PushState::parse(name).ok_or_else(|| Error::corrupt("pushes.state", name.to_owned()))
}

pub(crate) fn hold_reason(name: &str) -> Result<HoldReason> {
    HoldReason::parse(name).ok_or_else(|| Error::corrupt("holds.reason", name.to_owned()))
}

/// Names of channels: a JSON list.
pub(crate) fn channels(json: &str) -> Result<Vec<String>> {
    serde_json::from_str(json).map_err(|error| Error::corrupt("pushes.channels", error.to_string()))
}

/// `None` = nothing has been reported yet. `place` = the table and the column.
pub(crate) fn read_progress(blob: Option<&[u8]>, place: &'static str) -> Result<Progress> {
    match blob {
        Some(blob) => progress::decode(blob, place),
        None => Ok(Progress::default()),
    }
}

/// A page whose targets are not there.
pub(crate) fn without_targets() -> Error {
    Error::corrupt("page_targets", "a page without targets".to_owned())
}
