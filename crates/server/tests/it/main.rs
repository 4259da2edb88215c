//! A push's whole way, against the real binary: HTTP in, the simulator out, the account between them. And everything that may go wrong on it.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod bench;
mod check;
mod check_servers;
mod cluster;
mod config;
mod devices_cli;
mod docs;
mod documented;
mod faults;
mod hangup;
mod holds;
mod imports;
mod kill;
mod migrate_data;
mod outages;
mod processes;
mod push_cli;
mod replica;
mod roles;
mod stop;
mod tutorial;
mod world;
