//! `docs/simulator.md` leaves nothing out.

use bugle_sim::{BlindStats, Config, Fault, Latency, Outcome, Settings, Sim};
use serde_json::{Value, json};

use crate::client::Http2;

const DOCS: &str = include_str!("../../../../docs/simulator.md");

fn assert_row(name: &str) {
    assert!(
        DOCS.lines().any(|line| line.starts_with('|') && line.contains(name)),
        "no table has {name}"
    );
}

fn names(value: &Value) -> Vec<String> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(|name| format!("`{name}`"))
        .collect()
}

#[tokio::test]
async fn every_prefix_setting_figure_and_endpoint_has_a_row() {
    for fault in Fault::ALL {
        assert_row(&format!("`{}-`", fault.name()));
    }
    for outcome in Outcome::ALL {
        assert!(DOCS.contains(outcome.name()), "{}", outcome.name());
    }
    let sim = Sim::start(Config {
        blind: true,
        ..Config::default()
    })
    .await
    .unwrap();
    let client = Http2::open(&sim).await;
    let (settings, stats) = (client.get("/sim/settings").await, client.get("/sim/stats").await);
    let blind = serde_json::to_value(BlindStats::default()).unwrap();
    for name in [settings.json(), stats.json(), blind].iter().flat_map(names) {
        assert_row(&name);
    }
    for line in client.get("/sim/help").await.text.lines() {
        if let Some(path) = line.split_whitespace().nth(1).filter(|path| path.starts_with("/sim")) {
            assert_row(path);
        }
    }
}

#[test]
fn the_settings_of_the_documentation_are_taken() {
    let mut taken = 0;
    for text in DOCS.split('`').filter(|text| text.starts_with('{')) {
        let Ok(patch) = serde_json::from_str::<Value>(text) else {
            continue;
        };
        let is_latency = serde_json::from_value::<Latency>(patch.clone()).is_ok();
        let patch = if is_latency { json!({ "latency": patch }) } else { patch };
        if patch.get("name").is_none() && patch.as_object().is_some_and(|patch| !patch.is_empty()) {
            Settings::default()
                .merged(&patch)
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            taken += 1;
        }
    }
    for text in DOCS.split("-d '").skip(1) {
        let patch = serde_json::from_str(text.split_once('\'').unwrap().0).unwrap();
        Settings::default().merged(&patch).unwrap();
        taken += 1;
    }
    assert!(taken >= 8, "{taken}");
}
