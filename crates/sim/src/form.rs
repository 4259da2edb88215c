//! `application/x-www-form-urlencoded`, as bodies and queries are.

/// The decoded value of the first field with this name.
pub(crate) fn value(form: &[u8], name: &str) -> Option<String> {
    form.split(|byte| *byte == b'&').find_map(|field| {
        let at = field.iter().position(|byte| *byte == b'=').unwrap_or(field.len());
        (decode(&field[..at]) == name).then(|| decode(field.get(at + 1..).unwrap_or_default()))
    })
}

/// Undoes `+` and `%XX`; what is broken stays as it is.
fn decode(text: &[u8]) -> String {
    let spaced: Vec<u8> = text
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    percent_decode(&spaced)
}

/// Undoes `%XX`; what is broken stays as it is.
pub(crate) fn percent_decode(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(hex(*high) * 16 + hex(*low));
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_broken_escapes_kept() {
        let form = b"a=1&grant%5Ftype=urn%3Aietf+x&b=%zz%4&c";
        assert_eq!(value(form, "grant_type").as_deref(), Some("urn:ietf x"));
        assert_eq!(value(form, "b").as_deref(), Some("%zz%4"));
        assert_eq!(value(form, "c").as_deref(), Some(""));
        assert_eq!(value(form, "d"), None);
    }
}
