//! One device: a row of CSV, a line of NDJSON, a command of the API.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// The columns that are written, in this order: the id first, to find it; last one that cannot hold a line break, to tell a row that broke off.
pub(super) const COLUMNS: [&str; 9] = [
    "id", "token", "platform", "provider", "user", "channels", "meta", "timezone", "locale",
];

/// Columns that are read over: what an export of another program or a file of set-aside lines has beside a device.
const IGNORED: [&str; 4] = ["line", "problem", "created_at", "updated_at"];

/// A device as it stands in a file. What is absent is not sent.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DeviceLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) channels: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) topics: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) meta: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timezone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) locale: Option<String>,
    #[serde(skip_serializing)]
    pub(super) created_at: Ignored,
    #[serde(skip_serializing)]
    pub(super) updated_at: Ignored,
}

/// Anything at all.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl DeviceLine {
    /// Reads a line of NDJSON.
    pub(super) fn of_json(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| {
            let text = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            format!(
                "{} at column {}",
                text.strip_suffix(&place).unwrap_or(&text),
                error.column()
            )
        })
    }

    /// Reads a row of CSV.
    pub(super) fn of_row(columns: &[Column], row: &csv::ByteRecord) -> Result<Self, String> {
        if row.len() != columns.len() {
            return Err(format!("expected {} columns, got {}", columns.len(), row.len()));
        }
        let mut line = Self::default();
        for (column, field) in columns.iter().zip(row) {
            let name = column.name();
            let text = std::str::from_utf8(field).map_err(|_| format!("{name}: not UTF-8"))?;
            if !text.is_empty() {
                column.fill(&mut line, text)?;
            }
        }
        Ok(line)
    }

    /// The command that registers it.
    pub(super) fn command(&self) -> Result<String, String> {
        let params = serde_json::to_string(self).map_err(|error| error.to_string())?;
        Ok(format!("{{\"device_register\":{params}}}"))
    }

    /// As a row of CSV, in the order of [`COLUMNS`].
    pub(super) fn row(&self) -> serde_json::Result<[String; 9]> {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let meta = self.meta.as_ref().filter(|meta| !meta.is_empty());
        Ok([
            text(&self.id),
            text(&self.token),
            text(&self.platform),
            text(&self.provider),
            text(&self.user),
            joined(self.channels.as_deref().unwrap_or_default()),
            meta.map(serde_json::to_string).transpose()?.unwrap_or_default(),
            text(&self.timezone),
            text(&self.locale),
        ])
    }
}

/// A column of a CSV file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Id,
    Token,
    Platform,
    Provider,
    User,
    Channels,
    Topics,
    Meta,
    Timezone,
    Locale,
    Ignored,
}

impl Column {
    /// Reads a header.
    pub(super) fn of_header(header: &csv::ByteRecord) -> Result<Vec<Self>, String> {
        let names: Vec<String> = header
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim().to_ascii_lowercase())
            .collect();
        let mut columns = Vec::with_capacity(names.len());
        for (at, name) in names.iter().enumerate() {
            if names[..at].contains(name) {
                return Err(format!("the header has the column {name:?} twice"));
            }
            columns.push(Self::of_name(name).ok_or_else(|| {
                format!(
                    "the first line must name the columns; {name:?} is none of {}, topics",
                    COLUMNS.join(", ")
                )
            })?);
        }
        for (needed, name) in [(Self::Token, "token"), (Self::Platform, "platform")] {
            if !columns.contains(&needed) {
                return Err(format!("the header has no column {name}"));
            }
        }
        Ok(columns)
    }

    fn of_name(name: &str) -> Option<Self> {
        const ALL: [Column; 10] = [
            Column::Id,
            Column::Token,
            Column::Platform,
            Column::Provider,
            Column::User,
            Column::Channels,
            Column::Topics,
            Column::Meta,
            Column::Timezone,
            Column::Locale,
        ];
        if IGNORED.contains(&name) {
            return Some(Self::Ignored);
        }
        ALL.into_iter().find(|column| column.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Token => "token",
            Self::Platform => "platform",
            Self::Provider => "provider",
            Self::User => "user",
            Self::Channels => "channels",
            Self::Topics => "topics",
            Self::Meta => "meta",
            Self::Timezone => "timezone",
            Self::Locale => "locale",
            Self::Ignored => "",
        }
    }

    fn fill(self, line: &mut DeviceLine, text: &str) -> Result<(), String> {
        // A line break in any other field means that a quotation mark before it was not closed.
        if !matches!(self, Self::Meta | Self::Ignored) && text.contains(['\n', '\r']) {
            return Err(format!(
                "{}: a line break, or a quotation mark that is not closed",
                self.name()
            ));
        }
        let owned = || Some(text.to_owned());
        match self {
            Self::Id => line.id = owned(),
            Self::Token => line.token = owned(),
            Self::Platform => line.platform = owned(),
            Self::Provider => line.provider = owned(),
            Self::User => line.user = owned(),
            Self::Channels => line.channels = Some(split(text)),
            Self::Topics => line.topics = Some(split(text)),
            Self::Meta => {
                let meta = serde_json::from_str(text);
                line.meta = Some(meta.map_err(|_| "meta: expected a JSON object of texts, like {\"plan\": \"free\"}")?);
            }
            Self::Timezone => line.timezone = owned(),
            Self::Locale => line.locale = owned(),
            Self::Ignored => {}
        }
        Ok(())
    }
}

/// Names with `;` between them; `\;` and `\\` stand for the characters themselves.
fn joined(names: &[String]) -> String {
    let escaped = names.iter().map(|name| name.replace('\\', "\\\\").replace(';', "\\;"));
    escaped.collect::<Vec<_>>().join(";")
}

fn split(text: &str) -> Vec<String> {
    let (mut names, mut name, mut chars) = (Vec::new(), String::new(), text.chars());
    while let Some(char) = chars.next() {
        match char {
            '\\' => name.extend(chars.next()),
            ';' => names.push(std::mem::take(&mut name)),
            char => name.push(char),
        }
    }
    names.push(name);
    names.retain(|name| !name.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(header: &[&str]) -> Result<Vec<Column>, String> {
        Column::of_header(&csv::ByteRecord::from(header.to_vec()))
    }

    #[test]
    fn a_row_and_a_json_line_are_the_same_device() {
        let header = columns(&["Token", "platform", "channels", "meta", "user", "created_at"]).unwrap();
        let row = csv::ByteRecord::from(vec!["t", "ios", r"a;b\;c;\\", r#"{"k":"v"}"#, "", "yesterday"]);
        let of_row = DeviceLine::of_row(&header, &row).unwrap();
        let json = br#"{"token":"t","platform":"ios","channels":["a","b;c","\\"],"meta":{"k":"v"},"created_at":5}"#;
        assert_eq!(of_row, DeviceLine::of_json(json).unwrap());
        assert_eq!(
            of_row.command().unwrap(),
            r#"{"device_register":{"token":"t","platform":"ios","channels":["a","b;c","\\"],"meta":{"k":"v"}}}"#
        );
    }

    #[test]
    fn a_written_row_is_read_as_it_was() {
        let json = br#"{"id":"i","token":"t","platform":"web","provider":"fcm","user":"u \"x\", y","channels":["a;b","c\\"],"meta":{"k":"1\n2"},"timezone":"UTC","locale":"de"}"#;
        let device = DeviceLine::of_json(json).unwrap();
        let row = csv::ByteRecord::from(device.row().unwrap().to_vec());
        assert_eq!(DeviceLine::of_row(&columns(&COLUMNS).unwrap(), &row).unwrap(), device);
    }

    #[test]
    fn a_wrong_header_is_refused_in_words() {
        assert!(
            columns(&["token", "platfrom"])
                .unwrap_err()
                .contains("\"platfrom\" is none of")
        );
        assert!(columns(&["token"]).unwrap_err().contains("no column platform"));
        assert!(columns(&["token", "platform", "token"]).unwrap_err().contains("twice"));
    }

    #[test]
    fn a_wrong_line_is_refused_in_words() {
        let wrong = |line: &str| DeviceLine::of_json(line.as_bytes()).unwrap_err();
        assert!(wrong(r#"{"tokn":"t"}"#).contains("unknown field `tokn`"));
        assert!(wrong(r#"{"token":5}"#).contains("expected a string"));
        assert!(wrong("{").contains("EOF"));
        let header = columns(&["token", "platform", "meta"]).unwrap();
        let row = |fields: &[&str]| DeviceLine::of_row(&header, &csv::ByteRecord::from(fields.to_vec())).unwrap_err();
        assert!(row(&["t", "ios"]).contains("expected 3 columns, got 2"));
        assert!(row(&["t", "ios", "{"]).contains("JSON object"));
        assert!(row(&["t\nu", "ios", ""]).contains("quotation mark"));
    }
}
