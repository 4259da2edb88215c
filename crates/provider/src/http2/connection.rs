//! A connection's state, and what its owner asks of it.

use super::error::{ErrorCode, ProtocolError};
use super::flow::Flow;
use super::frame::{self, flag, kind};
use super::head::Head;
use super::header_block::Continued;
use super::hpack::decode::Decoder;
use super::hpack::encode::Encoder;
use super::settings::{DEFAULT_WINDOW, PeerSettings, Settings};
use super::streams::{Parts, Stream, StreamId, Streams};

/// The highest id of a stream (RFC 9113, 5.1.1).
const LAST_ID: u32 = 0x7fff_ffff;

/// Buffers that came from streams and wait for the next.
pub(super) struct Buffers(Vec<Vec<u8>>);

impl Buffers {
    /// How many are kept, and up to which size: an answer of FCM has some hundred bytes.
    const KEPT: usize = 64;
    const LARGEST: usize = 8 << 10;

    pub(super) fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    #[inline]
    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && buffer.capacity() <= Self::LARGEST && self.0.len() < Self::KEPT {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

/// One connection's protocol state, generic over what the owner keeps for each stream. See the module's documentation.
pub(crate) struct Connection<T> {
    pub(super) ours: Settings,
    pub(super) peer: PeerSettings,
    pub(super) output: Vec<u8>,
    pub(super) streams: Streams<T>,
    /// The id of the next stream.
    next: u32,
    /// Have we said goodbye, or the peer?
    pub(super) leaving: bool,
    /// What ended the connection.
    pub(super) broken: Option<ProtocolError>,
    pub(super) flow: Flow,
    pub(super) encoder: Encoder,
    pub(super) decoder: Decoder,
    pub(super) buffers: Buffers,
    /// The beginning of a frame whose rest is not here yet.
    pub(super) partial: Vec<u8>,
    /// A header block that goes on in CONTINUATION.
    pub(super) continued: Option<Continued>,
    /// Where the fields to keep of a header block go first.
    pub(super) kept: Vec<u8>,
    /// What the latest PING carried.
    pub(super) pinged: u64,
    /// Acknowledgements of PING and SETTINGS since the output was last written, as far as that can be seen.
    pub(super) acks: u32,
    /// How long the output was with the latest of them.
    pub(super) acked_at: usize,
}

impl<T> Connection<T> {
    /// A connection whose preface is in the output.
    pub(crate) fn new(settings: Settings) -> Self {
        let mut output = Vec::with_capacity(16 << 10);
        settings.put_preface(&mut output);
        Self {
            ours: settings,
            peer: PeerSettings::default(),
            output,
            streams: Streams::new(),
            next: 1,
            leaving: false,
            broken: None,
            flow: Flow::new(DEFAULT_WINDOW, settings.window()),
            encoder: Encoder::new(),
            decoder: Decoder::new(settings.header_table_size, settings.keep),
            buffers: Buffers(Vec::new()),
            partial: Vec::new(),
            continued: None,
            kept: Vec::new(),
            pinged: 0,
            acks: 0,
            acked_at: 0,
        }
    }

    /// Sends a request: HEADERS, then DATA as far as the windows allow. `tail` completes the path of a head that has a prefix only, and is visible
    /// ASCII; other heads ignore it.
    ///
    /// `Err` gives the owner back, and nothing was sent: the connection takes no more requests ([`Self::is_open`]), the peer does not take this head
    /// ([`Self::takes`]), or it allows no more streams now.
    #[inline]
    pub(crate) fn request(&mut self, head: &Head, tail: &[u8], body: &[&[u8]], owner: T) -> Result<StreamId, T> {
        let full = self
            .peer
            .max_concurrent_streams
            .is_some_and(|limit| self.streams.len() >= limit);
        if full || !self.is_open() || !self.takes(head, tail) {
            return Err(owner);
        }
        let id = self.next;
        self.next += 2;
        let length: usize = body.iter().map(|part| part.len()).sum();
        self.put_headers(id, head, tail, length == 0);
        let mut stream = Stream::new(id, owner, i64::from(self.peer.initial_window));
        if length > 0 {
            self.send_body(&mut stream, body, length);
        }
        self.streams.insert(stream);
        Ok(StreamId(id))
    }

    #[inline]
    fn put_headers(&mut self, id: u32, head: &Head, tail: &[u8], end: bool) {
        let out = &mut self.output;
        let block = self.encoder.block(head);
        let end_stream = if end { flag::END_STREAM } else { 0 };
        let length = block.len(tail);
        if length <= self.peer.max_frame_size {
            frame::put_header(out, length, kind::HEADERS, end_stream | flag::END_HEADERS, id);
            block.put(tail, out);
            return;
        }
        // RFC 9113, 6.10: the block goes on in CONTINUATION, with no other frame in between.
        let mut whole = self.buffers.take();
        block.put(tail, &mut whole);
        let mut rest = whole.as_slice();
        let (mut kind, mut flags) = (kind::HEADERS, end_stream);
        while let Some((part, more)) = rest
            .split_at_checked(self.peer.max_frame_size)
            .filter(|(_, more)| !more.is_empty())
        {
            frame::put_header(out, part.len(), kind, flags, id);
            out.extend_from_slice(part);
            (rest, kind, flags) = (more, kind::CONTINUATION, 0);
        }
        frame::put_header(out, rest.len(), kind, flags | flag::END_HEADERS, id);
        out.extend_from_slice(rest);
        self.buffers.give(whole);
    }

    /// Gives up a stream: `RST_STREAM(CANCEL)`. The owner comes back, `None` if the stream has ended already.
    pub(crate) fn reset(&mut self, id: StreamId) -> Option<T> {
        // Behind the GOAWAY of an error comes nothing.
        let code = self.broken.is_none().then_some(ErrorCode::CANCEL);
        let stream = self.close(id.0, code)?;
        self.give_back(stream.parts);
        Some(stream.owner)
    }

    /// Takes a stream out of the table, with a `RST_STREAM` where the peer has to know. Its parts are still its own.
    #[inline]
    pub(super) fn close(&mut self, id: u32, code: Option<ErrorCode>) -> Option<Stream<T>> {
        let stream = self.streams.remove(id)?;
        if let Some(code) = code {
            frame::put_reset(&mut self.output, id, code);
        }
        Some(stream)
    }

    /// Takes the room of what came or went in pieces, for others.
    #[inline]
    pub(super) fn give_back(&mut self, parts: Option<Box<Parts>>) {
        if let Some(parts) = parts {
            self.buffers.give(parts.held);
            self.buffers.give(parts.waiting);
        }
    }

    /// What is to be written. The owner writes it and clears it, or takes out what it could write.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Streams up to this one that have neither an answer nor a failure yet, oldest first.
    pub(crate) fn open_streams_upto(&self, last: StreamId) -> Vec<StreamId> {
        let ids = self.streams.ids(|stream| stream.id <= last.0);
        ids.into_iter().map(StreamId).collect()
    }

    /// Streams that have no answer yet.
    pub(crate) fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// How many streams the peer allows at once; `None` before its SETTINGS, `usize::MAX` if it names no limit.
    pub(crate) fn peer_limit(&self) -> Option<usize> {
        self.peer.max_concurrent_streams
    }

    /// May a request be made, as far as the connection goes? False after an error, a GOAWAY of either side, or the last of 2^30 ids.
    pub(crate) fn is_open(&self) -> bool {
        !self.leaving && self.broken.is_none() && self.next <= LAST_ID
    }

    /// Does the peer take a header list as large as this request's? Its `MAX_HEADER_LIST_SIZE` may change with each SETTINGS.
    #[inline]
    pub(crate) fn takes(&self, head: &Head, tail: &[u8]) -> bool {
        head.list_size(tail) <= self.peer.max_header_list
    }

    /// Sends a PING, unless an error has ended the connection. Its answer is `pong`, that of an earlier one is not.
    pub(crate) fn ping(&mut self) {
        if self.broken.is_some() {
            return;
        }
        self.pinged = self.pinged.wrapping_add(1);
        frame::put_ping(&mut self.output, 0, self.pinged.to_be_bytes());
    }

    /// Says goodbye: `GOAWAY(NO_ERROR)`, once. Open streams go on, new ones are not taken.
    pub(crate) fn goaway(&mut self) {
        if !std::mem::replace(&mut self.leaving, true) && self.broken.is_none() {
            frame::put_goaway(&mut self.output, ErrorCode::NO_ERROR);
        }
    }

    /// The owners of all open streams, oldest first, for when the connection is lost. It takes no more requests.
    pub(crate) fn drain(&mut self) -> Vec<(StreamId, T)> {
        self.leaving = true;
        let ids = self.streams.ids(|_| true);
        ids.into_iter()
            .filter_map(|id| Some((StreamId(id), self.streams.remove(id)?.owner)))
            .collect()
    }

    /// Is this the id of a stream that we have opened, whether or not it is still open?
    pub(super) fn was_opened(&self, id: u32) -> bool {
        id % 2 == 1 && id < self.next
    }
}
