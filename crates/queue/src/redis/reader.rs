//! Reads a lane's references for this process.

use std::sync::Arc;
use std::time::Duration;

use bugle_model::{Lane, PageRef};
use redis::streams::{StreamId, StreamReadReply};
use redis::{Cmd, RedisError, Value, cmd};
use tokio_util::sync::CancellationToken;

use super::hands::Entry;
use super::keys::Stream;
use super::link::Link;
use super::writer::FIELD;
use super::{BLOCK, GROUP, Shared, keeper};
use crate::{Queue as _, wire};

/// Entries that one read takes from one stream at most.
const COUNT: usize = 64;

/// Reads until the stop, or until reading is ended; never ends in the middle of a read, whose entries would be stranded.
pub(super) async fn run(shared: Arc<Shared>, lane: Lane, mut link: Link, stop: CancellationToken) {
    let side = shared.side(lane);
    let mut active = 1;
    while !stop.is_cancelled() && !side.reading_ended() {
        let missing = side.target().saturating_sub(shared.local.waiting(lane));
        if missing == 0 {
            tokio::select! {
                () = side.wanted.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(20)), if side.target() > 0 => {}
                () = stop.cancelled() => return,
            }
            continue;
        }
        let read = command(&shared, lane, missing.div_ceil(active).min(COUNT));
        match link.command::<Option<StreamReadReply>>(&read).await {
            Ok(Ok(reply)) => {
                let reply = reply.unwrap_or_default();
                active = reply.keys.len().max(1);
                adopt_all(&shared, lane, reply);
            }
            Ok(Err(error)) => refused(&shared, lane, &mut link, &error).await,
            Err(_) => {
                tokio::select! {
                    () = tokio::time::sleep(link.next_pause()) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
        if link.came_back() {
            shared.local.look();
        }
    }
}

fn command(shared: &Shared, lane: Lane, count: usize) -> Cmd {
    let streams = &shared.side(lane).keys.streams;
    let mut read = cmd("XREADGROUP");
    read.arg("GROUP")
        .arg(GROUP)
        .arg(&shared.consumer)
        .arg("COUNT")
        .arg(count);
    read.arg("BLOCK").arg(u64::try_from(BLOCK.as_millis()).unwrap_or(1_000));
    read.arg("STREAMS").arg(streams).arg(vec![">"; streams.len()]);
    read
}

/// The groups are missing after Redis has lost everything.
async fn refused(shared: &Shared, lane: Lane, link: &mut Link, error: &RedisError) {
    if error.code() == Some("NOGROUP") || error.to_string().contains("NOGROUP") {
        tracing::info!(lane = lane.as_str(), "Redis was emptied: reading the ledger");
        if keeper::make_groups(&shared.side(lane).keys, link).await.is_ok() {
            shared.local.look();
            shared.side(lane).doubt();
        }
    } else {
        tracing::warn!(
            lane = lane.as_str(),
            error = error as &dyn std::error::Error,
            "Redis refuses a read"
        );
    }
    tokio::time::sleep(link.next_pause()).await;
}

fn adopt_all(shared: &Shared, lane: Lane, reply: StreamReadReply) {
    let keys = &shared.side(lane).keys;
    for read in reply.keys {
        if let Some(stream) = keys.streams.iter().position(|key| *key == read.key) {
            adopt(shared, lane, stream, read.ids);
        }
    }
}

/// Entries have become this process's.
pub(super) fn adopt(shared: &Shared, lane: Lane, stream: Stream, entries: Vec<StreamId>) {
    let mut pages = Vec::with_capacity(entries.len());
    let mut useless = Vec::new();
    for read in entries {
        let page = page(shared, lane, stream, &read);
        let entry = Entry { stream, id: read.id };
        match page {
            Some(page) if shared.hands.add(lane, page.id, entry.clone()) => pages.push(page),
            // Claimed from itself: it is in work here.
            Some(_) => {}
            None => useless.push(entry),
        }
    }
    if !useless.is_empty() {
        shared.side(lane).acknowledge(useless);
    }
    let ids: Vec<_> = pages.iter().map(|page| page.id).collect();
    shared.local.offer(pages);
    // On hold, or due in a far future by this machine's clock.
    let dropped: Vec<_> = ids.into_iter().filter(|id| !shared.local.knows(*id)).collect();
    shared.let_go(&dropped);
}

fn page(shared: &Shared, lane: Lane, stream: Stream, entry: &StreamId) -> Option<PageRef> {
    let Some(Value::BulkString(text)) = entry.map.get(FIELD) else {
        return None;
    };
    let (id, due) = wire::read(std::str::from_utf8(text).ok()?)?;
    let app = shared.side(lane).keys.app_of(stream)?.clone();
    Some(PageRef { id, app, lane, due })
}
