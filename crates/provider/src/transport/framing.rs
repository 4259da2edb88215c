//! The choice of an HTTP/2.

use serde::{Deserialize, Serialize};

/// Whose HTTP/2 carries the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// bugle's own: a fraction of the other's processor time.
    #[default]
    Own,
    /// The crate `h2`, the one that hyper uses.
    H2,
}
