//! A push and a target as FCM's request.
//!
//! What all targets have in common is rendered once; a request's body is then a copy with the target in its hole, no JSON work.

use bugle_model::{Invalid, TargetKind};
use http::Uri;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The fields of FCM's message that name a target: whose place is the hole.
pub(super) const TARGETS: [&str; 4] = ["token", "topic", "condition", "fid"];

const END: &[u8] = br#""}}"#;

/// `{"message":{…` up to the target.
pub(super) struct Rendered(Vec<u8>);

impl Rendered {
    /// Renders FCM's message object without a target.
    pub(super) fn new(message: &RawValue) -> Result<Self, Invalid> {
        let text = message.get().trim();
        let Fields { any } = serde_json::from_str(text).map_err(|e| Invalid::new(format!("fcm: {e}")))?;
        // It is an object: the last byte is its closing brace.
        let open = text[..text.len() - 1].trim_end();
        let mut start = Vec::with_capacity(open.len() + 16);
        start.extend_from_slice(br#"{"message":"#);
        start.extend_from_slice(open.as_bytes());
        if any {
            start.push(b',');
        }
        Ok(Self(start))
    }

    /// Hands over the pieces of the whole body for one target; `None` if the target is none.
    pub(super) fn with_body<T>(&self, target: &TargetKind, send: impl FnOnce(&[&[u8]]) -> T) -> Option<T> {
        match target {
            // A token has no character that JSON escapes.
            TargetKind::Token(token) => Some(send(&[&self.0, br#""token":""#, token.as_str().as_bytes(), END])),
            TargetKind::Topic(name) => self.with_quoted(br#""topic":"#, name, send),
            TargetKind::Condition(text) => self.with_quoted(br#""condition":"#, text, send),
            TargetKind::Skip(_) => None,
        }
    }

    fn with_quoted<T>(&self, field: &[u8], value: &str, send: impl FnOnce(&[&[u8]]) -> T) -> Option<T> {
        let value = serde_json::to_string(value).ok()?;
        Some(send(&[&self.0, field, value.as_bytes(), &END[1..]]))
    }
}

/// A JSON object's keys, looked at only: does it have any, and is none a target?
struct Fields {
    any: bool,
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Fields;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("FCM's message object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut any = false;
                while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                    if TARGETS.contains(&key.as_str()) {
                        return Err(A::Error::custom("the message already names a target"));
                    }
                    any = true;
                }
                Ok(Fields { any })
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// Where messages of a project go.
pub(super) fn uri(endpoint: &Uri, project: &str) -> Option<Uri> {
    let prefix = endpoint.path().trim_end_matches('/');
    let mut parts = endpoint.clone().into_parts();
    parts.path_and_query = Some(format!("{prefix}/v1/projects/{project}/messages:send").parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use bugle_model::{Skip, Token};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn render(message: &str) -> Result<Rendered, Invalid> {
        Rendered::new(&RawValue::from_string(message.into()).unwrap())
    }

    fn body(message: &str, target: &TargetKind) -> Option<Vec<u8>> {
        render(message).unwrap().with_body(target, |pieces| pieces.concat())
    }

    fn parsed(message: &str, target: &TargetKind) -> Value {
        serde_json::from_slice(&body(message, target).unwrap()).unwrap()
    }

    #[test]
    fn a_token_is_put_beside_the_message() {
        let token = TargetKind::Token(Token::parse("abc:DEF").unwrap());
        let body = body(r#"{"data":{"a":"b"}}"#, &token).unwrap();
        assert_eq!(&body[..], br#"{"message":{"data":{"a":"b"},"token":"abc:DEF"}}"#);
    }

    #[test]
    fn topics_and_conditions_are_escaped() {
        let odd = "'a\"b\\c\n' in topics";
        let topic = parsed(r#"{"data":{}}"#, &TargetKind::Topic(odd.into()));
        assert_eq!(topic, json!({"message": {"data": {}, "topic": odd}}));
        let condition = parsed(" { } ", &TargetKind::Condition(odd.into()));
        assert_eq!(condition, json!({"message": {"condition": odd}}));
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for wrong in [
            "[]",
            "7",
            "\"x\"",
            r#"{"token":"t"}"#,
            r#"{"data":{},"topic":"t"}"#,
            r#"{"fi\u0064":"t"}"#,
        ] {
            assert!(render(wrong).is_err(), "{wrong}");
        }
        assert!(body("{}", &TargetKind::Skip(Skip::Unknown)).is_none());
    }

    #[test]
    fn the_path_has_the_project_and_the_endpoints_prefix() {
        let path = |endpoint: &str| uri(&endpoint.parse().unwrap(), "p-1").unwrap().to_string();
        assert_eq!(
            path("https://fcm.googleapis.com"),
            "https://fcm.googleapis.com/v1/projects/p-1/messages:send"
        );
        assert_eq!(
            path("http://127.0.0.1:9/fcm/"),
            "http://127.0.0.1:9/fcm/v1/projects/p-1/messages:send"
        );
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[a-z]{1,8}", inner, 0..4).prop_map(|m| m.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_message_and_token_render_to_that_message_and_token(
            message in prop::collection::btree_map("x[a-z\"\\\\]{0,8}", json_value(), 0..5),
            token in "[!#-\\[\\]-~]{1,200}",
            pretty in any::<bool>(),
        ) {
            let text = if pretty { serde_json::to_string_pretty(&message) } else { serde_json::to_string(&message) }.unwrap();
            let whole = parsed(&text, &TargetKind::Token(Token::parse(&token).unwrap()));
            let mut expected = json!(message);
            expected["token"] = token.into();
            prop_assert_eq!(&whole["message"], &expected);
        }
    }
}
