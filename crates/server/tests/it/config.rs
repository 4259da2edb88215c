//! Starting: without any configuration, and with wrong ones.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use serde_json::json;

use crate::world::{Api, address, bugle, simulator};

/// Starts `bugle serve` without any configuration but the port; answers the process, the lines of its log up to the address, and the API.
fn first_start(dir: &std::path::Path) -> (std::process::Child, String, std::net::SocketAddr) {
    let mut child = bugle(dir)
        .arg("serve")
        .env("BUGLE__HTTP__LISTEN", "127.0.0.1:0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut all = String::new();
    let addr = loop {
        let line = log.next().expect("the server ended").unwrap();
        all += &line;
        if let Some(addr) = address(&line) {
            break addr;
        }
    };
    std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
    (child, all, addr)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_configuration_it_runs_prints_a_key_once_and_answers_108_to_a_send() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, _, addr) = first_start(dir.path());
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let key = line.trim().rsplit(' ').next().unwrap().to_owned();
    assert!(line.starts_with("API key") && key.len() == 32, "{line}");
    assert!(dir.path().join("bugle-data/bugle.db").is_file());
    let api = Api::new(addr, &key);
    let device = api
        .call("device_register", &json!({"platform": "android", "token": "t"}))
        .await;
    let push =
        json!({"recipient": {"device_ids": [device["id"]]}, "notification": {"fcm": {"notification": {"title": "t"}}}});
    let answer = api.answer("send_push_notification", &push).await;
    assert_eq!(answer["error"]["code"], 108, "{answer}");
    let (status, metrics) = api.get("/metrics").await;
    assert!(status.is_success() && metrics.contains("bugle_"), "{metrics}");
    assert!(api.get("/health").await.0.is_success());
    child.kill().unwrap();
    child.wait().unwrap();

    let (mut child, _, addr) = first_start(dir.path());
    let api = Api::new(addr, &key);
    assert_eq!(
        api.call("device_list", &json!({})).await["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    child.kill().unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.wait().unwrap();
    assert_eq!(out, "", "the key is printed once");
}

fn refused(settings: &[(&str, &str)], args: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let output = bugle(dir.path())
        .args(args)
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_stop_the_start_and_name_the_key() {
    let dir = tempfile::tempdir().unwrap();
    simulator(dir.path(), false, json!({})).await;
    let credentials = dir.path().join("sim/service-account.json");
    for (name, value, named) in [
        ("BUGLE__SENDER__GRACE", "soon", "sender.grace"),
        ("BUGLE__SENDER__GRASE", "5s", "grase"),
        (
            "BUGLE__FCM__CREDENTIALS_FILE",
            "/nowhere/key.json",
            "fcm.credentials_file",
        ),
        ("BUGLE__TLS__EXTRA_CA_FILE", "/nowhere/ca.pem", "tls.extra_ca_file"),
        ("BUGLE__STORE__URL", "oracle://x", "store.url"),
        ("BUGLE_STORE__URL", "sqlite", "BUGLE__STORE__URL"),
        ("BUGLE__LOG__LEVEL", "loud,=,", "log.level"),
        ("BUGLE__HTTP__LISTEN", "192.0.2.1:80", "http.listen"),
    ] {
        let mut settings = vec![("BUGLE__HTTP__LISTEN", "127.0.0.1:0"), (name, value)];
        if named.starts_with("tls") {
            // Read only where a provider is on.
            settings.push(("BUGLE__FCM__CREDENTIALS_FILE", credentials.to_str().unwrap()));
        }
        let said = refused(&settings, &["serve"]);
        assert!(said.contains(named), "{name}={value} gave {said:?}");
    }
    let said = refused(&[], &["serve", "--config", "missing.toml"]);
    assert!(said.contains("missing.toml"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_data_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, _, _) = first_start(dir.path());
    let output = bugle(dir.path())
        .arg("serve")
        .env("BUGLE__HTTP__LISTEN", "127.0.0.1:0")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("bugle-data"), "{said}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_demonstration_shows_pushes_arriving() {
    let dir = tempfile::tempdir().unwrap();
    let output = bugle(dir.path())
        .args(["demo", "--once", "--devices", "90", "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        said.contains("90 messages for 90 tokens, 0 twice") && said.contains("fcm android"),
        "{said}"
    );
}
