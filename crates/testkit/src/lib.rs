//! For tests only: what a test needs from outside and cannot fake.
//!
//! - [`TestClock`]: time that is moved by hand.
//! - [`postgres`] and [`redis`]: a fresh database or key prefix on the servers that `scripts/with-backends` started, and private servers
//!   (`Server`) for the tests that stop and kill them.
//! - [`proxy`]: a TCP proxy that cuts, stalls and slows what passes through it.
//! - [`tls`]: an authority and a certificate for the private servers.
//!
//! All of it may be called from a plain test or within any runtime. It panics, with words, when the machine does not do what it must:
//! there is nothing a test could do about that. A private server and its directory go when the value is dropped, and also when the test
//! process is killed: a shell waits for the end of a pipe that only the test process holds, and tidies up.
#![expect(
    clippy::missing_panics_doc,
    reason = "everything here panics when the machine fails it"
)]
#![expect(clippy::expect_used, reason = "for tests only, where a panic is the answer")]

mod clock;
mod daemon;
pub mod postgres;
pub mod proxy;
pub mod redis;
pub mod tls;

pub use clock::TestClock;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs as _};

/// A port of 127.0.0.1 that nobody listens on at the moment.
///
/// Below the range from which the system takes the ports of outgoing connections, so that a server that was stopped finds it free again.
#[must_use]
pub fn free_port() -> u16 {
    loop {
        let port = rand::random_range(22_000..30_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A name that no other test has, with nothing but `[a-z0-9_]`.
fn unique_name() -> String {
    format!("bugle_test_{:016x}", rand::random::<u64>())
}

/// One of the two variables that `scripts/with-backends` sets.
fn backend_url(variable: &str) -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "where the tests' backends are is no configuration of bugle's"
    )]
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run the tests with scripts/with-backends (scripts/test does)")
    })
}

/// The first address of `host` or `host:port`.
fn resolve(place: &str, default_port: u16) -> SocketAddr {
    let has_port = place.rsplit(':').next().is_some_and(|end| end.parse::<u16>().is_ok());
    let place = if has_port {
        place.to_owned()
    } else {
        format!("{place}:{default_port}")
    };
    let found = place.to_socket_addrs().ok().and_then(|mut all| all.next());
    found.unwrap_or_else(|| panic!("{place} is no address"))
}
