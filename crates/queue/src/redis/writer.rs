//! Empties a lane's outbox into Redis.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bugle_model::Lane;
use redis::{Pipeline, cmd};

use super::keys::{Keys, Stream};
use super::link::Link;
use super::outbox::{Batch, Place};
use super::{GROUP, Shared};
use crate::wire;

/// The name of an entry's only field.
pub(super) const FIELD: &str = "p";

/// Writes for as long as it is polled.
pub(super) async fn run(shared: Arc<Shared>, lane: Lane, mut link: Link) {
    let side = shared.side(lane);
    loop {
        wait(&shared, lane).await;
        let batch = side.outbox().next_batch(shared.clock.now());
        if batch.is_empty() {
            continue;
        }
        if link.pipeline(&mut commands(&side.keys, &batch)).await.is_ok() {
            let crowded = {
                let mut outbox = side.outbox();
                outbox.sent(batch.pages.len());
                outbox.is_crowded()
            };
            side.after_batch();
            if crowded {
                side.crowded.notify_one();
            }
            if link.came_back() {
                shared.local.look();
            }
        } else {
            side.outbox().put_back(batch);
            tokio::time::sleep(link.next_pause()).await;
        }
    }
}

/// Waits until there is something to send.
async fn wait(shared: &Shared, lane: Lane) {
    let side = shared.side(lane);
    let next_due = {
        let outbox = side.outbox();
        if outbox.is_pressing() {
            return;
        }
        outbox.next_due()
    };
    let pause = next_due.map_or(Duration::from_secs(60), |due| {
        due.since(shared.clock.now()).max(Duration::from_millis(1))
    });
    let _ = tokio::time::timeout(pause, side.outgoing.notified()).await;
}

fn commands(keys: &Keys, batch: &Batch) -> Pipeline {
    let mut commands = redis::pipe();
    for (stream, page) in &batch.pages {
        add(&mut commands, keys, *stream, (page.due, page.id));
    }
    let mut acks: BTreeMap<Stream, Vec<&str>> = BTreeMap::new();
    for entry in &batch.acks {
        acks.entry(entry.stream).or_default().push(&entry.id);
    }
    for (stream, ids) in acks {
        let key = &keys.streams[stream];
        commands.cmd("XACK").arg(key).arg(GROUP).arg(&ids);
        commands.cmd("XDEL").arg(key).arg(&ids);
    }
    if let Some(gap) = batch.gap {
        // Whoever finds it first is right: the others begin to drop at the same time.
        commands.add_command(cmd("HSETNX").arg(&keys.marks).arg("gap").arg(text(gap)).clone());
    }
    commands
}

/// Adds the command that adds a reference.
pub(super) fn add(commands: &mut Pipeline, keys: &Keys, stream: Stream, place: Place) {
    commands
        .cmd("XADD")
        .arg(&keys.streams[stream])
        .arg("*")
        .arg(FIELD)
        .arg(text(place));
}

/// A place as text.
pub(super) fn text((due, id): Place) -> String {
    let mut text = String::with_capacity(32);
    wire::write(id, due, &mut text);
    text
}
