//! Devices and pushes as they are asked for.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::http::{NUMBER, Template};
use super::load::{Done, End, Load};
use super::world::World;

/// The channel that everybody is subscribed to.
pub(super) const CHANNEL: &str = "bench";
/// Commands of one batch.
pub(super) const BATCH: usize = 100;
/// Clients that send batches.
pub(super) const BATCH_CLIENTS: usize = 8;
/// Bytes of a request to FCM, as bugle renders it.
const REQUEST: usize = 300;
const RENDERED: &str = r#"{"message":{"token":"","notification":{"title":"Hello","body":""}}}"#;

/// As long as FCM's (142 characters), and different from its first character on.
pub(super) fn token(number: &str) -> String {
    format!("{number}:{}", "x".repeat(132))
}

/// The parameters of `device_register` for a device without an id.
pub(super) fn registration() -> String {
    format!(
        r#"{{"platform":"android","token":"{}","user":"user-{NUMBER}"}}"#,
        token(NUMBER)
    )
}

/// A batch of commands, given their parameters.
pub(super) fn batch(params: impl Iterator<Item = String>) -> Template {
    let commands: Vec<String> = params
        .map(|params| format!(r#"{{"device_register":{params}}}"#))
        .collect();
    let body = format!(r#"{{"parallel":true,"commands":[{}]}}"#, commands.join(","));
    Template::new("/api/batch", &body, commands.len())
}

/// A push to one device of the audience.
pub(super) fn push_to_one() -> Template {
    let body = format!(
        r#"{{"recipient":{{"device_ids":["bench-{NUMBER}"]}},"notification":{{"fcm":{{"notification":{{"title":"Hello","body":"{}"}}}}}}}}"#,
        words()
    );
    Template::new("/api/send_push_notification", &body, 1)
}

/// What a notification says: so much that the request has [`REQUEST`] bytes.
pub(super) fn words() -> String {
    "How are you? "
        .chars()
        .cycle()
        .take(REQUEST - RENDERED.len() - token(NUMBER).len())
        .collect()
}

/// The request to FCM for one device.
pub(super) fn rendered(number: &str) -> String {
    RENDERED
        .replacen(r#""token":"""#, &format!(r#""token":"{}""#, token(number)), 1)
        .replacen(r#""body":"""#, &format!(r#""body":"{}""#, words()), 1)
}

/// Registers so many devices (a multiple of a batch, or somewhat more), on three platforms in turn, all subscribed to [`CHANNEL`].
pub(super) async fn register(world: &World, devices: u64) -> anyhow::Result<Done> {
    let done = register_in(world, CHANNEL, 0, devices).await?;
    world.backends.settle()?;
    Ok(done)
}

/// The same for devices numbered from `first` on, in a channel of their own.
pub(super) async fn register_in(world: &World, channel: &str, first: u64, devices: u64) -> anyhow::Result<Done> {
    let device = |at: usize| {
        let platform = ["android", "ios", "web"][at % 3];
        format!(
            r#"{{"id":"bench-{NUMBER}","platform":"{platform}","token":"{}","user":"user-{NUMBER}","channels":["{channel}"]}}"#,
            token(NUMBER)
        )
    };
    let load = Load {
        addr: world.api,
        clients: BATCH_CLIENTS,
        template: batch((0..BATCH).map(device)),
        wrap: u64::MAX,
        next: Arc::new(AtomicU64::new(first)),
        end: End::At(first + devices),
        pace: None,
    };
    load.run(|_, _, _| {}).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendered_request_is_json_of_the_promised_length() {
        let request = rendered("000000001");
        assert_eq!(request.len(), REQUEST);
        let read: serde_json::Value = serde_json::from_str(&request).unwrap();
        assert_eq!(read["message"]["token"].as_str().unwrap().len(), 142);
    }
}
