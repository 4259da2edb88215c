//! The documentation against the code: what it names exists, and what exists is named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::world::bugle;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// A page's text, by its path in the repository.
pub(crate) fn page(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Files below a folder whose names end so.
fn files(below: &Path, end: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, end, found);
        } else if path.to_str().unwrap().ends_with(end) {
            found.push(path);
        }
    }
}

/// What stands between single backticks, outside of code blocks.
fn quoted(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    prose.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every key of the example, with its default as the documentation writes it.
fn keys() -> BTreeMap<String, String> {
    let example: toml::Table = page("config.example.toml").parse().unwrap();
    let mut found = BTreeMap::new();
    let mut add = |key: String, default: &toml::Value| {
        let default = match default {
            toml::Value::String(text) if text.is_empty() => "empty".to_owned(),
            toml::Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        found.insert(key, default);
    };
    for (name, value) in &example {
        match value {
            toml::Value::Table(section) => {
                for (key, default) in section {
                    add(format!("{name}.{key}"), default);
                }
            }
            default => add(name.clone(), default),
        }
    }
    found
}

#[test]
fn every_key_of_the_configuration_is_explained_with_its_default() {
    let text = page("docs/configuration.md");
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        rows.insert(cells[0].trim_matches('`').to_owned(), cells[1].to_owned());
    }
    assert_eq!(rows, keys());
}

#[test]
fn no_page_names_a_key_that_does_not_exist() {
    let keys = keys();
    let sections: BTreeSet<&str> = keys.keys().map(|key| key.split('.').next().unwrap()).collect();
    // The others speak of code, where `store.accept` is a call.
    let about_code = |name: &String| name.starts_with("docs/decisions/") || name == "ARCHITECTURE.md";
    for name in pages().into_iter().filter(|name| !about_code(name)) {
        for word in quoted(&page(&name)) {
            let (key, _) = word.split_once([' ', '=']).unwrap_or((&word, ""));
            let Some((section, rest)) = key.split_once('.') else {
                continue;
            };
            // `api.md` and the like are files.
            let is_key = sections.contains(section)
                && rest.chars().all(|c| c.is_ascii_lowercase() || c == '_')
                && !matches!(rest, "rs" | "md" | "toml" | "db");
            assert!(!is_key || keys.contains_key(key), "{name}: {key}");
        }
    }
}

/// All `"bugle_…"` of all crates' code.
fn metrics() -> BTreeSet<String> {
    let mut sources = Vec::new();
    files(&root().join("crates"), "metrics.rs", &mut sources);
    let mut found = BTreeSet::new();
    for path in sources {
        let text = std::fs::read_to_string(path).unwrap();
        let texts = text.split('"').skip(1).step_by(2);
        found.extend(texts.filter(|text| text.starts_with("bugle_")).map(str::to_owned));
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

#[test]
fn every_metric_is_explained_and_no_other() {
    let text = page("docs/operations.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `bugle_"));
    let rows: BTreeSet<String> = rows
        .map(|row| format!("bugle_{}", row.split('`').next().unwrap()))
        .collect();
    assert_eq!(rows, metrics());
    let known = metrics();
    for name in pages() {
        let text = page(&name);
        let parts = text.split("bugle_").skip(1);
        for part in parts {
            let end = part
                .find(|c: char| !(c.is_ascii_lowercase() || c == '_'))
                .unwrap_or(part.len());
            let word = format!("bugle_{}", &part[..end]);
            let is_metric = word.matches('_').count() > 1;
            assert!(!is_metric || known.contains(&word), "{name}: {word}");
        }
    }
}

/// All pages for readers, from the root of the repository.
fn pages() -> Vec<String> {
    let root = root();
    let mut found = Vec::new();
    files(&root.join("docs"), ".md", &mut found);
    let mut names: Vec<String> = found
        .iter()
        .map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned())
        .collect();
    names.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_owned));
    names
}

/// A heading's address, as code hosts make it.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .replace(|c: char| !(c.is_alphanumeric() || " -_".contains(c)), "");
    kept.replace(' ', "-")
}

#[test]
fn every_link_leads_somewhere() {
    for name in pages() {
        let text = page(&name);
        let here = root().join(&name);
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("http") {
                continue;
            }
            let (path, place) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() {
                here.clone()
            } else {
                here.parent().unwrap().join(path)
            };
            assert!(target.exists(), "{name}: {link}");
            if !place.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let known = text
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .any(|line| anchor(line) == place);
                assert!(known, "{name}: {link}: no such heading");
            }
        }
    }
}

#[test]
fn every_source_file_that_the_pages_name_exists() {
    let crates = root().join("crates");
    let known: BTreeSet<String> = std::fs::read_dir(&crates)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = page(name);
        // What is named as a room that is left, or as a pattern, does not exist yet.
        let words = text
            .lines()
            .filter(|line| !line.starts_with("Rooms that are left"))
            .flat_map(quoted);
        for word in words.filter(|word| word.contains('/') && !word.contains(['<', '{', ' ', '*', '$'])) {
            let first = word.split('/').next().unwrap();
            let there = if known.contains(first) {
                crates.join(&word)
            } else {
                root().join(&word)
            };
            let is_path = known.contains(first) || ["crates", "docs", "scripts", "packaging"].contains(&first);
            assert!(!is_path || there.exists(), "{name}: {word}");
        }
    }
}

/// The commands that `bugle --help` lists.
fn commands() -> BTreeSet<String> {
    let output = bugle(&root()).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let (_, list) = help.split_once("Commands:\n").unwrap();
    list.lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_is_in_the_readme_and_no_page_names_another() {
    let commands = commands();
    let readme = page("README.md");
    for command in &commands {
        assert!(
            readme.contains(&format!("`bugle {command}")),
            "README.md: bugle {command} is missing"
        );
    }
    for name in pages() {
        for word in quoted(&page(&name)) {
            let mut words = word.split_whitespace();
            if words.next() == Some("bugle")
                && let Some(command) = words.next().filter(|command| !command.starts_with('-'))
            {
                // `bugle devices import|export` and the like.
                assert!(commands.contains(command), "{name}: {word}");
            }
        }
    }
}

#[test]
fn the_unit_and_the_image_stop_no_sooner_than_the_server_does() {
    let text = page("packaging/bugle.service");
    let seconds = |line: &str| line.trim_end_matches('s').parse::<u64>().unwrap();
    let stop = text
        .lines()
        .find_map(|line| line.strip_prefix("TimeoutStopSec="))
        .map(seconds)
        .unwrap();
    let grace = keys()["sender.grace"].trim_matches(['`', 's']).parse::<u64>().unwrap();
    assert!(stop > grace, "TimeoutStopSec={stop}, sender.grace = {grace}s");
    let files = text
        .lines()
        .find_map(|line| line.strip_prefix("LimitNOFILE="))
        .map(seconds)
        .unwrap();
    assert!(files > keys()["http.max_connections"].trim_matches('`').parse().unwrap());
    let image = page("Dockerfile");
    for expected in [
        "USER 65532",
        "VOLUME /var/lib/bugle",
        "BUGLE__DATA__DIR=/var/lib/bugle",
        "--locked",
    ] {
        assert!(image.contains(expected), "Dockerfile: {expected}");
    }
}
