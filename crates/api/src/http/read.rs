//! JSON text to structs, and what is wrong with it in words.
//!
//! A text is parsed at full speed first; only one that does not fit is parsed again, to find the path of what is wrong. Words never repeat a value
//! of the text: it may be a token.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;

/// A struct that is written as an object and as nothing else. Derived structs alone would take an array of their fields, too.
#[derive(Debug, Default)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }
        deserializer.deserialize_map(Members(PhantomData)).map(Object)
    }
}

/// Reads one value. An error says where and what, `place` being where the value itself stands.
pub(super) fn read<'a, T: Deserialize<'a>>(place: &str, text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Data => locate::<T>(place, text),
        Category::Io | Category::Syntax | Category::Eof => syntax(place, &error),
    })
}

/// What is wrong with a text that is no JSON. The parser's words name no values in this case.
pub(super) fn syntax(place: &str, error: &serde_json::Error) -> String {
    format!("{place}: {error}")
}

fn locate<'a, T: Deserialize<'a>>(place: &str, text: &'a str) -> String {
    let deserializer = &mut serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, T>(deserializer) {
        // The value fits, so what follows it does not.
        Ok(_) => format!("{place}: expected the end"),
        Err(error) => {
            let path = error.path().to_string();
            let separator = if path.starts_with('[') { "" } else { "." };
            let path = if path == "." {
                String::new()
            } else {
                format!("{separator}{path}")
            };
            format!("{place}{path}: {}", words(&error.inner().to_string()))
        }
    }
}

/// The parser's names of what it found, and ours.
const KINDS: [(&str, &str); 7] = [
    ("string", "a string"),
    ("integer", "an integer"),
    ("floating point", "a fraction"),
    ("boolean", "a boolean"),
    ("null", "null"),
    ("sequence", "an array"),
    ("map", "an object"),
];

/// The parser's words without the value that it quotes.
fn words(problem: &str) -> String {
    let Some(mismatch) = ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|start| problem.strip_prefix(start))
    else {
        // The names in these are fields' names of ours; the position is a position in a part of the request.
        let end = problem.rfind(" at line ").unwrap_or(problem.len());
        return problem[..end].replace('`', "");
    };
    let expected = mismatch
        .rsplit_once(", expected ")
        .map_or("another type", |(_, expected)| expected);
    let end = expected.rfind(" at line ").unwrap_or(expected.len());
    let expected = match &expected[..end] {
        "a sequence" => "an array",
        "a map" => "an object",
        "i64" => "an integer",
        other => other,
    };
    let got = KINDS.iter().find(|(start, _)| mismatch.starts_with(start));
    let got = got.map_or("something else", |(_, kind)| kind);
    if expected == got {
        return format!("out of range for {expected}");
    }
    format!("expected {expected}, got {got}")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Map, Value};

    use super::*;

    #[derive(Debug, Deserialize, Default)]
    #[serde(default)]
    struct Outer {
        names: Option<Vec<String>>,
        inner: Option<Object<Inner>>,
        limit: Option<i64>,
        any: Option<Map<String, Value>>,
        on: Option<bool>,
    }

    #[derive(Debug, Deserialize, Default)]
    #[serde(default)]
    struct Inner {
        list: Option<Vec<String>>,
    }

    fn problem(text: &str) -> String {
        read::<Object<Outer>>("params", text).unwrap_err()
    }

    #[test]
    fn a_wrong_type_is_reported_with_its_path() {
        assert_eq!(
            problem(r#"{"names": "x"}"#),
            "params.names: expected an array, got a string"
        );
        assert_eq!(
            problem(r#"{"names": ["a", 1]}"#),
            "params.names[1]: expected a string, got an integer"
        );
        assert_eq!(
            problem(r#"{"names": [null]}"#),
            "params.names[0]: expected a string, got null"
        );
        assert_eq!(
            problem(r#"{"inner": {"list": [[]]}}"#),
            "params.inner.list[0]: expected a string, got an array"
        );
        assert_eq!(
            problem(r#"{"limit": 1.5}"#),
            "params.limit: expected an integer, got a fraction"
        );
        assert_eq!(
            problem(r#"{"limit": 18446744073709551615}"#),
            "params.limit: out of range for an integer"
        );
        assert_eq!(
            problem(r#"{"on": "yes"}"#),
            "params.on: expected a boolean, got a string"
        );
        assert_eq!(
            problem(r#"{"any": []}"#),
            "params.any: expected an object, got an array"
        );
        assert_eq!(problem("[]"), "params: expected an object, got an array");
        assert_eq!(problem("null"), "params: expected an object, got null");
    }

    #[test]
    fn an_array_of_the_fields_is_not_an_object() {
        assert_eq!(problem(r#"[["a"]]"#), "params: expected an object, got an array");
        assert_eq!(
            problem(r#"{"inner": [["a"]]}"#),
            "params.inner: expected an object, got an array"
        );
    }

    #[test]
    fn no_value_is_repeated() {
        let text = r#"{"names": "SECRET, expected `SECRET` at line 1"}"#;
        assert_eq!(problem(text), "params.names: expected an array, got a string");
    }

    #[test]
    fn broken_syntax_is_reported_with_its_place() {
        assert_eq!(problem("{"), "params: EOF while parsing an object at line 1 column 1");
        assert_eq!(problem(r#"{"names": [}"#), "params: expected value at line 1 column 12");
        assert_eq!(problem("{} x"), "params: trailing characters at line 1 column 4");
        assert_eq!(
            problem(r#"{"names": [], "names": []}"#),
            "params: duplicate field names"
        );
        let deep = format!(r#"{{"any": {{"x": {}{}}}}}"#, "[".repeat(200), "]".repeat(200));
        assert!(problem(&deep).contains("recursion limit exceeded"));
    }

    #[test]
    fn null_is_absent_and_unknown_fields_are_ignored() {
        let text = r#"{"names": null, "inner": null, "limit": null, "other": {"x": [1]}}"#;
        assert!(read::<Object<Outer>>("params", text).unwrap().0.names.is_none());
    }
}
