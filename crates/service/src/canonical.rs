//! What makes two requests for a push the same: a hash of what is sent and to whom.
//!
//! It is taken over JSON with sorted keys and without white space, `{"notification":{"fcm":{…}},"recipient":{"<kind>":…}}`, of the request as it was
//! understood (with `"priority":…` between the two where one was asked for): duplicates among the recipients dropped, unknown fields gone, and nothing about when. Two transports that say the same get the same hash.
//! The form is stored (as a hash) for as long as accounts are kept, so it must never change; a test pins it.

use std::io::{self, Write};

use aws_lc_rs::digest::{Context, SHA256};
use bugle_model::{Lane, Recipient};
use serde::Serialize;
use serde_json::{Map, Value};

/// The hash of a request to send `fcm` to `recipient`, with the priority that was asked for.
pub(crate) fn hash(recipient: &Recipient, fcm: &Map<String, Value>, priority: Option<Lane>) -> io::Result<[u8; 32]> {
    let mut out = Hasher(Context::new(&SHA256));
    out.write_all(b"{\"notification\":{\"fcm\":")?;
    write_object(fcm, &mut out)?;
    out.write_all(b"}")?;
    if let Some(lane) = priority {
        out.write_all(b",\"priority\":")?;
        write_leaf(lane.as_str(), &mut out)?;
    }
    out.write_all(b",\"recipient\":{")?;
    write_recipient(recipient, &mut out)?;
    out.write_all(b"}}")?;
    let mut hash = [0; 32];
    hash.copy_from_slice(out.0.finish().as_ref());
    Ok(hash)
}

fn write_recipient(recipient: &Recipient, out: &mut Hasher) -> io::Result<()> {
    match recipient {
        Recipient::Devices(ids) => {
            write_leaf("device_ids", out)?;
            write_texts(ids.iter().map(bugle_model::DeviceId::as_str), out)
        }
        Recipient::Channels(channels) => {
            write_leaf("channels", out)?;
            write_texts(channels.iter().map(bugle_model::Channel::as_str), out)
        }
        Recipient::Tokens(provider, tokens) => {
            write_leaf(&format!("{provider}_tokens"), out)?;
            write_texts(tokens.iter().map(bugle_model::Token::as_str), out)
        }
        Recipient::Topic(provider, topic) => {
            write_leaf(&format!("{provider}_topic"), out)?;
            out.write_all(b":")?;
            write_leaf(topic, out)
        }
        Recipient::Condition(provider, condition) => {
            write_leaf(&format!("{provider}_condition"), out)?;
            out.write_all(b":")?;
            write_leaf(condition, out)
        }
    }
}

fn write_texts<'a>(texts: impl Iterator<Item = &'a str>, out: &mut Hasher) -> io::Result<()> {
    out.write_all(b":[")?;
    for (at, text) in texts.enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        write_leaf(text, out)?;
    }
    out.write_all(b"]")
}

// The depth is bounded by whoever parsed the value.
fn write_value(value: &Value, out: &mut Hasher) -> io::Result<()> {
    match value {
        Value::Object(members) => write_object(members, out),
        Value::Array(items) => {
            out.write_all(b"[")?;
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.write_all(b",")?;
                }
                write_value(item, out)?;
            }
            out.write_all(b"]")
        }
        leaf => write_leaf(leaf, out),
    }
}

fn write_object(members: &Map<String, Value>, out: &mut Hasher) -> io::Result<()> {
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    out.write_all(b"{")?;
    for (at, (key, value)) in sorted.into_iter().enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        write_leaf(key, out)?;
        out.write_all(b":")?;
        write_value(value, out)?;
    }
    out.write_all(b"}")
}

fn write_leaf(leaf: &(impl Serialize + ?Sized), out: &mut Hasher) -> io::Result<()> {
    serde_json::to_writer(out, leaf).map_err(io::Error::from)
}

struct Hasher(Context);

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bugle_model::Channel;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn channels(names: &[&str]) -> Recipient {
        Recipient::Channels(names.iter().map(|name| Channel::parse(*name).unwrap()).collect())
    }

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(members) = value else {
            panic!("expected an object");
        };
        members
    }

    #[test]
    fn the_form_is_the_one_that_ledgers_hold() {
        let fcm = object(
            json!({"notification": {"title": "Hi \"you\"", "body": "ü"}, "data": {"n": "1"}, "x": [1, 2.5, null, true]}),
        );
        let text = concat!(
            r#"{"notification":{"fcm":{"data":{"n":"1"},"notification":{"body":"ü","title":"Hi \"you\""},"#,
            r#""x":[1,2.5,null,true]}},"recipient":{"channels":["a","b"]}}"#
        );
        let mut expected = Context::new(&SHA256);
        expected.update(text.as_bytes());
        assert_eq!(
            hash(&channels(&["a", "b"]), &fcm, None).unwrap(),
            expected.finish().as_ref()
        );
        let text = r#"{"notification":{"fcm":{}},"priority":"bulk","recipient":{"channels":["a"]}}"#;
        let mut expected = Context::new(&SHA256);
        expected.update(text.as_bytes());
        assert_eq!(
            hash(&channels(&["a"]), &Map::new(), Some(Lane::Bulk)).unwrap(),
            expected.finish().as_ref()
        );
    }

    #[test]
    fn another_recipient_or_payload_is_another_request() {
        let fcm = object(json!({"data": {"n": "1"}}));
        let one = hash(&channels(&["a"]), &fcm, None).unwrap();
        assert_ne!(one, hash(&channels(&["b"]), &fcm, None).unwrap());
        for lane in [Lane::Urgent, Lane::Bulk] {
            assert_ne!(one, hash(&channels(&["a"]), &fcm, Some(lane)).unwrap());
        }
        assert_ne!(
            one,
            hash(&channels(&["a"]), &object(json!({"data": {"n": "2"}})), None).unwrap()
        );
        let topic = Recipient::Topic(bugle_model::Provider::Fcm, "a".to_owned());
        assert_ne!(one, hash(&topic, &fcm, None).unwrap());
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((".{0,4}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The same value with the members of every object the other way round.
    fn reversed(value: &Value) -> Value {
        match value {
            Value::Object(members) => Value::Object(
                members
                    .iter()
                    .rev()
                    .map(|(key, value)| (key.clone(), reversed(value)))
                    .collect(),
            ),
            Value::Array(items) => Value::Array(items.iter().map(reversed).collect()),
            leaf => leaf.clone(),
        }
    }

    proptest! {
        #[test]
        fn the_order_of_keys_does_not_matter(members in prop::collection::vec((".{0,4}", any_value()), 0..5)) {
            let fcm: Map<String, Value> = members.into_iter().collect();
            let other = object(reversed(&Value::Object(fcm.clone())));
            let to = channels(&["a"]);
            prop_assert_eq!(hash(&to, &fcm, None).unwrap(), hash(&to, &other, None).unwrap());
        }

        #[test]
        fn different_values_have_different_hashes(one in any_value(), other in any_value()) {
            let hash_of = |value: &Value| {
                let mut fcm = Map::new();
                fcm.insert("x".to_owned(), value.clone());
                hash(&channels(&["a"]), &fcm, None).unwrap()
            };
            prop_assert_eq!(one == other, hash_of(&one) == hash_of(&other));
        }
    }
}
