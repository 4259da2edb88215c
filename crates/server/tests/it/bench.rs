//! `bugle bench`.

use serde_json::Value;

use crate::world::bugle;

#[test]
fn a_benchmark_prints_a_table_and_writes_the_same_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("result.json");
    let done = bugle(dir.path())
        .args([
            "bench",
            "send-channel",
            "--rounds",
            "2",
            "--count-void",
            "--devices",
            "1000",
            "--dir",
            ".",
        ])
        .args(["--json".as_ref(), file.as_os_str()])
        .env("PATH", std::env::var_os("PATH").unwrap())
        .output()
        .unwrap();
    let (text, problems) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(done.status.success(), "{text}\n{problems}");
    let result: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let measures = result["measures"].as_array().unwrap();
    let pushes = measures.iter().find(|measure| measure["measure"] == "pushes").unwrap();
    assert_eq!(pushes["rounds"].as_array().unwrap().len(), 2);
    assert!(pushes["median"].as_f64().unwrap() > 100.0, "{pushes}");
    for measure in measures {
        let name = measure["measure"].as_str().unwrap();
        assert!(text.contains(name), "{name} is not in the table:\n{text}");
    }
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["result.json"], "the databases are removed");
}

/// Runs scenarios with an audience of so many, once. Answers the JSON.
fn measured(scenarios: &[&str], devices: &str) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("result.json");
    let done = bugle(dir.path())
        .arg("bench")
        .args(scenarios)
        .args(["--rounds", "1", "--devices", devices, "--dir", "."])
        .args(["--json".as_ref(), file.as_os_str()])
        .env("PATH", std::env::var_os("PATH").unwrap())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap()
}

fn median(result: &Value, name: &str) -> f64 {
    found(result, name).unwrap_or_else(|| panic!("no {name} in {result:#}"))
}

fn found(result: &Value, name: &str) -> Option<f64> {
    let measures = result["measures"].as_array().unwrap();
    let measure = measures.iter().find(|measure| measure["measure"] == name)?;
    measure["median"].as_f64()
}

#[test]
fn audiences_are_scanned_slow_answers_waited_for_and_growth_is_tenfold() {
    let result = measured(&["audience-scan", "slow-provider", "growth"], "1000");
    assert!(median(&result, "channel of 1000: walked and read") > 1_000.0);
    assert!(median(&result, "channel of 1: walked and read") > 0.0);
    // A mean of 50 ms was asked for; a machine that is busy is later.
    assert!(median(&result, "simulator answered after, mean") > 45.0);
    let share = median(&result, "slow ÷ what the streams allow");
    assert!(share > 0.0 && share < 1.0, "{share}");
    assert!(median(&result, "3000 devices: time") > median(&result, "300 devices: time"));
    assert!(median(&result, "memory, large ÷ small") > 0.5);
}

#[test]
fn urgent_pushes_are_timed_from_their_request_to_their_arrival() {
    let result = measured(&["urgent-during-broadcast"], "20000");
    let of = |name: &str| median(&result, name);
    assert!(of("idle, pushes") > 50.0 && of("during a broadcast, pushes") > 0.0);
    // No clock is so wrong that a push arrives before it was asked for, or only after it was waited for.
    assert!(of("idle, median") > 0.05 && of("idle, longest") < 30_000.0);
    assert!(of("idle, median") <= of("idle, 99 %") && of("idle, 99 %") <= of("idle, longest"));
    // A machine that is fast has sent the smaller one before it is looked at: then that is said.
    let rates = found(&result, "two broadcasts: rates, slower ÷ faster");
    match rates {
        Some(rates) => assert!(rates > 0.0 && rates <= 1.0, "{rates}"),
        None => assert!(result["notes"].to_string().contains("over too soon"), "{result:#}"),
    }
    let series = result["series"].as_array().unwrap();
    let larger = series
        .iter()
        .find(|series| series["series"] == "larger of two broadcasts")
        .unwrap();
    assert_eq!(larger["points"].as_array().unwrap().last().unwrap()[1], 20_000.0);
}

#[test]
fn a_wrong_use_is_answered_with_what_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let problem = |args: &[&str]| {
        let done = bugle(dir.path()).arg("bench").args(args).output().unwrap();
        assert!(!done.status.success());
        String::from_utf8(done.stderr).unwrap()
    };
    assert!(problem(&["send-chanel"]).contains("send-channel"));
    assert!(problem(&["--json", "no/such/dir/file"]).contains("--json: there is no directory no/such/dir"));
    assert!(problem(&["--dir", "nowhere"]).contains("--dir: there is no directory nowhere"));
    assert!(problem(&["--bugle", "nothing"]).contains("--bugle: there is no file nothing"));
    assert!(problem(&["--rounds", "0"]).contains("1..=100"));
}
