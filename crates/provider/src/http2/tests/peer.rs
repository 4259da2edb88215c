//! The other side, in memory: frames to hand to a connection, a reader for what it sends, and an owner that notes all events.

use std::collections::{BTreeMap, VecDeque};

use super::super::answer::{Answer, Events};
use super::super::frame::{HEADER_LEN, Header, PREFACE, flag, kind, put_header};
use super::super::hpack::table::STATIC;
use super::super::hpack::{huffman, integer};
use super::super::*;

/// What happened to an owner, or to the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Answer {
        owner: u32,
        status: u16,
        retry_after: Option<String>,
        apns_id: Option<String>,
        body: Vec<u8>,
        truncated: bool,
    },
    Failed(u32, StreamFailure),
    Settings,
    Goaway(ErrorCode),
    Pong,
}

#[derive(Default)]
pub(crate) struct Recorder(pub(crate) Vec<Event>);

impl Events<u32> for Recorder {
    fn answer(&mut self, owner: u32, answer: Answer<'_>) {
        let text = |name| answer.field(name).map(|v| String::from_utf8_lossy(v).into_owned());
        self.0.push(Event::Answer {
            owner,
            status: answer.status(),
            retry_after: text("retry-after"),
            apns_id: text("apns-id"),
            body: answer.body().to_vec(),
            truncated: answer.is_truncated(),
        });
    }
    fn failed(&mut self, owner: u32, failure: StreamFailure) {
        self.0.push(Event::Failed(owner, failure));
    }
    fn settings(&mut self) {
        self.0.push(Event::Settings);
    }
    fn goaway(&mut self, code: ErrorCode) {
        self.0.push(Event::Goaway(code));
    }
    fn pong(&mut self) {
        self.0.push(Event::Pong);
    }
}

pub(crate) fn answered(owner: u32, status: u16, body: &[u8]) -> Event {
    Event::Answer {
        owner,
        status,
        retry_after: None,
        apns_id: None,
        body: body.to_vec(),
        truncated: false,
    }
}

pub(crate) fn ours() -> Settings {
    Settings {
        keep: &["retry-after", "apns-id"],
        ..Settings::default()
    }
}

pub(crate) fn head() -> Head {
    Head::new("https", "fcm.example", "/v1/projects/p/messages:send")
        .and_then(|h| h.header("authorization", "Bearer abc", Indexing::Table))
        .and_then(|h| h.header("content-type", "application/json", Indexing::Table))
        .unwrap()
}

/// A connection after the peer's SETTINGS, its output taken.
pub(crate) fn connection(settings: &[(u16, u32)]) -> Connection<u32> {
    let mut connection = Connection::new(ours());
    let mut on = Recorder::default();
    connection.receive(&settings_frame(settings), &mut on).unwrap();
    assert_eq!(on.0, [Event::Settings]);
    connection.output().clear();
    connection
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
    out
}

pub(crate) fn settings_frame(settings: &[(u16, u32)]) -> Vec<u8> {
    let entry = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat();
    frame(
        kind::SETTINGS,
        0,
        0,
        &settings.iter().flat_map(entry).collect::<Vec<_>>(),
    )
}

pub(crate) fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

pub(crate) fn rst(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub(crate) fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// A block of literals without indexing, names and values in the clear.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            integer::encode(&mut out, 0, 7, text.len());
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// Flags of a HEADERS frame.
pub(crate) const WHOLE: u8 = flag::END_HEADERS;
pub(crate) const WHOLE_AND_END: u8 = flag::END_HEADERS | flag::END_STREAM;

pub(crate) fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, flags, stream, &block(fields))
}

pub(crate) fn data(stream: u32, end: bool, body: &[u8]) -> Vec<u8> {
    frame(kind::DATA, u8::from(end), stream, body)
}

/// The frames in what a connection has put out.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<(Header, Vec<u8>)> {
    if let Some(rest) = bytes.strip_prefix(PREFACE) {
        bytes = rest;
    }
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let header = Header::parse(bytes[..HEADER_LEN].try_into().unwrap());
        let end = HEADER_LEN + header.length;
        frames.push((header, bytes[HEADER_LEN..end].to_vec()));
        bytes = &bytes[end..];
    }
    frames
}

pub(crate) fn kinds(bytes: &[u8]) -> Vec<u8> {
    frames(bytes).iter().map(|(header, _)| header.kind).collect()
}

/// A second, naive decoder for HPACK: it keeps all names and values, and counts sizes from scratch.
pub(crate) struct Reader {
    table: VecDeque<(Vec<u8>, Vec<u8>)>,
    max: usize,
    /// What we have told the other side.
    pub(crate) limit: usize,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self {
            table: VecDeque::new(),
            max: 4096,
            limit: 4096,
        }
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    pub(crate) fn size(&self) -> usize {
        self.table.iter().map(|(n, v)| n.len() + v.len() + 32).sum()
    }

    fn evict(&mut self) {
        while self.size() > self.max {
            self.table.pop_back();
        }
    }

    fn get(&self, index: usize) -> (Vec<u8>, Vec<u8>) {
        if index <= 61 {
            let (name, value) = STATIC[index - 1];
            return (name.into(), value.into());
        }
        self.table[index - 62].clone()
    }

    /// The fields, each with the first byte of its representation.
    pub(crate) fn read(&mut self, mut block: &[u8]) -> Vec<(String, String, u8)> {
        let mut fields = Vec::new();
        while let Some((&first, rest)) = block.split_first() {
            block = rest;
            if first & 0x80 != 0 {
                let (name, value) = self.get(integer::decode(first, 7, &mut block).unwrap());
                fields.push((name, value, first));
                continue;
            }
            if first & 0xe0 == 0x20 {
                assert!(fields.is_empty(), "size updates come first");
                self.max = integer::decode(first, 5, &mut block).unwrap();
                assert!(self.max <= self.limit, "more of the table than it was given");
                self.evict();
                continue;
            }
            let indexed = first & 0x40 != 0;
            let index = integer::decode(first, if indexed { 6 } else { 4 }, &mut block).unwrap();
            let name = if index == 0 {
                string(&mut block)
            } else {
                self.get(index).0
            };
            let value = string(&mut block);
            if indexed {
                self.table.push_front((name.clone(), value.clone()));
                self.evict();
            }
            fields.push((name, value, first));
        }
        let text = |bytes| String::from_utf8(bytes).unwrap();
        fields
            .into_iter()
            .map(|(n, v, first)| (text(n), text(v), first))
            .collect()
    }
}

fn string(block: &mut &[u8]) -> Vec<u8> {
    let first = block[0];
    *block = &block[1..];
    let length = integer::decode(first, 7, block).unwrap();
    let (raw, rest) = block.split_at(length);
    *block = rest;
    let mut text = Vec::new();
    if first & 0x80 == 0 {
        return raw.to_vec();
    }
    huffman::decode(raw, &mut text).unwrap();
    text
}

/// A server's view: header blocks and bodies by stream.
#[derive(Default)]
pub(crate) struct Requests {
    pub(crate) heads: BTreeMap<u32, Vec<u8>>,
    pub(crate) bodies: BTreeMap<u32, Vec<u8>>,
    pub(crate) ended: BTreeMap<u32, bool>,
}

impl Requests {
    pub(crate) fn note(&mut self, header: Header, payload: &[u8]) {
        let id = header.stream;
        match header.kind {
            kind::HEADERS | kind::CONTINUATION => self.heads.entry(id).or_default().extend_from_slice(payload),
            kind::DATA => self.bodies.entry(id).or_default().extend_from_slice(payload),
            _ => return,
        }
        assert_ne!(self.ended.get(&id), Some(&true), "nothing comes behind END_STREAM");
        if header.kind != kind::CONTINUATION {
            self.ended.insert(id, header.has(flag::END_STREAM));
        }
    }
}

/// A connection with `n` open requests (owners 0 to n - 1 on streams 1, 3, ...), its output taken.
pub(crate) fn open(n: u32) -> Connection<u32> {
    let mut connection = connection(&[]);
    for owner in 0..n {
        let id = connection.request(&head(), b"", &[b"body"], owner).unwrap();
        assert_eq!(id, StreamId(2 * owner + 1));
    }
    connection.output().clear();
    connection
}

pub(crate) fn events(connection: &mut Connection<u32>, bytes: &[u8]) -> Vec<Event> {
    let mut on = Recorder::default();
    connection.receive(bytes, &mut on).unwrap();
    on.0
}

pub(crate) const OK: &[(&str, &str)] = &[(":status", "200")];
