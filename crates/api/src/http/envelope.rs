//! How commands are wrapped: one after the other, or in a batch.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::read::Object;

/// A command of `POST /api`.
#[derive(Debug, Deserialize)]
pub(super) struct Command<'a> {
    /// Echoed in the reply.
    #[serde(borrow, default)]
    pub(super) id: Option<&'a RawValue>,
    /// The method, not yet parsed, so that a wrong type can be told from a broken text.
    #[serde(borrow, default)]
    pub(super) method: Option<&'a RawValue>,
    /// Absent = no parameters.
    #[serde(borrow, default)]
    pub(super) params: Option<&'a RawValue>,
}

/// The body of `POST /api/batch`.
#[derive(Debug, Deserialize)]
pub(super) struct Batch<'a> {
    /// In the order of the replies.
    #[serde(borrow)]
    pub(super) commands: Vec<BatchCommand<'a>>,
    /// Commands may run at once and in any order.
    #[serde(default)]
    pub(super) parallel: Option<bool>,
}

/// `{"<method>": {…}}`.
#[derive(Debug)]
pub(super) struct BatchCommand<'a> {
    pub(super) method: String,
    pub(super) params: &'a RawValue,
}

impl<'de: 'a, 'a> Deserialize<'de> for BatchCommand<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneMember;
        impl<'de> Visitor<'de> for OneMember {
            type Value = BatchCommand<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of one method")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                const ONE: &str = "expected exactly one method in a command";
                let (method, params) = members.next_entry()?.ok_or_else(|| A::Error::custom(ONE))?;
                match members.next_key::<String>()? {
                    None => Ok(BatchCommand { method, params }),
                    Some(_) => Err(A::Error::custom(ONE)),
                }
            }
        }
        deserializer.deserialize_map(OneMember)
    }
}

/// The commands of a body, one after the other, separated by white space or nothing.
pub(super) fn commands(body: &str) -> impl Iterator<Item = serde_json::Result<Command<'_>>> {
    serde_json::Deserializer::from_str(body)
        .into_iter::<Object<Command<'_>>>()
        .map(|command| command.map(|object| object.0))
}
