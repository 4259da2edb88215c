//! What a process does: the key `roles`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One of the three things that a process may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Serves the API.
    Api,
    /// Walks audiences, ends what is over, forgets what is old.
    Fanout,
    /// Sends.
    Sender,
}

impl Role {
    pub(crate) const ALL: [Self; 3] = [Self::Api, Self::Fanout, Self::Sender];

    fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Fanout => "fanout",
            Self::Sender => "sender",
        }
    }

    fn parse(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|role| role.name() == name);
        known.ok_or_else(|| format!("roles: expected some of api, fanout and sender, got {name:?}"))
    }
}

/// At least one role, each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Roles([bool; 3]);

impl Roles {
    pub(crate) const ALL: Self = Self([true; 3]);

    /// Has the process this role?
    pub(crate) fn has(self, role: Role) -> bool {
        self.0[role as usize]
    }

    fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut roles = Self([false; 3]);
        for name in names {
            roles.0[Role::parse(name)? as usize] = true;
        }
        if roles.0 == [false; 3] {
            return Err("roles: expected at least one of api, fanout and sender".to_owned());
        }
        Ok(roles)
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        Role::ALL
            .into_iter()
            .filter(move |role| self.has(*role))
            .map(Role::name)
    }
}

impl Default for Roles {
    fn default() -> Self {
        Self::ALL
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(", "))
    }
}

impl Serialize for Roles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

/// A list, or one text as an environment variable holds it.
impl<'de> Deserialize<'de> for Roles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "roles: expected a list of texts, or one text with commas")]
        enum Names {
            List(Vec<String>),
            Text(String),
        }
        let roles = match Names::deserialize(deserializer)? {
            Names::List(names) => Self::parse(names.iter().map(String::as_str)),
            Names::Text(text) => Self::parse(text.split(',').map(str::trim).filter(|name| !name.is_empty())),
        };
        roles.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Roles, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn roles_are_a_list_or_one_text() {
        let two = read(r#"["sender", "api", "api"]"#).unwrap();
        assert_eq!(two, read(r#""api, sender,""#).unwrap());
        assert_eq!(two.to_string(), "api, sender");
        assert!(two.has(Role::Api) && two.has(Role::Sender) && !two.has(Role::Fanout));
        let written = serde_json::to_string(&Roles::ALL).unwrap();
        assert_eq!(written, r#"["api","fanout","sender"]"#);
        assert_eq!(read(&written).unwrap(), Roles::default());
    }

    #[test]
    fn no_role_and_an_unknown_one_are_refused_by_the_keys_name() {
        for (json, said) in [
            ("[]", "roles: expected at least one"),
            ("\"\"", "roles: expected at least one"),
            ("\" , \"", "roles: expected at least one"),
            ("[\"api\", \"\"]", "got \"\""),
            (
                "[\"worker\"]",
                "roles: expected some of api, fanout and sender, got \"worker\"",
            ),
            ("\"api;sender\"", "got \"api;sender\""),
            ("5", "roles: expected a list"),
        ] {
            let problem = read(json).unwrap_err();
            assert!(
                problem.contains("roles: ") && problem.contains(said),
                "{json}: {problem}"
            );
        }
    }
}
