//! What `docs/tutorial.md` and `docs/operations.md` tell the reader to do, done.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::docs::page;
use crate::world::{Api, KEY, Server, World};

/// The tutorial's blocks that are marked as `sh`: one call each, method and parameters.
fn calls_of_the_tutorial() -> Vec<(String, Value)> {
    let text = page("docs/tutorial.md");
    let blocks = text.split("```").skip(1).step_by(2);
    let call = |block: &str| {
        let (_, rest) = block.split_once("\"$BUGLE/api/").unwrap();
        let (method, rest) = rest.split_once('"').unwrap();
        let (_, rest) = rest.split_once("-d '").unwrap();
        let body = rest.rsplit_once('\'').unwrap().0;
        (method.to_owned(), serde_json::from_str(body).unwrap())
    };
    blocks
        .filter_map(|block| block.strip_prefix("sh\n"))
        .map(call)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tutorial_works_as_it_says() {
    let world = World::start(json!({}), &[]).await;
    let mut answers = Vec::new();
    for (method, params) in calls_of_the_tutorial() {
        if method == "push_status" {
            let uid = params["uid"].as_str().unwrap();
            world.api.ended(uid, Duration::from_secs(30)).await;
        }
        answers.push((method.clone(), world.api.answer(&method, &params).await));
    }
    let of = |method: &str| -> Vec<&Value> {
        let same = answers.iter().filter(|(name, _)| name == method);
        same.map(|(_, answer)| &answer["result"]).collect()
    };
    let status = of("push_status");
    assert_eq!(status[0]["state"], "done");
    assert_eq!((&status[0]["targeted"], &status[0]["sent"]), (&json!(2), &json!(1)));
    assert_eq!(status[0]["invalid"], 1);
    let left = of("device_list");
    assert_eq!(left[0]["items"].as_array().unwrap().len(), 1, "the dead one is gone");
    let refused: Vec<&Value> = answers
        .iter()
        .map(|(_, answer)| answer)
        .filter(|answer| answer.get("error").is_some())
        .collect();
    assert_eq!(refused.len(), 1, "only the request with a reserved key: {refused:?}");
    assert!(
        refused[0]["error"]["message"].as_str().unwrap().contains("data.from"),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_server_starts_with_everything_that_was_answered_before() {
    let world = World::start(json!({}), &[]).await;
    world.api.register_all((0..2_000).map(|i| format!("before-{i}"))).await;
    let writing = {
        let api = world.api.clone();
        tokio::spawn(async move {
            for round in 0.. {
                api.register_all((0..100).map(|i| format!("during-{round}-{i}"))).await;
            }
        })
    };
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    let backup = dir.path().join("data/bugle.db");
    let (from, to) = (world.server.dir.path().join("data/bugle.db"), backup.clone());
    // What docs/operations.md does with the command `sqlite3`.
    tokio::task::spawn_blocking(move || {
        let conn = rusqlite::Connection::open(from).unwrap();
        conn.execute("VACUUM INTO ?1", [to.to_str().unwrap()]).unwrap();
    })
    .await
    .unwrap();
    assert!(!writing.is_finished(), "registering went on meanwhile");
    writing.abort();
    let restored = Server::start(dir, BTreeMap::new());
    let api = Api::new(restored.addr, KEY);
    let list = api
        .call("device_list", &json!({"limit": 1, "include_total_count": true}))
        .await;
    assert!(list["total_count"].as_u64().unwrap() >= 2_000, "{list}");
    let one = api.call("device_list", &json!({"tokens": ["before-1999"]})).await;
    assert_eq!(one["items"].as_array().unwrap().len(), 1, "{one}");
}
