//! `bugle migrate-data`, from the real binary on SQLite to the real binary on PostgreSQL.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bugle_model::{Clock, SystemClock};
use bugle_testkit::postgres::Database;
use serde_json::json;

use crate::world::{CHANNEL, World, bugle, tokens};

const AUDIENCE: usize = 4_000;

/// The command for the world's server, as somebody types it who has not touched the configuration yet.
fn migrate_data(world: &World, to: &str) -> Command {
    let mut command = bugle(world.server.dir.path());
    command
        .args(["migrate-data", "--to", to])
        .env("BUGLE__DATA__DIR", world.server.dir.path().join("data"));
    command
}

/// Standard output and error together.
fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Kills the command at moments of its run that are a little later each time, then lets it come to its end. Answers how often it was killed before its end.
fn migrate_through_kills(world: &World, database: &Database) -> u32 {
    let mut killed = 0;
    for attempt in 1..=8_u64 {
        let mut command = migrate_data(world, &database.url());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(attempt * rand::random_range(10..40)));
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
    }
    let output = migrate_data(world, &database.url()).output().unwrap();
    assert!(output.status.success(), "{}", printed(&output));
    let text = printed(&output);
    assert!(text.contains("PostgreSQL"), "{text}");
    killed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_goes_on_on_postgresql_where_it_stopped_on_sqlite() {
    let settings = [("fcm.connections", "2"), ("fcm.streams", "20"), ("fanout.refill", "1s")];
    let mut world = World::start(json!({"latency_ms": 20}), &settings).await;
    world.api.register_all(tokens("moved-", AUDIENCE)).await;
    let later = json!({
        "uid": "later",
        "send_at": SystemClock.now().as_secs() + 15,
        "recipient": {"fcm_tokens": ["later-1", "later-2"]},
        "notification": {"fcm": {"notification": {"title": "Later"}}}
    });
    world.api.call("send_push_notification", &later).await;
    let uid = world.api.broadcast().await;
    tokio::time::timeout(Duration::from_secs(30), world.sim.requests_reached(AUDIENCE as u64 / 4))
        .await
        .unwrap();
    assert_eq!(world.api.status("later").await["state"], "scheduled");
    world.stop(0).await;
    assert!(world.sim.stats().tokens < AUDIENCE as u64, "nothing was in progress");

    let database = bugle_testkit::postgres::database();
    let killed = migrate_through_kills(&world, &database);
    assert!(
        killed > 0,
        "the command was always faster than its killer: nothing was tested"
    );
    world.server.settings.insert("store.url".to_owned(), database.url());
    world.restart(0);

    let status = world.api.ended(&uid, Duration::from_secs(60)).await;
    assert_eq!(
        (&status["state"], &status["targeted"]),
        (&json!("done"), &json!(AUDIENCE))
    );
    assert_eq!(status["sent"], AUDIENCE);
    let status = world.api.ended("later", Duration::from_secs(60)).await;
    assert_eq!(status["sent"], 2, "{status}");
    let stats = world.sim.stats();
    assert_eq!(
        (stats.tokens, stats.repeats),
        (AUDIENCE as u64 + 2, 0),
        "a graceful stop repeats nothing"
    );

    let mut found = world.api.tokens().await;
    found.sort();
    assert!(found.iter().eq(&tokens("moved-", AUDIENCE).collect::<Vec<_>>()));
    let subscribed = world
        .api
        .call(
            "device_subscription_list",
            &json!({"channels": [CHANNEL], "limit": 1, "include_total_count": true}),
        )
        .await;
    assert_eq!(subscribed["total_count"], AUDIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_moved_is_told_without_the_password() {
    let world = World::start(json!({}), &[]).await;
    let database = bugle_testkit::postgres::database();
    let refused = |mut command: Command| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = printed(&output);
        assert!(!text.contains("geheim") && !text.contains("bugle-test"), "{text}");
        text
    };
    let running = refused(migrate_data(&world, &database.url()));
    assert!(running.contains("another bugle is running on this data"), "{running}");
    assert_eq!(
        database.query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"),
        "0"
    );

    let mut elsewhere = migrate_data(&world, "postgres://bugle:geheim@127.0.0.1:1/bugle");
    let nowhere = world.server.dir.path().join("nowhere");
    elsewhere.env("BUGLE__DATA__DIR", &nowhere);
    let missing = refused(elsewhere);
    assert!(
        missing.contains("there is no database") && !nowhere.exists(),
        "{missing}"
    );

    let mut nothing = bugle(world.server.dir.path());
    nothing.arg("migrate-data");
    assert!(refused(nothing).contains("--to"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_is_told_in_words() {
    let mut world = World::start(json!({}), &[]).await;
    world.stop(0).await;
    let output = migrate_data(&world, "postgres://bugle:geheim@127.0.0.1:1/bugle")
        .output()
        .unwrap();
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("cannot connect to PostgreSQL at 127.0.0.1:1") && !text.contains("geheim"),
        "{text}"
    );
    assert!(text.contains("is as it was"), "{text}");
    // The server is none the worse for it.
    world.restart(0);
    world.api.register_all(tokens("again-", 1)).await;
}
