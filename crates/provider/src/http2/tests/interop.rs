//! Against the server of the `h2` crate, in memory.

#![expect(clippy::cast_possible_truncation, reason = "test data is small")]

use std::collections::HashSet;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::super::answer::{Answer, Events};
use super::super::*;

#[derive(Clone, Copy)]
struct Peer {
    table: u32,
    window: u32,
    connection_window: u32,
    streams: u32,
}

const REQUESTS: usize = 5_000;

fn body_of(n: usize) -> Vec<u8> {
    // All sizes from nothing to 40 000; most are small.
    let length = match n % 50 {
        0 => 0,
        1 => 40_000,
        2 => 16_384,
        3 => 16_385,
        k => (k * 7919 + n) % 900,
    };
    (0..length).map(|i| b'a' + ((i + n) % 26) as u8).collect()
}

fn bearer(n: usize) -> String {
    let token = if n < REQUESTS / 2 { "first" } else { "other" };
    format!("Bearer {}", token.repeat(200))
}

/// Answers `(path, authorization, length, checksum)` of each request; every 7th without a body, every 11th in two frames and with trailers.
async fn serve(io: DuplexStream, peer: Peer) -> usize {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(peer.window)
        .initial_connection_window_size(peer.connection_window)
        .header_table_size(peer.table)
        .max_concurrent_streams(peer.streams);
    let mut connection = builder.handshake::<_, Bytes>(io).await.unwrap();
    let mut served = 0;
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request.unwrap();
        served += 1;
        tokio::task::spawn_local(async move {
            let (parts, mut body) = request.into_parts();
            let (mut length, mut sum) = (0, 0_u64);
            while let Some(chunk) = body.data().await {
                let chunk = chunk.unwrap();
                body.flow_control().release_capacity(chunk.len()).unwrap();
                length += chunk.len();
                sum = chunk
                    .iter()
                    .fold(sum, |sum, b| sum.wrapping_mul(31).wrapping_add(u64::from(*b)));
            }
            assert_eq!(parts.method, "POST");
            assert_eq!(parts.headers["content-type"], "application/json");
            let text = format!(
                "{} {} {length} {sum}",
                parts.uri.path(),
                parts.headers["authorization"].to_str().unwrap()
            );
            let answer = http::Response::builder().status(if length.is_multiple_of(2) { 200 } else { 429 });
            let answer = answer
                .header("retry-after", length.to_string())
                .header("x-other", "something long enough");
            let answer = answer.body(()).unwrap();
            if length % 7 == 3 {
                respond.send_response(answer, true).unwrap();
                return;
            }
            let mut send = respond.send_response(answer, false).unwrap();
            if length % 11 == 5 {
                let (first, second) = text.split_at(10);
                send.send_data(first.to_owned().into(), false).unwrap();
                send.send_data(second.to_owned().into(), false).unwrap();
                let mut trailers = http::HeaderMap::new();
                trailers.insert("x-trailer", "1".parse().unwrap());
                send.send_trailers(trailers).unwrap();
            } else {
                send.send_data(text.into(), true).unwrap();
            }
        });
    }
    served
}

#[derive(Default)]
struct Checker {
    seen: HashSet<usize>,
}

impl Events<usize> for Checker {
    fn answer(&mut self, owner: usize, answer: Answer<'_>) {
        let body = body_of(owner);
        let length = body.len();
        assert_eq!(answer.status(), if length.is_multiple_of(2) { 200 } else { 429 });
        assert_eq!(answer.field("retry-after"), Some(length.to_string().as_bytes()));
        assert_eq!(answer.field("x-other"), None);
        assert!(!answer.is_truncated());
        if length % 7 == 3 {
            assert_eq!(answer.body(), b"");
        } else {
            let sum = body
                .iter()
                .fold(0_u64, |sum, b| sum.wrapping_mul(31).wrapping_add(u64::from(*b)));
            let expected = format!("/3/device/{owner} {} {length} {sum}", bearer(owner));
            assert_eq!(std::str::from_utf8(answer.body()).unwrap(), expected);
        }
        assert!(self.seen.insert(owner), "{owner} was answered twice");
    }
    fn failed(&mut self, owner: usize, failure: StreamFailure) {
        panic!("{owner}: {failure:?}");
    }
}

fn head(n: usize) -> Head {
    Head::with_path_prefix("https", "push.example", "/3/device/")
        .and_then(|h| h.header("authorization", &bearer(n), Indexing::Table))
        .and_then(|h| h.header("content-type", "application/json", Indexing::Table))
        .unwrap()
}

/// Writes all and reads once, both at the same time: the pipe may be smaller than what is under way.
async fn exchange(io: &mut DuplexStream, output: &[u8], buffer: &mut [u8]) -> usize {
    let (mut reader, mut writer) = tokio::io::split(io);
    let write = async { writer.write_all(output).await.unwrap() };
    let read = async { reader.read(buffer).await.unwrap() };
    let (read, ()) = futures_util::future::join(read, write).await;
    assert_ne!(read, 0, "the server closed");
    read
}

async fn drive(mut io: DuplexStream, cap: usize) {
    let mut connection = Connection::new(Settings::default());
    let mut on = Checker::default();
    let (first, other) = (head(0), head(REQUESTS - 1));
    let mut next = 0;
    let mut buffer = vec![0; 32 << 10];
    while on.seen.len() < REQUESTS {
        // Not before the SETTINGS: h2's server does not reopen a window that its own SETTINGS took below zero.
        while next < REQUESTS && connection.open_streams() < connection.peer_limit().unwrap_or(0).min(cap) {
            let head = if next < REQUESTS / 2 { &first } else { &other };
            let body = body_of(next);
            let (a, b) = body.split_at(body.len() / 3);
            connection
                .request(head, next.to_string().as_bytes(), &[a, b], next)
                .unwrap();
            next += 1;
        }
        let output = std::mem::take(connection.output());
        let read = exchange(&mut io, &output, &mut buffer).await;
        // Odd pieces: frames are cut anywhere.
        for piece in buffer[..read].chunks(1 + next % 3_000) {
            connection.receive(piece, &mut on).unwrap();
        }
    }
    assert_eq!(connection.open_streams(), 0);
    connection.goaway();
    let output = std::mem::take(connection.output());
    io.write_all(&output).await.unwrap();
    io.shutdown().await.unwrap();
}

async fn run(peer: Peer) {
    let (client, server) = tokio::io::duplex(1 << 20);
    tokio::task::LocalSet::new()
        .run_until(async {
            let server = tokio::task::spawn_local(serve(server, peer));
            drive(client, 200).await;
            assert_eq!(server.await.unwrap(), REQUESTS);
        })
        .await;
}

#[tokio::test]
async fn every_request_is_answered_through_h2_without_a_header_table() {
    run(Peer {
        table: 0,
        window: 1_000,
        connection_window: 65_535,
        streams: 200,
    })
    .await;
}

#[tokio::test]
async fn every_request_is_answered_through_h2_with_the_usual_header_table() {
    run(Peer {
        table: 4_096,
        window: 65_535,
        connection_window: 65_535,
        streams: 100,
    })
    .await;
}

#[tokio::test]
async fn every_request_is_answered_through_h2_with_a_large_header_table_and_large_windows() {
    run(Peer {
        table: 65_536,
        window: 1 << 20,
        connection_window: 4 << 20,
        streams: 1_000,
    })
    .await;
}

#[tokio::test]
async fn every_request_is_answered_through_h2_with_a_table_smaller_than_the_bearer() {
    run(Peer {
        table: 500,
        window: 300,
        connection_window: 65_535,
        streams: 7,
    })
    .await;
}
