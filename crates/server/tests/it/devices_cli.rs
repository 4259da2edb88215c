//! `bugle devices`, against the real server: whole files, wrong files, and commands that are killed in the middle.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{Api, KEY, Server, World, asking, run};

/// A server without a provider.
fn server() -> Server {
    Server::start(tempfile::tempdir().unwrap(), BTreeMap::new())
}

fn devices(server: &Server, args: &[&str]) -> Command {
    asking(server, "devices", args)
}

async fn count(server: &Server) -> u64 {
    let asked = json!({"limit": 1, "include_total_count": true});
    let listed = Api::new(server.addr, KEY).call("device_list", &asked).await;
    listed["total_count"].as_u64().unwrap()
}

const CSV: &str = "token,platform,user,channels,meta,timezone,locale,id\n\
    t1,android,42,news;a\\;b,\"{\"\"plan\"\": \"\"free\"\"}\",Europe/Berlin,de,phone-1\n\
    t2,ios,,,,,,phone-2\n\
    t3,web,\"a, \"\"b\"\"\",news,,,,phone-3\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_imported_is_exported_and_imported_again_as_it_was() {
    let (first, second) = (server(), server());
    let dir = first.dir.path();
    fs::write(dir.join("in.csv"), CSV).unwrap();
    let (ok, out, err) = run(devices(&first, &["import", "in.csv"]));
    assert!(ok && out.contains("registered 3 devices"), "{out}{err}");
    assert!(!dir.join("in.csv.progress").exists() && !dir.join("in.csv.rejected").exists());
    let listed = Api::new(first.addr, KEY)
        .call(
            "device_list",
            &json!({"ids": ["phone-1"], "include_meta": true, "include_topics": true}),
        )
        .await;
    let device = &listed["items"][0];
    assert_eq!(
        (&device["token"], &device["user"], &device["meta"]),
        (&json!("t1"), &json!("42"), &json!({"plan": "free"}))
    );
    assert_eq!(device["topics"], json!(["a;b", "news"]), "{device}");

    for name in ["out.csv", "out.ndjson"] {
        let (ok, out, err) = run(devices(&first, &["export", name]));
        assert!(ok && out.contains("3 devices are in"), "{out}{err}");
        let path = dir.join(name);
        let there = second.dir.path().join(name);
        fs::copy(&path, &there).unwrap();
        let (ok, _, err) = run(devices(&second, &["import", name]));
        assert!(ok, "{err}");
        let (ok, _, err) = run(devices(&second, &["export", "--force", name]));
        assert!(ok, "{err}");
        assert_eq!(fs::read_to_string(&path).unwrap(), fs::read_to_string(&there).unwrap());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600,
            "it holds tokens"
        );
    }
    let (ok, _, err) = run(devices(&first, &["export", "out.csv"]));
    assert!(
        !ok && err.contains("is there already") && err.contains("--force"),
        "{err}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lines_are_told_by_number_and_set_aside_and_can_be_imported_when_corrected() {
    let server = server();
    let dir = server.dir.path();
    let csv = "token,platform,user\na,ios,1\nb,symbian,2\nc,ios\n\"d,ios,4\n\ne,android,5\nf g,web,6\n";
    fs::write(dir.join("in.csv"), csv).unwrap();
    let (ok, out, err) = run(devices(&server, &["import", "in.csv"]));
    assert!(!ok && out.contains("registered 2 devices"), "{out}{err}");
    for told in [
        "line 3: platform: expected one of",
        "line 4: expected 3 columns, got 2",
        "line 5: a quotation mark",
        "line 8: token: ",
    ] {
        assert!(err.contains(told), "{told}: {err}");
    }
    assert!(
        err.contains("4 lines are wrong") && err.contains("in.csv.rejected"),
        "{err}"
    );
    assert_eq!(count(&server).await, 2);
    assert!(!dir.join("in.csv.progress").exists());

    let aside = fs::read_to_string(dir.join("in.csv.rejected")).unwrap();
    assert!(aside.starts_with("line,problem,token,platform,user\n3,"), "{aside}");
    let corrected = aside
        .replace("symbian", "android")
        .replace("c,ios\n", "c,ios,3\n")
        .replace("f g", "fg");
    fs::write(dir.join("again.csv"), corrected).unwrap();
    let (ok, out, err) = run(devices(&server, &["import", "again.csv"]));
    assert!(
        !ok && out.contains("registered 3 devices") && err.contains("1 lines are wrong"),
        "{out}{err}"
    );
    let aside = fs::read_to_string(dir.join("again.csv.rejected")).unwrap();
    assert!(
        aside.starts_with("line,problem,token,platform,user\n") && aside.contains("d,ios,4"),
        "{aside}"
    );
    assert_eq!(count(&server).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lines_of_ndjson_stay_as_they_were_below_a_remark() {
    let server = server();
    let dir = server.dir.path();
    let lines = [
        "{\"token\": \"a\", \"platform\": \"ios\"}",
        "{\"token\": \"b\"}",
        "nonsense",
        "{\"token\": \"c\", \"platform\": \"ios\", \"colour\": 5}",
    ];
    fs::write(dir.join("in.jsonl"), lines.join("\n")).unwrap();
    let (ok, out, err) = run(devices(&server, &["import", "in.jsonl"]));
    assert!(!ok && out.contains("registered 1 devices"), "{out}{err}");
    let aside = fs::read_to_string(dir.join("in.jsonl.rejected")).unwrap();
    let (remarks, raw): (Vec<&str>, Vec<&str>) = aside.lines().partition(|line| line.starts_with('#'));
    assert_eq!(raw, lines[1..]);
    assert!(
        remarks[0].starts_with("# line 2: platform: ") && remarks[2].contains("unknown field `colour`"),
        "{remarks:?}"
    );
    let (ok, _, err) = run(devices(&server, &["import", "--format", "ndjson", "in.jsonl.rejected"]));
    assert!(!ok && err.contains("3 lines are wrong"), "{err}");
}

/// Lines of which every hundredth is bad.
fn large_file(path: &Path, lines: usize) {
    let line = |line: usize| {
        let platform = if line % 100 == 7 { "symbian" } else { "ios" };
        format!("token-{line:06},{platform},news\n")
    };
    let csv = format!(
        "token,platform,channels\n{}",
        (0..lines).map(line).collect::<Vec<_>>().concat()
    );
    fs::write(path, csv).unwrap();
}

/// Starts an import of small requests and waits until it is some way into the file.
fn started(server: &Server, file: &Path) -> Child {
    let mut child = devices(server, &["import", "--batch", "10", "--parallel", "2", "in.csv"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let progress = file.with_added_extension("progress");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let state: Value = fs::read(&progress)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        if state["registered"].as_u64().unwrap_or_default() > 500 {
            return child;
        }
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before it could be stopped"
        );
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_stopped_in_the_middle_is_finished_by_a_second_run() {
    const LINES: usize = 8_000;
    for signal in ["KILL", "INT"] {
        let server = server();
        let file = server.dir.path().join("in.csv");
        large_file(&file, LINES);
        let mut child = started(&server, &file);
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success() && !child.wait().unwrap().success(), "{signal}");
        let (reached, rejects) = (count(&server).await, file.with_added_extension("rejected"));
        assert!(reached < LINES as u64, "{signal}: it was through already");

        let (ok, out, err) = run(devices(&server, &["import", "in.csv"]));
        assert!(!ok && err.contains("going on at line "), "{signal}: {err}");
        assert!(
            out.contains(&format!("registered {} devices", LINES - LINES / 100)),
            "{signal}: {out}{err}"
        );
        assert_eq!(count(&server).await, (LINES - LINES / 100) as u64, "{signal}");
        let aside = fs::read_to_string(rejects).unwrap();
        let numbers: Vec<usize> = aside
            .lines()
            .skip(1)
            .map(|line| line.split(',').next().unwrap().parse().unwrap())
            .collect();
        let expected: Vec<usize> = (0..LINES / 100).map(|hundred| hundred * 100 + 7 + 2).collect();
        assert_eq!(numbers, expected, "{signal}: each bad line once, in order");
        assert!(!file.with_added_extension("progress").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_does_not_go_on_with_another_file_or_server() {
    let (first, second) = (server(), server());
    let file = first.dir.path().join("in.csv");
    large_file(&file, 8_000);
    let mut child = started(&first, &file);
    let (ok, _, err) = run(devices(&first, &["import", "in.csv"]));
    assert!(!ok && err.contains("another import of in.csv is running"), "{err}");
    child.kill().unwrap();
    child.wait().unwrap();
    let mut elsewhere = devices(&first, &["import", "in.csv"]);
    elsewhere.env("BUGLE_URL", format!("http://{}", second.addr));
    let (ok, _, err) = run(elsewhere);
    assert!(
        !ok && err.contains("to another server") && err.contains("--restart"),
        "{err}"
    );
    fs::write(&file, CSV).unwrap();
    let (ok, _, err) = run(devices(&first, &["import", "in.csv"]));
    assert!(!ok && err.contains("another content"), "{err}");
    let (ok, out, err) = run(devices(&first, &["import", "--restart", "in.csv"]));
    assert!(ok && out.contains("registered 3 devices"), "{out}{err}");
    assert!(!file.with_added_extension("rejected").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_was_killed_is_finished_by_a_second_run() {
    let server = server();
    let dir = server.dir.path();
    large_file(&dir.join("in.csv"), 30_000);
    let (_, out, _) = run(devices(&server, &["import", "in.csv"]));
    assert!(out.contains("registered 29700 devices"), "{out}");
    for name in ["all.csv", "all.ndjson"] {
        let (ok, _, err) = run(devices(&server, &["export", name]));
        assert!(ok, "{err}");
        let whole = fs::read(dir.join(name)).unwrap();
        fs::remove_file(dir.join(name)).unwrap();

        let part = dir.join(name).with_added_extension("part");
        let mut child = devices(&server, &["export", name])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while !fs::metadata(&part).is_ok_and(|part| part.len() > 0) && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(part.exists() && !dir.join(name).exists(), "it was through already");
        let (ok, out, err) = run(devices(&server, &["export", name]));
        assert!(ok && out.contains("29700 devices"), "{out}{err}");
        assert_eq!(fs::read(dir.join(name)).unwrap(), whole, "{name}");
        assert!(!part.exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_were_declared_dead_are_restored() {
    let world = World::start(json!({}), &[]).await;
    world
        .api
        .register_all((0..5).map(|number| format!("unregistered-{number}")))
        .await;
    let uid = world.api.broadcast().await;
    world.api.ended(&uid, Duration::from_secs(60)).await;
    assert_eq!(count(&world.server).await, 0);
    let (ok, out, err) = run(devices(&world.server, &["restore", "--since", "1h"]));
    assert!(ok && out.contains("5 devices came back"), "{out}{err}");
    assert_eq!(count(&world.server).await, 5);
    for wrong in ["yesterday", "2999-01-01T00:00:00Z"] {
        let (ok, _, err) = run(devices(&world.server, &["restore", "--since", wrong]));
        assert!(!ok && err.contains("--since"), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_use_is_answered_with_what_to_do() {
    let server = server();
    let dir = server.dir.path();
    for (name, content) in [
        ("in.csv", "token,platfrom\n"),
        ("empty.csv", ""),
        ("in.txt", ""),
        ("good.csv", CSV),
    ] {
        fs::write(dir.join(name), content).unwrap();
    }
    let cases: [(&[&str], &str); 6] = [
        (&["import", "in.csv"], "\"platfrom\" is none of"),
        (&["import", "empty.csv"], "the first line must name the columns"),
        (&["import", "in.txt"], "say which it is with --format"),
        (&["import", "gone.csv"], "cannot read gone.csv"),
        (&["import", "."], "--format"),
        (
            &["export", "no-such-dir/all.csv"],
            "cannot write no-such-dir/all.csv.part",
        ),
    ];
    for (args, told) in cases {
        let (ok, _, err) = run(devices(&server, args));
        assert!(!ok && err.contains(told), "{args:?}: {err}");
    }
    for args in [["import", "good.csv"], ["export", "all.csv"], ["restore", "--since=1h"]] {
        let with = |variable: &str, value: &str| {
            let mut command = devices(&server, &args);
            command.env(variable, value);
            let (ok, _, err) = run(command);
            assert!(!ok);
            err
        };
        let err = with("BUGLE_URL", "http://127.0.0.1:1");
        assert!(
            err.contains("cannot reach bugle at http://127.0.0.1:1") && err.contains("--url"),
            "{err}"
        );
        let err = with("BUGLE_KEY", "wrong-key");
        assert!(
            err.contains("does not take this API key") && !err.contains("wrong-key"),
            "{err}"
        );
        let err = with("BUGLE_URL", "127.0.0.1:8000");
        assert!(err.contains("--url: "), "{err}");
    }
    let left: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !left.iter().any(|name| name.to_string_lossy().contains("progress")),
        "{left:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_in_the_data_directory_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir, [("api.keys".to_owned(), String::new())].into());
    fs::write(server.dir.path().join("in.csv"), CSV).unwrap();
    let mut command = devices(&server, &["import", "in.csv"]);
    command.env_remove("BUGLE_KEY").env_remove("BUGLE_URL");
    command
        .env("BUGLE__DATA__DIR", "data")
        .env("BUGLE__HTTP__LISTEN", server.addr.to_string());
    let (ok, out, err) = run(command);
    assert!(ok && out.contains("registered 3 devices"), "{out}{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_line_that_spoils_a_request_is_found_and_a_server_of_small_requests_is_served() {
    let settings = [("api.max_commands", "7"), ("api.max_body_bytes", "2048")];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let server = Server::start(tempfile::tempdir().unwrap(), settings.into());
    let line = |number: usize| {
        let user = "u".repeat(if number == 37 { 3_000 } else { 10 });
        format!("{{\"token\":\"token-{number}\",\"platform\":\"web\",\"user\":\"{user}\"}}\n")
    };
    let lines: Vec<String> = (1..=100).map(line).collect();
    fs::write(server.dir.path().join("in.ndjson"), lines.concat()).unwrap();
    let (ok, out, err) = run(devices(&server, &["import", "in.ndjson"]));
    assert!(!ok && out.contains("registered 99 devices"), "{out}{err}");
    assert!(err.contains("line 37: body: at most 2048 bytes"), "{err}");
    assert_eq!(count(&server).await, 99);
}
