//! The testkit's own promises; run with `scripts/with-backends cargo test -p bugle-testkit`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lifecycle;
mod postgres;
mod proxy;
mod redis;

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Fails the test when it does not hold within half a minute.
fn soon(what: &str, holds: impl Fn() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn refuses(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err()
}
