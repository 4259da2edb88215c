//! A script of any bytes: what a server sends and what the connection's owner does, in any order and in any pieces. The body of the fuzz target
//! `http2_connection`, and of the tests beside this file.
//!
//! What must hold whatever happens: no panic; each owner comes back exactly once; what is put out is whole frames in an order that RFC 9113
//! allows, no longer than what was asked for; and after an error there is nothing more, neither events nor output.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use crate::http2::{
    Answer, Connection, ErrorCode, Events, Head, Indexing, ProtocolError, Settings, StreamFailure, StreamId,
};

/// Requests that one script may make.
const REQUESTS: u32 = 200;

/// Bytes of the script, zeros behind its end.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        let (byte, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *byte
    }

    fn number(&mut self) -> u32 {
        u32::from_be_bytes([0; 4].map(|_: u8| self.byte()))
    }

    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// Who has not come back.
#[derive(Default)]
struct Owners {
    open: BTreeMap<u32, StreamId>,
    events: usize,
}

impl Owners {
    fn back(&mut self, owner: u32) {
        assert!(
            self.open.remove(&owner).is_some(),
            "{owner} has come back before, or was never sent"
        );
        self.events += 1;
    }
}

impl Events<u32> for Owners {
    fn answer(&mut self, owner: u32, answer: Answer<'_>) {
        assert!((200..1000).contains(&answer.status()));
        assert!(answer.body().len() <= 64 << 10);
        assert!(answer.field("retry-after").is_none_or(|value| value.len() <= 32 << 10));
        let _ = answer.is_truncated();
        self.back(owner);
    }
    fn failed(&mut self, owner: u32, _: StreamFailure) {
        self.back(owner);
    }
    fn settings(&mut self) {
        self.events += 1;
    }
    fn goaway(&mut self, _: ErrorCode) {
        self.events += 1;
    }
    fn pong(&mut self) {
        self.events += 1;
    }
}

struct World {
    connection: Connection<u32>,
    heads: &'static (Head, Head, Head),
    owners: Owners,
    requests: u32,
    /// All that was written.
    wire: Vec<u8>,
    /// The bodies' lengths by stream.
    bodies: Vec<usize>,
    received: usize,
    error: Option<ProtocolError>,
}

fn heads() -> &'static (Head, Head, Head) {
    static HEADS: OnceLock<(Head, Head, Head)> = OnceLock::new();
    HEADS.get_or_init(|| {
        let head = |token: &str| {
            Head::new("https", "fcm.example", "/v1/projects/p/messages:send")
                .and_then(|head| head.header("authorization", token, Indexing::Table))
                .unwrap_or_else(|e| panic!("{e}"))
        };
        // The last is longer than a frame, in Huffman's code too, and than any table.
        (head("Bearer a"), head(&"b".repeat(1_000)), head(&"c".repeat(30_000)))
    })
}

/// Plays a script. `inspect` is called after each step, to look at what only the module itself can see.
pub(crate) fn run(input: &[u8], mut inspect: impl FnMut(&mut Connection<u32>)) {
    let mut world = World {
        connection: Connection::new(Settings::default()),
        heads: heads(),
        owners: Owners::default(),
        requests: 0,
        wire: Vec::new(),
        bodies: Vec::new(),
        received: 0,
        error: None,
    };
    let mut script = Script(input);
    while !script.0.is_empty() {
        world.step(&mut script);
        assert_eq!(world.connection.open_streams(), world.owners.open.len());
        inspect(&mut world.connection);
    }
    world.end();
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

impl World {
    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 16 {
            0..3 => {
                let (kind, flags, stream) = (script.byte() % 11, script.byte(), u32::from(script.byte() % 32));
                let length = usize::from(script.byte());
                let payload = script.bytes(length);
                self.receive(&frame(kind, flags, stream, payload), script);
            }
            3 => {
                let length = usize::from(script.byte());
                self.receive(script.bytes(length), script);
            }
            4 | 5 => {
                let entry = [&[0, script.byte() % 8][..], &script.number().to_be_bytes()].concat();
                self.receive(&frame(4, 0, 0, &entry), script);
            }
            6 | 7 => {
                let stream = u32::from(script.byte() % 64) * 2 + 1;
                let length = usize::from(script.byte() % 64);
                let body = script.bytes(length);
                // :status 200, and a field that goes into the table.
                let head = frame(1, 4, stream, b"\x88\x40\x0bretry-after\x017");
                self.receive(&[head, frame(0, script.byte() % 2, stream, body)].concat(), script);
            }
            8 => {
                let stream = u32::from(script.byte() % 64).saturating_sub(32);
                self.receive(&frame(8, 0, stream, &script.number().to_be_bytes()), script);
            }
            9..12 => self.request(script),
            12 => self.reset(script.byte()),
            13 => self.write(usize::MAX),
            14 => self.write(usize::from(script.byte())),
            _ => match script.byte() {
                0 => self.connection.goaway(),
                1..128 => self.connection.ping(),
                // A long piece of an answer's body.
                stream => self.receive(&frame(0, 0, u32::from(stream - 127), &[7; 16_384]), script),
            },
        }
    }

    fn receive(&mut self, bytes: &[u8], script: &mut Script<'_>) {
        let cut = usize::from(script.byte()) % (bytes.len() + 1);
        let (first, second) = bytes.split_at(cut);
        for piece in [first, second] {
            let (events, length) = (self.owners.events, self.connection.output().len());
            let result = self.connection.receive(piece, &mut self.owners);
            if let Some(error) = self.error {
                assert_eq!(result, Err(error), "an error stays");
                assert_eq!(self.owners.events, events, "no events after an error");
                assert_eq!(self.connection.output().len(), length, "nothing to say after an error");
            } else {
                self.received += piece.len();
                self.error = result.err();
            }
        }
    }

    fn request(&mut self, script: &mut Script<'_>) {
        let head = match script.byte() % 8 {
            0 => &self.heads.2,
            1..4 => &self.heads.1,
            _ => &self.heads.0,
        };
        let length = usize::from(script.byte()) * usize::from(script.byte() % 128);
        if self.requests == REQUESTS {
            return;
        }
        let body = vec![b'x'; length];
        let (a, b) = body.split_at(length / 3);
        let has_room = (self.connection.peer_limit()).is_none_or(|limit| self.connection.open_streams() < limit);
        let allowed = has_room && self.connection.is_open() && self.connection.takes(head, b"");
        let before = self.connection.output().len();
        match self.connection.request(head, b"", &[a, b], self.requests) {
            Ok(stream) => {
                assert!(allowed && self.error.is_none());
                self.owners.open.insert(self.requests, stream);
                self.bodies.push(length);
                self.requests += 1;
            }
            Err(owner) => {
                assert!(!allowed);
                assert_eq!(owner, self.requests);
                assert_eq!(self.connection.output().len(), before, "what is not taken is not sent");
            }
        }
    }

    fn reset(&mut self, which: u8) {
        let open: Vec<_> = self
            .owners
            .open
            .iter()
            .map(|(owner, stream)| (*owner, *stream))
            .collect();
        let Some((owner, stream)) = open.get(usize::from(which) % open.len().max(1)) else {
            return;
        };
        assert!(self.connection.open_streams_upto(*stream).contains(stream));
        assert_eq!(self.connection.reset(*stream), Some(*owner));
        assert_eq!(self.connection.reset(*stream), None);
        self.owners.back(*owner);
    }

    fn write(&mut self, most: usize) {
        let output = self.connection.output();
        self.wire.extend(output.drain(..output.len().min(most)));
    }

    fn end(mut self) {
        self.write(usize::MAX);
        let left = self.connection.drain();
        let expected: Vec<_> = self
            .owners
            .open
            .iter()
            .map(|(owner, stream)| (*stream, *owner))
            .collect();
        assert_eq!(left, expected, "who has not come back comes back now");
        assert!(self.connection.drain().is_empty() && !self.connection.is_open());
        Wire::default().check(&self);
    }
}

/// What a server makes of the output.
#[derive(Default)]
struct Wire {
    /// Streams that were opened, with their body so far.
    bodies: Vec<usize>,
    ended: BTreeSet<u32>,
    reset: BTreeSet<u32>,
    /// Bytes of what is neither HEADERS, CONTINUATION nor DATA.
    control: usize,
    in_block: bool,
    failed: bool,
}

impl Wire {
    fn check(mut self, world: &World) {
        let mut rest = &world.wire[24..];
        while let Some((header, more)) = rest.split_first_chunk::<9>() {
            let [l0, l1, l2, kind, flags, stream @ ..] = *header;
            let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
            assert!(!self.failed, "a frame behind the last GOAWAY");
            assert!(length <= more.len(), "a frame is not whole");
            self.frame(kind, flags, u32::from_be_bytes(stream), &more[..length]);
            rest = &more[length..];
        }
        assert!(rest.is_empty() && !self.in_block);
        assert_eq!(self.bodies.len(), world.bodies.len(), "one HEADERS for each request");
        assert_eq!(self.failed, world.error.is_some());
        for (n, (sent, asked)) in self.bodies.iter().zip(&world.bodies).enumerate() {
            let whole = self.ended.contains(&(2 * u32::try_from(n).unwrap_or(0) + 1));
            assert!(sent <= asked, "a body is longer than it was");
            assert!(!whole || sent == asked, "a body ended early");
        }
        // A frame of 9 bytes or more makes us say one of 17 at most; resets and PINGs are the owner's.
        let most = 200 + 3 * world.received + 17 * 2 * (world.owners.events + 4_096);
        assert!(self.control <= most, "{} bytes of control frames", self.control);
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        assert_eq!(self.in_block, kind == 9, "only CONTINUATION goes on with a block");
        match kind {
            0 => {
                let place = (stream / 2) as usize;
                assert!(stream % 2 == 1 && place < self.bodies.len(), "DATA for no stream");
                assert!(
                    !self.ended.contains(&stream) && !self.reset.contains(&stream),
                    "DATA behind the end"
                );
                self.bodies[place] += payload.len();
            }
            1 => {
                assert_eq!(stream as usize, 2 * self.bodies.len() + 1, "streams ascend");
                self.bodies.push(0);
            }
            3 => {
                assert!(stream as usize <= 2 * self.bodies.len(), "a reset of no stream");
                self.reset.insert(stream);
            }
            4 | 6 | 8 | 9 => {}
            7 => self.failed = payload[4..8] != [0; 4],
            other => panic!("a frame of type {other}"),
        }
        if matches!(kind, 1 | 9) {
            self.in_block = flags & 4 == 0;
        } else if kind != 0 {
            self.control += 9 + payload.len();
        }
        if matches!(kind, 0 | 1) && flags & 1 != 0 {
            assert!(self.ended.insert(stream), "a stream ends once");
        }
    }
}
