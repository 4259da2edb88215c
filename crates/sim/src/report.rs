//! What `GET /sim/stats` answers: the counters, with the rate and the costs of the moment.

use serde::{Deserialize, Serialize};

use crate::process::Process;
use crate::stats::Stats;

/// The counters and what goes with them; in JSON all on one level but `blind`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The counters.
    #[serde(flatten)]
    pub stats: Stats,
    /// Messages in a second, over the last one.
    pub rate_1s: f64,
    /// Seconds since the simulator was started.
    pub uptime_s: f64,
    /// What the process has cost: the simulator alone where it runs by itself, as `bugle sim` does.
    #[serde(flatten)]
    pub process: Process,
    /// The blind sink; none where there is none.
    pub blind: Option<BlindStats>,
}

/// What the blind sink has seen since it was started or reset. Its requests are in [`Stats`] too, as accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlindStats {
    /// Requests answered.
    pub requests: u64,
    /// How many times answers were written: `requests / writes` came in together.
    pub writes: u64,
    /// Bytes of HTTP/2 that came in, after TLS.
    pub bytes_read: u64,
    /// Bodies in which no token was found, where tokens are counted.
    pub without_token: u64,
    /// Answers that were kept back because the settings have a latency.
    pub late: u64,
    /// How long those were kept back, in microseconds, all together.
    pub late_us: u64,
}
