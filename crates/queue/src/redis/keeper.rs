//! Looks after a lane: how full it is, what the dead have left, what is missing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bugle_model::Lane;
use redis::streams::{StreamAutoClaimReply, StreamInfoConsumersReply};
use redis::{FromRedisValue as _, RedisResult, Value, cmd};

use super::keys::Keys;
use super::link::{Link, Lost};
use super::look::Look;
use super::side::Side;
use super::{GROUP, Shared, reader};
use crate::{Error, metrics as names};

/// How often a quiet lane is looked at, a busy one, and one with a gap.
const QUIET: Duration = Duration::from_secs(1);
const BUSY: Duration = Duration::from_millis(250);
const GAP: Duration = Duration::from_millis(50);
/// Never more often than this.
const BREATH: Duration = Duration::from_millis(20);
/// How often the entries of the dead are looked for.
const CLAIM: Duration = Duration::from_secs(12);
/// Entries of one stream that are claimed at once.
const CLAIMED: usize = 64;
/// How often consumers are looked through, and how long one must have been silent to be deleted.
const TIDY: Duration = Duration::from_secs(60);
const DEAD: Duration = Duration::from_secs(600);
/// For so long one process refills, and no other.
const TURN: Duration = Duration::from_secs(5);
/// The same as that process sees it: a little shorter, so that it is never two.
const OWN_TURN: Duration = Duration::from_secs(4);

/// For the start: connects, and makes the groups. An error is for the person who starts bugle.
pub(super) async fn prepare(side: &Side) -> Result<(), Error> {
    let mut link = side.link.lock().await;
    link.connect().await?;
    let answers = link.first(&mut group_commands(&side.keys)).await?;
    match answers
        .into_iter()
        .filter_map(RedisResult::err)
        .find(|error| !exists(error))
    {
        Some(error) => Err(Error::Redis(error)),
        None => Ok(()),
    }
}

/// Makes the groups, and the streams, where they are missing.
pub(super) async fn make_groups(keys: &Keys, link: &mut Link) -> Result<(), Lost> {
    for error in link
        .pipeline(&mut group_commands(keys))
        .await?
        .into_iter()
        .filter_map(RedisResult::err)
    {
        if !exists(&error) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot make a consumer group in Redis"
            );
        }
    }
    Ok(())
}

fn group_commands(keys: &Keys) -> redis::Pipeline {
    let mut commands = redis::pipe();
    for key in &keys.streams {
        commands
            .cmd("XGROUP")
            .arg("CREATE")
            .arg(key)
            .arg(GROUP)
            .arg("0")
            .arg("MKSTREAM");
    }
    commands
}

fn exists(error: &redis::RedisError) -> bool {
    error.code() == Some("BUSYGROUP") || error.to_string().contains("BUSYGROUP")
}

/// Is it, or does it now become, this process that refills? Nobody else does until [`TURN`] is over.
pub(super) async fn try_turn(shared: &Shared, side: &Side, link: &mut Link) -> Result<Turn, Lost> {
    let now = Instant::now();
    if side.has_turn() {
        return Ok(Turn::Kept);
    }
    let millis = u64::try_from(TURN.as_millis()).unwrap_or(5_000);
    let mut set = cmd("SET");
    set.arg(&side.keys.turn)
        .arg(&shared.consumer)
        .arg("NX")
        .arg("PX")
        .arg(millis);
    let won = matches!(link.command::<Option<String>>(&set).await?, Ok(Some(_)));
    if !won {
        return Ok(Turn::Theirs);
    }
    side.set_turn(Some(now + OWN_TURN));
    Ok(Turn::Won)
}

/// Whose turn it is to refill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Won,
    Kept,
    Theirs,
}

/// Looks after a lane for as long as it is polled.
pub(super) async fn run(shared: Arc<Shared>, lane: Lane) {
    let side = shared.side(lane);
    let mut keeper = Keeper {
        shared: &shared,
        side,
        cursors: vec!["0-0".to_owned(); side.keys.streams.len()],
        claim_at: Instant::now() + CLAIM,
        tidy_at: Instant::now() + TIDY,
        before: None,
    };
    loop {
        let pause = {
            let mut link = side.link.lock().await;
            match keeper.round(&mut link).await {
                Ok(pause) => pause,
                Err(Lost) => link.next_pause(),
            }
        };
        tokio::time::sleep(BREATH).await;
        let _ = tokio::time::timeout(pause.saturating_sub(BREATH), side.crowded.notified()).await;
    }
}

struct Keeper<'a> {
    shared: &'a Shared,
    side: &'a Side,
    /// By stream: where the search for entries of the dead goes on.
    cursors: Vec<String>,
    claim_at: Instant,
    tidy_at: Instant,
    /// The look before.
    before: Option<Look>,
}

impl Keeper<'_> {
    /// How long until the next.
    async fn round(&mut self, link: &mut Link) -> Result<Duration, Lost> {
        let look = Look::take(&self.side.keys, link).await?;
        if look.missing {
            make_groups(&self.side.keys, link).await?;
        }
        // The reader of some process may have made the groups already.
        let emptied = look.missing || self.before.as_ref().is_some_and(|before| look.is_set_back_from(before));
        if emptied || link.came_back() {
            self.shared.local.look();
            self.side.doubt();
        }
        if self.before.as_ref().is_some_and(|before| before.asked != look.asked) {
            self.shared.local.look();
        }
        self.pass_on(link).await?;
        if self.side.second_look_is_due() {
            self.shared.local.look();
        }
        let undelivered = look.undelivered();
        self.gauge(undelivered);
        let behind = {
            let mut outbox = self.side.outbox();
            outbox.looked(undelivered, look.gap, look.read);
            outbox.is_behind()
        };
        self.before = Some(look);
        let starved = self.side.starved.load(Ordering::SeqCst);
        if (behind || starved) && undelivered * 2 <= self.shared.references {
            self.ask_for_more(link).await?;
        }
        if self.shared.sends && self.claim_at <= Instant::now() {
            let more = self.claim(link).await?;
            self.claim_at = Instant::now() + if more { BUSY } else { CLAIM };
        }
        if self.tidy_at <= Instant::now() {
            self.tidy_at = Instant::now() + TIDY;
            self.tidy(link).await?;
        }
        let many = Duration::from_millis(2) * u32::try_from(self.side.keys.streams.len()).unwrap_or(1_000);
        Ok(match (behind, undelivered) {
            (true, _) => GAP,
            (false, 0) => QUIET,
            _ => BUSY + many,
        })
    }

    /// A route was released: those that read the ledger must do so, if this process does not.
    async fn pass_on(&self, link: &mut Link) -> Result<(), Lost> {
        let asks = self.side.asks.load(Ordering::SeqCst);
        if asks && !self.side.refills.load(Ordering::SeqCst) {
            let mut ask = cmd("HINCRBY");
            ask.arg(&self.side.keys.marks).arg("asked").arg(1);
            // Refused or not: it is found in the ledger some time later.
            let _ = link.command::<Value>(&ask).await?;
        }
        if asks {
            self.side.asks.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    /// There is room for what was dropped.
    async fn ask_for_more(&self, link: &mut Link) -> Result<(), Lost> {
        // A process that never refills must not take the turn from those that do.
        let refills = self.side.refills.load(Ordering::SeqCst);
        if !refills || try_turn(self.shared, self.side, link).await? == Turn::Won {
            self.shared.local.look();
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    fn gauge(&self, undelivered: usize) {
        metrics::gauge!(names::WAITING, "lane" => self.side.lane.as_str()).set(undelivered as f64);
    }

    /// Takes over what others had read and not acknowledged for too long. `true` = there is more.
    async fn claim(&mut self, link: &mut Link) -> Result<bool, Lost> {
        // Only what somebody here is about to take: otherwise it would wait here as it did there.
        if self.side.target() == 0 || self.shared.local.waiting(self.side.lane) >= self.side.target() {
            return Ok(false);
        }
        let mut commands = redis::pipe();
        let idle = u64::try_from(self.shared.idle.as_millis()).unwrap_or(u64::MAX);
        for (key, cursor) in self.side.keys.streams.iter().zip(&self.cursors) {
            let consumer = &self.shared.consumer;
            let claim = commands.cmd("XAUTOCLAIM").arg(key).arg(GROUP).arg(consumer).arg(idle);
            claim.arg(cursor).arg("COUNT").arg(CLAIMED);
        }
        let answers = link.pipeline(&mut commands).await?;
        let mut more = false;
        for (stream, answer) in answers.into_iter().enumerate() {
            let reply = answer
                .ok()
                .and_then(|value| StreamAutoClaimReply::from_redis_value(value).ok());
            let Some(reply) = reply else { continue };
            more |= reply.next_stream_id != "0-0";
            if !reply.claimed.is_empty() {
                let claimed = reply.claimed.len() as u64;
                metrics::counter!(names::CLAIMED, "lane" => self.side.lane.as_str()).increment(claimed);
            }
            self.cursors[stream] = reply.next_stream_id;
            reader::adopt(self.shared, self.side.lane, stream, reply.claimed);
        }
        Ok(more)
    }

    /// Deletes consumers that are long gone and have nothing pending.
    async fn tidy(&self, link: &mut Link) -> Result<(), Lost> {
        for key in &self.side.keys.streams {
            let answer = link
                .command::<StreamInfoConsumersReply>(cmd("XINFO").arg("CONSUMERS").arg(key))
                .await?;
            let consumers = answer.map(|reply| reply.consumers).unwrap_or_default();
            let dead = consumers.into_iter().filter(|consumer| {
                consumer.pending == 0
                    && consumer.idle > usize::try_from(DEAD.as_millis()).unwrap_or(usize::MAX)
                    && consumer.name != self.shared.consumer
            });
            for consumer in dead {
                let mut delete = cmd("XGROUP");
                delete.arg("DELCONSUMER").arg(key).arg(GROUP).arg(consumer.name);
                // Nobody minds if it is gone already.
                let _ = link.command::<Value>(&delete).await?;
            }
        }
        Ok(())
    }
}
