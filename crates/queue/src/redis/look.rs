//! How full a lane is, and its marks, at one moment.

use std::collections::HashMap;

use redis::streams::StreamInfoGroupsReply;
use redis::{FromRedisValue as _, RedisResult, Value};

use super::GROUP;
use super::keys::{Keys, Stream};
use super::link::{Link, Lost};
use super::outbox::Place;
use crate::wire;

/// The id of an entry: milliseconds of Redis's clock, and a counter.
pub(super) type EntryId = (i64, u64);

/// A stream as it was seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// Entries that nobody has read.
    pub(super) undelivered: usize,
    /// The last that was read.
    pub(super) last_read: EntryId,
}

/// A lane as it was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    pub(super) streams: Vec<Seen>,
    /// See [`super::refill`].
    pub(super) gap: Option<Place>,
    pub(super) read: Option<Place>,
    pub(super) ahead: Option<Place>,
    pub(super) refilled: HashMap<Stream, EntryId>,
    /// Counts how often somebody asked for the ledger to be read.
    pub(super) asked: i64,
    /// Streams without the group.
    pub(super) missing: bool,
}

impl Look {
    pub(super) async fn take(keys: &Keys, link: &mut Link) -> Result<Self, Lost> {
        let mut commands = redis::pipe();
        for key in &keys.streams {
            commands.cmd("XINFO").arg("GROUPS").arg(key);
            commands.cmd("XLEN").arg(key);
        }
        commands.cmd("HGETALL").arg(&keys.marks);
        let answers = link.pipeline(&mut commands).await?;
        let mut look = Self::default();
        let mut answers = answers.into_iter();
        for _ in &keys.streams {
            let (groups, length) = (answers.next(), answers.next());
            let seen = see(groups, length);
            look.missing |= seen.is_none();
            look.streams.push(seen.unwrap_or_default());
        }
        if let Some(Ok(marks)) = answers.next() {
            look.read_marks(keys, HashMap::from_redis_value(marks).unwrap_or_default());
        }
        Ok(look)
    }

    fn read_marks(&mut self, keys: &Keys, marks: HashMap<String, String>) {
        for (name, value) in marks {
            let place = || wire::read(&value).map(|(id, due)| (due, id));
            match name.as_str() {
                "gap" => self.gap = place(),
                "read" => self.read = place(),
                "ahead" => self.ahead = place(),
                "asked" => self.asked = value.parse().unwrap_or(0),
                key => {
                    if let Some(stream) = keys.streams.iter().position(|stream| stream == key) {
                        self.refilled.insert(stream, entry_id(&value));
                    }
                }
            }
        }
    }

    /// Does Redis know less than it did?
    pub(super) fn is_set_back_from(&self, before: &Self) -> bool {
        let mut both = self.streams.iter().zip(&before.streams);
        both.any(|(now, before)| now.last_read < before.last_read)
    }

    pub(super) fn undelivered(&self) -> usize {
        self.streams.iter().map(|seen| seen.undelivered).sum()
    }
}

/// `None` = the stream or its group is missing.
fn see(groups: Option<RedisResult<Value>>, length: Option<RedisResult<Value>>) -> Option<Seen> {
    let groups = StreamInfoGroupsReply::from_redis_value(groups?.ok()?).ok()?;
    let length = usize::from_redis_value(length?.ok()?).ok()?;
    let group = groups.groups.into_iter().find(|group| group.name == GROUP)?;
    Some(Seen {
        // Redis cannot tell after some repairs; what was read and is not acknowledged is still in the stream.
        undelivered: group.lag.unwrap_or(length.saturating_sub(group.pending)),
        last_read: entry_id(&group.last_delivered_id),
    })
}

pub(super) fn entry_id(text: &str) -> EntryId {
    let (millis, count) = text.split_once('-').unwrap_or((text, "0"));
    (millis.parse().unwrap_or(0), count.parse().unwrap_or(0))
}
