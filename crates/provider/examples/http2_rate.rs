//! What the HTTP/2 protocol code itself costs: requests rendered and answers parsed, in memory, without TLS and system calls.
//!
//! `cargo run --release -p bugle-provider --example http2_rate [requests]`

#![allow(
    dead_code,
    unused_imports,
    clippy::print_stdout,
    reason = "a measurement that uses a part of the module"
)]

#[path = "../src/http2/mod.rs"]
mod http2;

use std::time::{Duration, Instant};

use http2::{Answer, Connection, Events, Head, Indexing, Settings, StreamFailure};

#[derive(Default)]
struct Counter {
    answers: u64,
    bytes: u64,
}

impl Events<u32> for Counter {
    fn answer(&mut self, owner: u32, answer: Answer<'_>) {
        self.answers += u64::from(answer.status() == 200);
        self.bytes += answer.body().len() as u64 + u64::from(owner & 1);
    }
    fn failed(&mut self, _: u32, _: StreamFailure) {}
}

/// Appends a frame.
fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// How a server writes the heads of its answers.
#[derive(Clone, Copy)]
enum Heads {
    /// All fields by their index, as when nothing changes.
    Indexed,
    /// A date in Huffman's code in each, not indexed.
    Dated,
}

/// Nanoseconds for a request and for an answer.
fn measure(head: &Head, body: &[u8], heads: Heads, requests: u32) -> (f64, f64) {
    const BATCH: u32 = 500;
    let mut connection: Connection<u32> = Connection::new(Settings::default());
    let mut on = Counter::default();
    let mut answers = Vec::new();
    frame(&mut answers, 4, 0, 0, &[0, 4, 0, 1, 0, 0, 0, 3, 0, 0, 3, 232]);
    frame(&mut answers, 8, 0, 0, &(1_u32 << 30).to_be_bytes());
    let date = b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff";
    let dated = [&[0x88, 0x0f, 0x12, 0x96][..], date, &[0xbe, 0xbf]].concat();
    let indexed = [0x88, 0xbe, 0xbf, 0xc0];
    // The peer's table: content-type, server, date.
    let mut first = vec![0x88];
    for (name, value) in [
        (31, "application/json"),
        (54, "scaffolding on HTTPServer2"),
        (33, "Mon, 21 Oct 2013 20:13:21 GMT"),
    ] {
        first.push(0x40 | name);
        first.push(u8::try_from(value.len()).unwrap_or(0));
        first.extend_from_slice(value.as_bytes());
    }
    let (mut encode, mut parse) = (Duration::ZERO, Duration::ZERO);
    let mut id = 1;
    let mut head_block: &[u8] = &first;
    for _ in 0..requests / BATCH {
        let begin = Instant::now();
        for n in 0..BATCH {
            let _ = connection.request(head, b"", &[body], n);
        }
        encode += begin.elapsed();
        connection.output().clear();
        for _ in 0..BATCH {
            frame(&mut answers, 1, 4, id, head_block);
            frame(&mut answers, 0, 1, id, br#"{"name":"projects/p/messages/0123456789"}"#);
            head_block = match heads {
                Heads::Indexed => &indexed,
                Heads::Dated => &dated,
            };
            id += 2;
        }
        let sent = u32::try_from(body.len()).unwrap_or(0) * BATCH;
        frame(&mut answers, 8, 0, 0, &sent.to_be_bytes());
        let begin = Instant::now();
        for piece in answers.chunks(16 << 10) {
            if let Err(e) = connection.receive(piece, &mut on) {
                println!("{e}");
            }
        }
        parse += begin.elapsed();
        answers.clear();
        connection.output().clear();
    }
    let done = f64::from(requests / BATCH * BATCH);
    println!("  answers {} body bytes {}", on.answers, on.bytes);
    (encode.as_secs_f64() * 1e9 / done, parse.as_secs_f64() * 1e9 / done)
}

fn main() {
    let requests = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(2_000_000);
    let bearer = format!("Bearer {}", "t0k3n.".repeat(167));
    let fcm = Head::new("https", "fcm.googleapis.com", "/v1/projects/p/messages:send").and_then(|head| {
        head.header("authorization", &bearer, Indexing::Table)?.header(
            "content-type",
            "application/json",
            Indexing::Table,
        )
    });
    let Ok(head) = fcm else { return };
    for (name, heads) in [
        ("indexed", Heads::Indexed),
        ("with a date in Huffman's code", Heads::Dated),
    ] {
        let (request, answer) = measure(&head, &[b'x'; 300], heads, requests);
        println!("heads of answers {name}: {request:.0} ns a request, {answer:.0} ns an answer");
    }
}
