//! Redis: key prefixes on the shared server, and private servers to stop, kill and empty: plain, with TLS, a replica, a Sentinel, a
//! Cluster.
//!
//! Nothing is kept on disk: a server that was restarted is empty.

mod cluster;
mod server;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::{backend_url, unique_name};

pub use cluster::Cluster;
pub use server::{MASTER_NAME, Server};

/// How long a test waits for an answer, or for servers to agree.
const PATIENCE: Duration = Duration::from_secs(30);

/// The shared server: `TEST_REDIS_URL`.
#[must_use]
pub fn url() -> String {
    backend_url("TEST_REDIS_URL")
}

/// A beginning for keys that no other test uses; `[a-z0-9_]`, without a separator at its end.
#[must_use]
pub fn prefix() -> String {
    unique_name()
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One command over a connection of its own.
fn call(address: SocketAddr, words: &[&str]) -> Result<String, String> {
    let talk = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            write!(request, "${}\r\n{word}\r\n", word.len()).expect("a String takes all");
        }
        stream.write_all(request.as_bytes())?;
        read_answer(&mut BufReader::new(stream))
    };
    talk().unwrap_or_else(|error: std::io::Error| Err(error.to_string()))
}

/// An answer of RESP2, its texts one a line; the outer error is the connection's, the inner one the server's answer.
fn read_answer(from: &mut BufReader<TcpStream>) -> std::io::Result<Result<String, String>> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let line = line.trim_end();
    let Some(kind) = line.chars().next() else {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    };
    let rest = &line[1..];
    let count = rest.parse().unwrap_or(0);
    Ok(match kind {
        '-' => Err(rest.to_owned()),
        '$' if rest != "-1" => {
            let mut text = vec![0; count + 2];
            from.read_exact(&mut text)?;
            Ok(String::from_utf8_lossy(&text[..count]).into_owned())
        }
        '*' => {
            let parts: Result<Vec<_>, _> = (0..count).map(|_| read_answer(from)).collect::<std::io::Result<_>>()?;
            parts.map(|parts| parts.join("\n"))
        }
        '$' => Ok(String::new()),
        _ => Ok(rest.to_owned()),
    })
}
