//! The bucket of a provider's quota: a line of time that is handed out piece by piece. Pure.
//!
//! A draw of n permits takes the next piece of the line, as long as n messages take at the present rate, and may use its permits from the piece's begin until a
//! moment after its end. Pieces never overlap and never lie in the past, so whatever number of processes draw, in a window of time of length w no more is sent than the
//! rate allows in w + 2 · [`CHUNK`] + [`GRACE`]. What nobody has drawn in time is gone: an idle minute is no credit.
//!
//! The **ramp** follows what is really drawn: the rate rises along the pieces that are taken, from a twentieth to the full rate in `ramp_up`, and falls as fast over the gaps
//! between them. So a trickle keeps it low, a broadcast climbs from there, and there is no moment at which it would have to be started.
//!
//! Times are microseconds on the clock of whoever keeps the bucket. That clock may jump: forwards is a gap; backwards, further than a piece can lie ahead, begins anew at the
//! present, and gives away no more than lay ahead.

use std::time::Duration;

use crate::quota::{Draw, Grant, Pace, Throttle};

/// The longest piece that one draw gets.
pub(crate) const CHUNK: i64 = 100_000;
/// Permits may be used so long after the end of their piece.
pub(crate) const GRACE: i64 = 250_000;
/// Pieces begin so far ahead at most.
const AHEAD: i64 = 500_000;
/// Where the rate begins: the full rate by this.
const FLOOR_PARTS: f64 = 20.0;
/// The first pause where the provider names none.
const FIRST_PAUSE: i64 = 60_000_000;
const LONGEST_PAUSE: i64 = 900_000_000;
/// The longest pause that a provider is believed.
const LONGEST_TOLD: i64 = 3_600_000_000;
const MICROS: f64 = 1e6;

/// A bucket.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Bucket {
    /// The line is handed out up to here.
    pub(crate) used_until: i64,
    /// The rate there, in messages a second.
    pub(crate) level: f64,
    /// Nobody sends before.
    pub(crate) throttled_until: i64,
    /// The last pause that the provider did not name.
    pub(crate) pause: i64,
}

impl Bucket {
    /// Answers a draw.
    pub(crate) fn draw(&mut self, now: i64, draw: &Draw) -> Grant {
        self.mend(now, draw.pace);
        if let Some(throttle) = draw.throttle {
            self.throttle(now, throttle, draw.pace);
        }
        let throttled = micros(self.throttled_until - now);
        if !throttled.is_zero() || !draw.pace.is_limited() {
            return Grant {
                throttled,
                ..Grant::default()
            };
        }
        self.grant(now, draw)
    }

    /// How long nobody may send.
    pub(crate) fn throttled(&self, now: i64) -> Duration {
        // One that lies further ahead was written by a clock that has been put back.
        micros(
            Some(self.throttled_until - now)
                .filter(|left| *left <= LONGEST_TOLD)
                .unwrap_or(0),
        )
    }

    /// Puts right what a clock that was put back has left.
    fn mend(&mut self, now: i64, pace: Pace) {
        if self.throttled_until - now > LONGEST_TOLD {
            self.throttled_until = now;
        }
        let one = if self.level > 0.0 {
            to_micros(1.0 / self.level)
        } else {
            0
        };
        if pace.is_limited() && self.used_until - now > AHEAD + CHUNK + one {
            self.used_until = now;
        }
    }

    fn grant(&mut self, now: i64, draw: &Draw) -> Grant {
        let ramp = Ramp::of(draw.pace);
        let begin = self.used_until.max(now);
        let mut level = self.level.clamp(ramp.floor, ramp.full);
        level = (level - ramp.slope * seconds(begin - self.used_until)).max(ramp.floor);
        let most = whole(ramp.within(level, seconds(CHUNK))).max(1);
        if begin > now + AHEAD {
            return Grant {
                most,
                wait: micros(begin - AHEAD - now),
                ..Grant::default()
            };
        }
        let permits = draw.permits.min(most);
        if permits > 0 {
            let length = ramp.length(level, f64::from(permits));
            self.used_until = begin + to_micros(length);
            self.level = (level + ramp.slope * length).min(ramp.full);
        }
        Grant {
            permits,
            wait: micros(begin - now),
            lasts: micros(self.used_until.max(begin) + GRACE - now),
            most,
            throttled: Duration::ZERO,
        }
    }

    fn throttle(&mut self, now: i64, throttle: Throttle, pace: Pace) {
        let held = self.throttled_until > now;
        let until = match throttle.after {
            Some(after) => {
                now + i64::try_from(after.as_micros())
                    .unwrap_or(LONGEST_TOLD)
                    .min(LONGEST_TOLD)
            }
            // Everything that was open when the pause began is answered so: that is one word, not many.
            None if held => return,
            None => {
                let again = self.pause > 0 && now - self.throttled_until < self.pause;
                self.pause = if again {
                    (self.pause * 2).min(LONGEST_PAUSE)
                } else {
                    FIRST_PAUSE
                };
                now + self.pause
            }
        };
        self.throttled_until = self.throttled_until.max(until);
        if !held && pace.is_limited() {
            self.level = (self.level / 2.0).max(Ramp::of(pace).floor);
        }
    }
}

/// How the rate rises.
struct Ramp {
    floor: f64,
    full: f64,
    /// By so much a second.
    slope: f64,
}

impl Ramp {
    fn of(pace: Pace) -> Self {
        let full = pace.per_second;
        let ramp_up = pace.ramp_up.as_secs_f64();
        if ramp_up <= 0.0 {
            return Self {
                floor: full,
                full,
                slope: 0.0,
            };
        }
        let floor = (full / FLOOR_PARTS).max(full.min(1.0));
        Self {
            floor,
            full,
            slope: (full - floor) / ramp_up,
        }
    }

    /// When the rate is full, in seconds from where it is `level`, and how many messages that takes.
    fn climb(&self, level: f64) -> (f64, f64) {
        if self.slope <= 0.0 || level >= self.full {
            return (0.0, 0.0);
        }
        let time = (self.full - level) / self.slope;
        (time, f64::midpoint(level, self.full) * time)
    }

    /// Messages within so many seconds.
    fn within(&self, level: f64, time: f64) -> f64 {
        let (climb, messages) = self.climb(level);
        if time <= climb {
            return level * time + self.slope * time * time / 2.0;
        }
        messages + (time - climb) * self.full
    }

    /// Seconds that so many messages take.
    fn length(&self, level: f64, messages: f64) -> f64 {
        let (climb, climbing) = self.climb(level);
        if messages <= climbing {
            let root = (level * level + 2.0 * self.slope * messages).sqrt();
            return (root - level) / self.slope;
        }
        climb + (messages - climbing) / self.full
    }
}

#[expect(clippy::cast_precision_loss, reason = "lengths of time, not accounts")]
fn seconds(micros: i64) -> f64 {
    micros as f64 / MICROS
}

/// Rounded up: a piece is rather a microsecond too long.
#[expect(clippy::cast_possible_truncation, reason = "casts from floats saturate")]
fn to_micros(seconds: f64) -> i64 {
    (seconds * MICROS).ceil() as i64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts from floats saturate, and this one is not negative"
)]
fn whole(messages: f64) -> u32 {
    messages as u32
}

fn micros(length: i64) -> Duration {
    Duration::from_micros(u64::try_from(length).unwrap_or(0))
}

#[cfg(test)]
mod tests;
