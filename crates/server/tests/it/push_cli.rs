//! `bugle push`, against the real server.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::world::{World, asking, run, tokens};

fn push(world: &World, args: &[&str]) -> Command {
    asking(&world.server, "push", args)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_from_the_command_line_arrives_and_its_account_is_printed() {
    let world = World::start(json!({}), &[]).await;
    world.api.register_all(tokens("token-", 20)).await;
    let args = [
        "send",
        "--channel",
        "news",
        "--title",
        "Hello",
        "--body",
        "How are you?",
        "--data",
        "k=v=w",
        "--uid",
        "one",
        "--watch",
    ];
    let (ok, out, err) = run(push(&world, &args));
    assert!(ok, "{err}");
    assert_eq!(out.lines().next(), Some("one"));
    let last: Vec<&str> = out.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(last, ["done", "20", "20", "0", "0", "0", "0", "0", "0"], "{out}");
    let message = serde_json::to_value(world.sim.messages().last().unwrap()).unwrap();
    let text = message.to_string();
    assert!(text.contains("How are you?") && text.contains("v=w"), "{text}");

    let (ok, out, _) = run(push(&world, &["status", "one"]));
    assert!(ok && out.contains("fcm android") && out.contains("done"), "{out}");
    let (ok, out, _) = run(push(&world, &["status", "--json", "one"]));
    let status: Value = serde_json::from_str(&out).unwrap();
    assert!(ok && status["sent"] == 20, "{status}");
    let (ok, out, _) = run(push(&world, &["watch", "one"]));
    assert!(ok && out.contains("done"), "{out}");

    let (ok, ..) = run(push(&world, &args));
    assert!(ok);
    let (ok, _, err) = run(push(&world, &[&args[..], &["--priority", "urgent"]].concat()));
    assert!(!ok && err.contains("another push has this uid"), "{err}");
    let (ok, out, _) = run(push(
        &world,
        &[
            "send",
            "--token",
            "token-x",
            "--title",
            "t",
            "--priority",
            "bulk",
            "--watch",
        ],
    ));
    assert!(ok && out.contains("done"), "{out}");
    assert_eq!(
        world.sim.stats().class(bugle_sim::Outcome::Accepted),
        21,
        "the same uid sent nothing again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_request_is_read_from_a_file_or_from_standard_input() {
    let world = World::start(json!({}), &[]).await;
    world.api.register_all(tokens("token-", 3)).await;
    let request =
        json!({"recipient": {"channels": ["news"]}, "notification": {"fcm": {"notification": {"title": "t"}}}});
    std::fs::write(world.server.dir.path().join("push.json"), request.to_string()).unwrap();
    let (ok, _, err) = run(push(
        &world,
        &["send", "--json", "push.json", "--uid", "two", "--watch"],
    ));
    assert!(ok, "{err}");
    assert_eq!(world.api.status("two").await["sent"], 3);

    let mut command = push(&world, &["send", "--json", "-", "--watch"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let whole = json!({"method": "send_push_notification", "params": request});
    child
        .stdin
        .take()
        .unwrap()
        .write_all(whole.to_string().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && String::from_utf8(output.stdout).unwrap().contains("done"));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_use_is_answered_with_what_to_do() {
    let world = World::start(json!({}), &[]).await;
    std::fs::write(world.server.dir.path().join("wrong.json"), "[]").unwrap();
    let cases: [(&[&str], &str); 11] = [
        (&["send", "--title", "t"], "to whom?"),
        (&["send", "--channel", "c"], "what?"),
        (
            &["send", "--channel", "c", "--device", "d", "--title", "t"],
            "cannot be used with",
        ),
        (&["send", "--channel", "c", "--data", "novalue"], "expected KEY=VALUE"),
        (&["send", "--json", "gone.json"], "--json: cannot read gone.json"),
        (&["send", "--json", "wrong.json"], "expected an object with recipient"),
        (&["send", "--channel", "c", "--title", "t", "--uid", "no spaces"], "uid"),
        (
            &["send", "--channel", "c", "--title", "t", "--priority", "high"],
            "[possible values: urgent, bulk]",
        ),
        (&["status", "nobody"], "knows no push with the uid \"nobody\""),
        (&["watch", "nobody"], "knows no push with the uid \"nobody\""),
        (
            &["status", "--url", "http://127.0.0.1:1", "x"],
            "cannot reach bugle at http://127.0.0.1:1",
        ),
    ];
    for (args, told) in cases {
        let (ok, _, err) = run(push(&world, args));
        assert!(!ok && err.contains(told), "{args:?}: {err}");
    }
    let mut command = push(&world, &["status", "x"]);
    command.env("BUGLE_KEY", "wrong-key");
    let (ok, _, err) = run(command);
    assert!(!ok && err.contains("does not take this API key"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_was_rejected_is_an_error_of_the_watching_command() {
    let world = World::start(json!({}), &[]).await;
    world.api.register_all(tokens("payload-", 900)).await;
    let (ok, out, err) = run(push(&world, &["send", "--channel", "news", "--title", "t", "--watch"]));
    assert!(
        !ok && out.contains("rejected") && err.contains("the push was rejected"),
        "{out}{err}"
    );
}
