//! A reference as text: `PUSH.ROUTE.SEQ.DUE`, numbers to the base of 36, `_` as the route of a push's own row. Some 20 bytes.
//!
//! The app and the lane are told by where the text stands.

use bugle_model::{PageId, PushKey, Route, Timestamp};

/// Appends a reference.
pub(crate) fn write(id: PageId, due: Timestamp, to: &mut String) {
    write_number(id.push.0, to);
    to.push('.');
    match id.leg {
        Some(route) => write_number(i64::from(route.code()), to),
        None => to.push('_'),
    }
    to.push('.');
    write_number(id.seq, to);
    to.push('.');
    write_number(due.0, to);
}

/// Reads a reference. `None` = it is none.
pub(crate) fn read(text: &str) -> Option<(PageId, Timestamp)> {
    let mut parts = text.split('.');
    let mut next = || parts.next();
    let push = PushKey(read_number(next()?)?);
    let leg = match next()? {
        "_" => None,
        code => Some(Route::from_code(u8::try_from(read_number(code)?).ok()?)?),
    };
    let seq = read_number(next()?)?;
    let due = Timestamp(read_number(next()?)?);
    next().is_none().then_some((PageId { push, leg, seq }, due))
}

/// Appends a number.
pub(crate) fn write_number(number: i64, to: &mut String) {
    let mut rest = number.unsigned_abs();
    let mut digits = [0_u8; 14];
    let mut at = digits.len();
    loop {
        at -= 1;
        let digit = u8::try_from(rest % 36).unwrap_or(0);
        digits[at] = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
        rest /= 36;
        if rest == 0 || at == 0 {
            break;
        }
    }
    if number < 0 {
        to.push('-');
    }
    to.extend(digits[at..].iter().map(|&digit| char::from(digit)));
}

fn read_number(text: &str) -> Option<i64> {
    i64::from_str_radix(text, 36).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_reference_survives(push: i64, code in proptest::option::of(0u8..20), seq: i64, due: i64) {
            let leg = code.and_then(Route::from_code);
            let id = PageId { push: PushKey(push), leg, seq };
            let mut text = String::new();
            write(id, Timestamp(due), &mut text);
            prop_assert!(text.len() <= 3 * 14 + 2 + 3);
            prop_assert_eq!(read(&text), Some((id, Timestamp(due))));
        }

        #[test]
        fn nonsense_is_refused_and_breaks_nothing(text in "[0-9a-z_.-]{0,40}") {
            if let Some((id, due)) = read(&text) {
                let mut again = String::new();
                write(id, due, &mut again);
                prop_assert_eq!(read(&again), Some((id, due)));
            }
        }
    }

    #[test]
    fn what_is_no_reference_is_none() {
        for text in [
            "",
            "1",
            "1._.2",
            "1._.2.3.4",
            "1.zz.2.3",
            "1.4.2.",
            "x!.4.2.3",
            "1.-1.2.3",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
