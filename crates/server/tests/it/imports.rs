//! Who may import whom: the picture in ARCHITECTURE.md, checked.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// For each crate the workspace crates that it may depend on, without `bugle-`. `testkit` is for tests only, and `server` may use all.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("store", &["model"]),
    ("queue", &["model"]),
    ("provider", &["model"]),
    ("service", &["model", "store", "provider"]),
    ("api", &["model", "service"]),
    ("fanout", &["model", "store", "queue"]),
    ("sender", &["model", "store", "queue", "provider"]),
    ("sim", &[]),
    (
        "server",
        &[
            "model", "store", "queue", "provider", "service", "api", "fanout", "sender", "sim",
        ],
    ),
    ("testkit", &["model", "store", "queue"]),
];

/// Neighbours that a crate's tests need and the crate must not be built on: the API's look into its store, the client's speak to the simulator.
const FOR_TESTS: &[(&str, &str)] = &[("api", "store"), ("provider", "sim")];

#[test]
fn nobody_imports_what_the_architecture_forbids() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> = ALLOWED
        .iter()
        .map(|(name, may)| (*name, may.iter().copied().collect()))
        .collect();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let ours = |name: &Value| name.as_str().unwrap().strip_prefix("bugle-").map(str::to_owned);
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = ours(&package["name"]).unwrap();
        let may = allowed
            .get(name.as_str())
            .unwrap_or_else(|| panic!("crate {name} has no row here"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let Some(on) = ours(&dependency["name"]) else { continue };
            let dev = dependency["kind"] == "dev";
            let fine = may.contains(on.as_str())
                || dev && (on == "testkit" || FOR_TESTS.contains(&(name.as_str(), on.as_str())));
            assert!(
                fine,
                "{name} must not depend on {on}{}",
                if dev { " (not even for tests)" } else { "" }
            );
        }
        seen.insert(name);
    }
    assert_eq!(seen, allowed.keys().map(ToString::to_string).collect());
}
