//! What every queue promises, over every queue; and what those for many processes promise under faults.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod backend;
mod contract;
mod lanes;
mod processes;
mod redis_faults;
mod redis_servers;
