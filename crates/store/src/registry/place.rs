//! The ids of subscriptions.
//!
//! An id is the device's key in 16 lower-case hexadecimal digits, a hyphen, and the channel's name: `000000000000002a-news`. So
//! the order of ids as texts is the order of (key, channel), which an index has. Callers take it as opaque.

use bugle_model::DeviceKey;

const DIGITS: usize = 16;

/// Names a subscription.
pub(crate) fn id(key: DeviceKey, channel: &str) -> String {
    format!("{:0DIGITS$x}-{channel}", key.0)
}

/// A place in the order of subscriptions: rows with a greater (key, channel) come after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) key: i64,
    pub(crate) channel: String,
}

impl Place {
    /// Before everything.
    pub(crate) fn start() -> Self {
        Self::before(0)
    }

    /// No channel's name is empty, so all of the key's subscriptions come after this.
    fn before(key: i64) -> Self {
        Self {
            key,
            channel: String::new(),
        }
    }

    /// The place of any text among the ids, whether or not it is one. `None` = every id comes before it.
    pub(crate) fn after(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let digits = bytes.iter().take(DIGITS).take_while(|b| is_digit(**b)).count();
        // The number that the text begins with, on the left of 16 digits.
        let head = text[..digits]
            .bytes()
            .fold(0_u128, |n, b| n << 4 | u128::from(value(b)));
        let rest = 4 * (DIGITS - digits);
        let key = match (bytes.get(digits), digits) {
            // The text ends where ids go on: they come after it.
            (None, _) => head << rest,
            (Some(b'-'), DIGITS) => {
                let key = i64::try_from(head).ok()?;
                return Some(Self {
                    key,
                    channel: text[DIGITS + 1..].to_owned(),
                });
            }
            (Some(byte), DIGITS) if *byte < b'-' => head,
            (Some(_), DIGITS) => head + 1,
            // Another byte in the place of a digit: on with the next greater digit in that place, or in the one before it.
            (Some(byte), _) => match (b'0'..=b'9').chain(b'a'..=b'f').find(|digit| digit > byte) {
                Some(digit) => (head << 4 | u128::from(value(digit))) << (rest - 4),
                None => (head + 1) << rest,
            },
        };
        i64::try_from(key).ok().map(Self::before)
    }
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn value(digit: u8) -> u8 {
    if digit.is_ascii_digit() {
        digit - b'0'
    } else {
        digit - b'a' + 10
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn comes_after(place: Option<&Place>, key: i64, channel: &str) -> bool {
        place.is_some_and(|p| (key, channel) > (p.key, p.channel.as_str()))
    }

    #[test]
    fn ids_are_ordered_like_keys_and_channels() {
        assert_eq!(id(DeviceKey(42), "news"), "000000000000002a-news");
        assert_eq!(
            Place::after("000000000000002a-news"),
            Some(Place {
                key: 42,
                channel: "news".to_owned()
            })
        );
        assert_eq!(Place::after(""), Some(Place::start()));
        assert_eq!(Place::after("zebra"), None);
        assert_eq!(Place::after("ffffffffffffffff-x"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_place_in_the_order(
            text in prop_oneof!["[0-9a-f]{0,17}.{0,3}", "0{13}[0-9a-f]{0,4}[-a-gA-G0-9 ~]{0,3}", "7f{12,14}.{0,2}", ".{0,20}"],
            key in prop_oneof![0..40_i64, any::<i64>().prop_map(|k| k.max(0))],
            channel in "[-a-f0-9é]{1,4}",
        ) {
            let place = Place::after(&text);
            prop_assert_eq!(comes_after(place.as_ref(), key, &channel), id(DeviceKey(key), &channel) > text);
        }

        #[test]
        fn an_id_is_its_own_place(key in 0..i64::MAX, channel in ".{1,5}", other in 0..i64::MAX, another in ".{1,5}") {
            let place = Place::after(&id(DeviceKey(key), &channel));
            let after = (other, another.as_str()) > (key, channel.as_str());
            prop_assert_eq!(comes_after(place.as_ref(), other, &another), after);
        }
    }
}
