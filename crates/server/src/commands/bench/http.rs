//! A lean HTTP/1.1 client: the server is to be measured, not the client.
//!
//! Requests are rendered once ([`Template`]) and differ in numbers of a fixed width only. Answers must have a `content-length`, which
//! bugle's and the simulator's have.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The key of the servers under test: they listen on this machine only and are thrown away.
pub(super) const KEY: &str = "bench";
/// Stands in a body where a number of as many digits will be.
pub(super) const NUMBER: &str = "#########";

/// A keep-alive connection; one request at a time.
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(addr: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(addr)
            .await
            .with_context(|| format!("cannot connect to {addr}"))?;
        stream.set_nodelay(true)?;
        let buffer = Vec::with_capacity(64 * 1_024);
        Ok(Self { stream, buffer })
    }

    /// The body of the answer; every status but 200 is an error.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<&[u8]> {
        self.stream.write_all(request).await.context("the server hung up")?;
        self.buffer.clear();
        let (status, head, length) = loop {
            self.more().await?;
            if let Some(head) = find(&self.buffer, b"\r\n\r\n") {
                let (status, length) = read_head(&self.buffer[..head])?;
                break (status, head + 4, length);
            }
        };
        while self.buffer.len() < head + length {
            self.more().await?;
        }
        let body = &self.buffer[head..head + length];
        if status != 200 {
            bail!("HTTP {status}: {}", String::from_utf8_lossy(body));
        }
        Ok(body)
    }

    /// The same for answers of the API, whose errors have status 200.
    pub(super) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<&[u8]> {
        let body = self.exchange(request).await?;
        if let Some(at) = find(body, b"\"error\":") {
            let end = body.len().min(at + 300);
            bail!("the API refused: {}", String::from_utf8_lossy(&body[at..end]));
        }
        Ok(body)
    }

    /// One operation's result.
    pub(super) async fn call(&mut self, method: &str, params: &Value) -> anyhow::Result<Value> {
        let request = post(&format!("/api/{method}"), &params.to_string());
        let body = self.ask(&request).await.with_context(|| method.to_owned())?;
        let mut answer: Value = serde_json::from_slice(body)?;
        Ok(answer.get_mut("result").map(Value::take).unwrap_or_default())
    }

    pub(super) async fn get(&mut self, path: &str) -> anyhow::Result<&[u8]> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n");
        self.exchange(request.as_bytes())
            .await
            .with_context(|| format!("GET {path}"))
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the server hung up");
        }
        Ok(())
    }
}

/// A whole request.
pub(super) fn post(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A rendered request with holes for numbers.
#[derive(Clone)]
pub(super) struct Template {
    bytes: Vec<u8>,
    holes: Vec<usize>,
    /// So many commands, each with as many holes.
    commands: usize,
}

impl Template {
    /// `body` has [`NUMBER`] in the place of each number.
    pub(super) fn new(path: &str, body: &str, commands: usize) -> Self {
        let bytes = post(path, body);
        let mut holes = Vec::new();
        let mut from = 0;
        while let Some(at) = find(&bytes[from..], NUMBER.as_bytes()) {
            holes.push(from + at);
            from += at + NUMBER.len();
        }
        Self { bytes, holes, commands }
    }

    /// Commands of one request.
    pub(super) fn commands(&self) -> u64 {
        self.commands as u64
    }

    /// The request whose commands have the numbers that these are mapped to.
    pub(super) fn fill(&mut self, first: u64, number: impl Fn(u64) -> u64) -> &[u8] {
        let each = (self.holes.len() / self.commands).max(1);
        for (at, hole) in self.holes.iter().enumerate() {
            let mut rest = number(first + (at / each) as u64);
            for digit in self.bytes[*hole..*hole + NUMBER.len()].iter_mut().rev() {
                *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
                rest /= 10;
            }
        }
        &self.bytes
    }
}

/// Status and content-length.
fn read_head(head: &[u8]) -> anyhow::Result<(u16, usize)> {
    let head = std::str::from_utf8(head).context("the answer is no HTTP")?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .context("the answer is no HTTP")?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .context("the answer has no content-length")?;
    Ok((status, length))
}

pub(super) fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_gets_consecutive_numbers_command_by_command() {
        let command = format!("a{NUMBER}b{NUMBER};");
        let mut template = Template::new("/x", &command.repeat(2), 2);
        let request = String::from_utf8(template.fill(41, |n| n).to_vec()).unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "a000000041b000000041;a000000042b000000042;");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        let again = String::from_utf8(template.fill(7, |n| n % 8).to_vec()).unwrap();
        assert!(again.ends_with("a000000007b000000007;a000000000b000000000;"), "{again}");
    }

    #[test]
    fn a_head_has_status_and_length_in_any_case() {
        let head = b"HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\nx: y";
        assert_eq!(read_head(head).unwrap(), (404, 12));
        assert!(read_head(b"HTTP/1.1 200 OK\r\nx: y").is_err());
        assert!(read_head(b"nonsense").is_err());
    }
}
