use std::collections::BTreeSet;

use super::*;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config.example.toml")
}

fn keys(table: &toml::Table) -> BTreeSet<String> {
    let section = |(name, value): (&String, &toml::Value)| -> Vec<String> {
        match value {
            toml::Value::Table(section) => section.keys().map(|key| format!("{name}.{key}")).collect(),
            _ => vec![name.clone()],
        }
    };
    table.iter().flat_map(section).collect()
}

#[test]
fn the_example_has_every_key_with_its_default() {
    let example_table: toml::Table = std::fs::read_to_string(example()).unwrap().parse().unwrap();
    let defaults = toml::Table::try_from(Settings::default()).unwrap();
    let mut known = keys(&defaults);
    known.insert("api.keys".to_owned());
    assert_eq!(keys(&example_table), known);
    let loaded = toml::Table::try_from(Settings::load(Some(&example())).unwrap()).unwrap();
    assert_eq!(loaded, defaults);
}

#[test]
fn the_defaults_are_valid() {
    Settings::default().validate().unwrap();
}

fn problem(toml: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bugle.toml");
    std::fs::write(&path, toml).unwrap();
    format!("{:#}", Settings::load(Some(&path)).unwrap_err())
}

#[test]
fn what_is_wrong_is_named_by_its_key() {
    for (toml, named) in [
        ("[sender]\nbackof = \"1s\"", "backof"),
        ("[sender]\nbackoff = \"1 week\"", "sender.backoff"),
        ("[sender]\nmax_attempts = 0", "sender.max_attempts"),
        ("[http]\nlisten = \"nowhere\"", "http.listen"),
        ("[fanout]\nwindow = 5", "fanout.window"),
        ("[store]\nurl = \"mysql://x\"", "store.url"),
        ("[push]\nlifetime = \"29d\"", "push.lifetime"),
        ("[sender]\ngrace = \"5s\"", "sender.grace"),
        ("[apps.shop]\nkeys = []", "apps.shop"),
        ("[nonsense]\na = 1", "nonsense"),
        ("[fcm]\nendpoint = \"fcm\"", "fcm.endpoint"),
        ("[limits]\nrecipients = 0", "limits.recipients"),
        ("roles = []", "roles: expected at least one"),
        ("roles = [\"api\", \"worker\"]", "roles: expected some of"),
        ("roles = [\"api\"]", "roles: with SQLite"),
    ] {
        let problem = problem(toml);
        assert!(problem.contains(named), "{toml:?} gave {problem:?}");
    }
}

#[test]
fn a_missing_file_is_said_to_be_missing() {
    let problem = format!(
        "{:#}",
        Settings::load(Some(Path::new("/nowhere/bugle.toml"))).unwrap_err()
    );
    assert!(
        problem.contains("/nowhere/bugle.toml") && problem.contains("no such file"),
        "{problem}"
    );
}

#[test]
fn no_error_shows_the_line_of_a_password() {
    for toml in [
        "[store]\nurl = \"postgres://u:SECRET@db/bugle",
        "[store]\nurl = postgres://u:SECRET@db/bugle",
        "[store]\nurl = \"SECRET\"",
        "[store]\nurl = \"postgres://u@db/bugle?pasword=SECRET\"",
        "[store]\nurl = \"postgres://db/bugle\"\nreplica_url = \"u:SECRET@db/bugle\"",
        "[queue]\nurl = \":SECRET@cache\"",
    ] {
        let problem = problem(toml);
        assert!(!problem.contains("SECRET"), "{toml:?} gave {problem:?}");
        assert!(
            problem.contains(".url: ") || problem.contains("replica_url: ") || problem.contains("line 2, column "),
            "{problem}"
        );
    }
}
