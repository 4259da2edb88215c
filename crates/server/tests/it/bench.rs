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
