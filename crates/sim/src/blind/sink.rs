//! The protocol of the blind sink, without I/O: RFC 9113 as far as a server needs it that wants to know nothing.
//!
//! Of each frame the head is read, and of SETTINGS, PING and `WINDOW_UPDATE` the payload. A stream has ended when a
//! frame with `END_STREAM` has, and is answered at once; nothing is kept for a stream that is open (only its number, where answers are to be late). The receive
//! windows are wide and given back by the megabyte, the send window of the connection is respected (answers that do
//! not fit wait), and that of a stream needs no account as long as it holds one answer.

use std::collections::VecDeque;

/// The first bytes of every HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The length of a frame's head.
const HEAD: usize = 9;
/// The longest frame that a client may send to a server that has not allowed longer ones.
const MAX_FRAME: usize = 16_384;
/// The room that the client has on each stream, in bytes.
const STREAM_WINDOW: u32 = 1 << 20;
/// The room that the client has on the connection, in bytes; it is given back when half of it is used.
const WINDOW: u32 = 64 << 20;
/// The room on a connection that nobody has to announce.
const USUAL_WINDOW: u32 = 65_535;
/// Answers that wait for room; more are an attack.
const HELD_LIMIT: usize = 100_000;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Of DATA and HEADERS; of SETTINGS and PING the same bit is ACK.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const PROTOCOL_ERROR: u32 = 1;

/// `:status: 200` and `content-type: application/json; charset=UTF-8`, of HPACK's static table and without indexing.
const HEADER_BLOCK: &[u8] = b"\x88\x0f\x10\x1fapplication/json; charset=UTF-8";
/// HPACK's announcement that the dynamic table has no room from now on.
const EMPTY_TABLE: u8 = 0x20;

/// What a client did that no client may do.
pub(super) type Violation = &'static str;

/// One connection.
pub(super) struct Sink {
    /// Requests answered.
    pub(super) answered: u64,
    stream_limit: u32,
    body: Vec<u8>,
    /// HEADERS and DATA of an answer on stream 0.
    answer: Vec<u8>,
    begun: bool,
    /// A header block that goes on in the next frame: its stream, and whether the stream ends with it.
    unfinished: Option<(u32, bool)>,
    last_stream: u32,
    /// Bytes of DATA that the client has not been given back.
    used: u32,
    /// Bytes of DATA that the client has room for.
    room: i64,
    held: VecDeque<u32>,
    /// The client wants to hear about the size of a table that we do not use.
    resize_table: bool,
    /// Streams that end are not answered but put into `unanswered`, for the caller to answer later.
    pub(super) delaying: bool,
    pub(super) unanswered: Vec<u32>,
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl Sink {
    pub(super) fn new(stream_limit: u32, name: &str) -> Self {
        let body = format!("{{\n  \"name\": \"{name}\"\n}}\n").into_bytes();
        let mut answer = Vec::new();
        frame(&mut answer, HEADERS, END_HEADERS, 0, HEADER_BLOCK);
        frame(&mut answer, DATA, END_STREAM, 0, &body);
        Self {
            answered: 0,
            stream_limit,
            body,
            answer,
            begun: false,
            unfinished: None,
            last_stream: 0,
            used: 0,
            room: i64::from(USUAL_WINDOW),
            held: VecDeque::new(),
            resize_table: false,
            delaying: false,
            unanswered: Vec::new(),
        }
    }

    /// What a server says first.
    pub(super) fn greet(&self, out: &mut Vec<u8>) {
        let mut settings = Vec::new();
        for (id, value) in [(3_u16, self.stream_limit), (4, STREAM_WINDOW)] {
            settings.extend_from_slice(&id.to_be_bytes());
            settings.extend_from_slice(&value.to_be_bytes());
        }
        frame(out, SETTINGS, 0, 0, &settings);
        frame(out, WINDOW_UPDATE, 0, 0, &(WINDOW - USUAL_WINDOW).to_be_bytes());
    }

    /// Takes what has arrived, and says how much of it; the rest is an unfinished frame and wants to come again with
    /// more behind it. `ending` sees the payload of each DATA frame that ends a stream.
    pub(super) fn take(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        mut ending: impl FnMut(&[u8]),
    ) -> Result<usize, Violation> {
        let mut at = 0;
        if !self.begun {
            if input.len() < PREFACE.len() {
                return if PREFACE.starts_with(input) {
                    Ok(0)
                } else {
                    Err("not HTTP/2")
                };
            }
            if !input.starts_with(PREFACE) {
                return Err("not HTTP/2");
            }
            self.begun = true;
            at = PREFACE.len();
        }
        let taken = loop {
            match next(&input[at..]) {
                Ok(Some(frame)) => {
                    at += HEAD + frame.payload.len();
                    if frame.kind == DATA && frame.flags & END_STREAM != 0 {
                        ending(frame.payload);
                    }
                    if let Err(violation) = self.meet(&frame, out) {
                        break Err(violation);
                    }
                }
                Ok(None) => break Ok(at),
                Err(violation) => break Err(violation),
            }
        };
        if taken.is_err() {
            let mut payload = self.last_stream.to_be_bytes().to_vec();
            payload.extend_from_slice(&PROTOCOL_ERROR.to_be_bytes());
            frame(out, GOAWAY, 0, 0, &payload);
        }
        taken
    }

    fn meet(&mut self, of: &Frame<'_>, out: &mut Vec<u8>) -> Result<(), Violation> {
        if let Some((stream, ends)) = self.unfinished {
            if of.kind != CONTINUATION || of.stream != stream {
                return Err("a header block was interrupted");
            }
            if of.flags & END_HEADERS != 0 {
                self.unfinished = None;
                return self.ended(stream, ends, out);
            }
            return Ok(());
        }
        match of.kind {
            HEADERS => {
                if of.stream.is_multiple_of(2) {
                    return Err("HEADERS on a stream that no client opens");
                }
                self.last_stream = self.last_stream.max(of.stream);
                let ends = of.flags & END_STREAM != 0;
                if of.flags & END_HEADERS == 0 {
                    self.unfinished = Some((of.stream, ends));
                    return Ok(());
                }
                self.ended(of.stream, ends, out)
            }
            DATA => self.data(of, out),
            SETTINGS if of.flags & ACK == 0 => self.settings(of.payload, out),
            PING if of.flags & ACK == 0 => {
                frame(out, PING, ACK, 0, of.payload);
                Ok(())
            }
            WINDOW_UPDATE if of.stream == 0 => self.widen(of.payload, out),
            CONTINUATION => Err("CONTINUATION of nothing"),
            _ => Ok(()),
        }
    }

    fn data(&mut self, of: &Frame<'_>, out: &mut Vec<u8>) -> Result<(), Violation> {
        if of.stream.is_multiple_of(2) {
            return Err("DATA on a stream that no client opens");
        }
        // A frame has 16384 bytes at most.
        let length = u32::try_from(of.payload.len()).unwrap_or(u32::MAX);
        self.used = self.used.saturating_add(length);
        if self.used >= WINDOW / 2 {
            frame(out, WINDOW_UPDATE, 0, 0, &self.used.to_be_bytes());
            self.used = 0;
        }
        let ends = of.flags & END_STREAM != 0;
        if !ends && length > 0 {
            frame(out, WINDOW_UPDATE, 0, of.stream, &length.to_be_bytes());
        }
        self.ended(of.stream, ends, out)
    }

    fn settings(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Violation> {
        for entry in payload.chunks_exact(6) {
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            match u16::from_be_bytes([entry[0], entry[1]]) {
                1 => self.resize_table = true,
                4 if u64::from(value) < u64::try_from(self.body.len()).unwrap_or(u64::MAX) => {
                    return Err("the window of a stream holds no answer");
                }
                _ => {}
            }
        }
        frame(out, SETTINGS, ACK, 0, &[]);
        Ok(())
    }

    fn widen(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Violation> {
        let Ok(more) = <[u8; 4]>::try_from(payload) else {
            return Err("a WINDOW_UPDATE has four bytes");
        };
        self.room += i64::from(u32::from_be_bytes(more) & 0x7fff_ffff);
        while self.has_room()
            && let Some(stream) = self.held.pop_front()
        {
            self.write_answer(stream, out);
        }
        Ok(())
    }

    fn ended(&mut self, stream: u32, ends: bool, out: &mut Vec<u8>) -> Result<(), Violation> {
        if !ends {
            return Ok(());
        }
        if self.delaying {
            self.unanswered.push(stream);
            return Ok(());
        }
        self.answer(stream, out)
    }

    /// Answers a stream that has ended, now or as soon as the client has room.
    pub(super) fn answer(&mut self, stream: u32, out: &mut Vec<u8>) -> Result<(), Violation> {
        if self.held.is_empty() && self.has_room() {
            self.write_answer(stream, out);
        } else if self.held.len() < HELD_LIMIT {
            self.held.push_back(stream);
        } else {
            return Err("too many answers wait for room");
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        i64::try_from(self.body.len()).is_ok_and(|length| length <= self.room)
    }

    fn write_answer(&mut self, stream: u32, out: &mut Vec<u8>) {
        self.answered += 1;
        self.room -= i64::try_from(self.body.len()).unwrap_or(0);
        if std::mem::take(&mut self.resize_table) {
            let block = [&[EMPTY_TABLE], HEADER_BLOCK].concat();
            frame(out, HEADERS, END_HEADERS, stream, &block);
            frame(out, DATA, END_STREAM, stream, &self.body);
            return;
        }
        let from = out.len();
        out.extend_from_slice(&self.answer);
        let stream = stream.to_be_bytes();
        for head in [from, from + HEAD + HEADER_BLOCK.len()] {
            out[head + 5..head + HEAD].copy_from_slice(&stream);
        }
    }
}

/// The frame at the beginning, once it is there as a whole.
fn next(input: &[u8]) -> Result<Option<Frame<'_>>, Violation> {
    let Some((head, rest)) = input.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    if length > MAX_FRAME {
        return Err("a frame longer than allowed");
    }
    Ok(rest.get(..length).map(|payload| Frame {
        kind: head[3],
        flags: head[4],
        stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff,
        payload,
    }))
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // Ours are all short.
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests;
