//! What comes from the peer, frame by frame.

use super::answer::{Answer, Events};
use super::connection::Connection;
use super::error::{ErrorCode, ProtocolError, StreamFailure};
use super::frame::{self, HEADER_LEN, Header, MAX_RECEIVED, flag, kind};
use super::settings::BODY_LIMIT;

/// Acknowledgements that may wait in the output. A peer that asks for more without reading its answers is flooding us.
const MAX_ACKS: u32 = 1_000;

/// So many frames are looked at ahead: an answer has two.
const AHEAD: usize = 32;
/// Fewer streams, and what hangs on each of them, about fill the processor's first cache: they are mostly found there.
const COLD: usize = 256;

/// Frames without content that one answer may have.
pub(super) const MAX_EMPTY_FRAMES: u16 = 100;

impl<T> Connection<T> {
    /// Takes what was read, in any pieces. Complete frames are parsed where they lie; the beginning of one is kept for the next call.
    ///
    /// After an error the connection is dead: GOAWAY is in the output, and each further call returns the same error.
    pub(crate) fn receive(&mut self, bytes: &[u8], on: &mut impl Events<T>) -> Result<(), ProtocolError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let result = self.frames(bytes, on);
        if let Err(error) = result {
            self.broken = Some(error);
            frame::put_goaway(&mut self.output, error.code);
        }
        result
    }

    fn frames(&mut self, mut bytes: &[u8], on: &mut impl Events<T>) -> Result<(), ProtocolError> {
        if !self.partial.is_empty() {
            let mut partial = std::mem::take(&mut self.partial);
            let complete = complete(&mut partial, &mut bytes)?;
            if complete && let Some((header, payload)) = partial.split_first_chunk() {
                self.frame(Header::parse(*header), payload, on)?;
                partial.clear();
            }
            self.partial = partial;
        }
        let mut frames = 0_usize;
        while let Some((header, rest)) = bytes.split_first_chunk() {
            if frames.is_multiple_of(AHEAD) {
                self.look_ahead(bytes, on);
            }
            frames += 1;
            let header = checked(*header)?;
            let Some((payload, rest)) = rest.split_at_checked(header.length) else {
                break;
            };
            self.frame(header, payload, on)?;
            bytes = rest;
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Where many streams are open, each that is answered is found cold, and so is what hangs on it. So those of the next frames are touched together: their cache lines arrive
    /// at once instead of one after the other.
    fn look_ahead(&self, mut bytes: &[u8], on: &impl Events<T>) {
        if self.streams.len() < COLD {
            return;
        }
        let mut owners = [None; AHEAD];
        for owner in &mut owners {
            let Some((header, rest)) = bytes.split_first_chunk() else {
                break;
            };
            let header = Header::parse(*header);
            if header.kind == kind::HEADERS {
                *owner = self.streams.ahead(header.stream);
            }
            bytes = rest.get(header.length..).unwrap_or_default();
        }
        owners.into_iter().flatten().for_each(|owner| on.ahead(owner));
    }

    fn frame(&mut self, header: Header, payload: &[u8], on: &mut impl Events<T>) -> Result<(), ProtocolError> {
        if self.continued.is_some() && header.kind != kind::CONTINUATION {
            return Err(ProtocolError::protocol("a header block was interrupted"));
        }
        // RFC 9113, 3.4: the server's preface is SETTINGS.
        if self.peer.max_concurrent_streams.is_none() && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
            return Err(ProtocolError::protocol("the first frame is not SETTINGS"));
        }
        match header.kind {
            kind::DATA => self.data(header, payload, on),
            kind::HEADERS => self.headers(header, payload, on),
            kind::CONTINUATION => self.continuation(header, payload, on),
            kind::RST_STREAM => self.rst_stream(header, payload, on),
            kind::SETTINGS => self.settings(header, payload, on),
            kind::PING => self.pinged(header, payload, on),
            kind::GOAWAY => self.peer_goes(header, payload, on),
            kind::WINDOW_UPDATE => self.window_update(header, payload, on),
            kind::PRIORITY => priority(header),
            kind::PUSH_PROMISE => Err(ProtocolError::protocol("PUSH_PROMISE, which we forbid")),
            // RFC 9113, 4.1.
            _ => Ok(()),
        }
    }

    /// RFC 9113, 6.1.
    fn data(&mut self, header: Header, payload: &[u8], on: &mut impl Events<T>) -> Result<(), ProtocolError> {
        self.check_opened(header)?;
        self.flow.received(payload.len(), &mut self.output)?;
        let Some(body) = frame::without_padding(header, payload) else {
            return Err(ProtocolError::protocol("DATA is all padding and more"));
        };
        let Some(stream) = self.streams.get_mut(header.stream) else {
            return Ok(());
        };
        if stream.status == 0 {
            self.fail(header.stream, StreamFailure::Malformed("DATA comes before HEADERS"), on);
            return Ok(());
        }
        let end = header.has(flag::END_STREAM);
        if end && stream.held_body() == 0 && body.len() <= BODY_LIMIT {
            self.answer_whole(header.stream, body, on);
            return Ok(());
        }
        // Padding counts: it uses up the stream's window, which is not given back.
        #[expect(clippy::cast_possible_truncation, reason = "a frame has at most 16 KiB")]
        let length = payload.len() as u32;
        stream.received += length;
        stream.empty_frames += u16::from(body.is_empty());
        let room = BODY_LIMIT - stream.held_body();
        let held = &mut stream.parts().held;
        if held.capacity() == 0 {
            *held = self.buffers.take();
        }
        held.extend_from_slice(&body[..body.len().min(room)]);
        let too_long = body.len() > room || (stream.received as usize > BODY_LIMIT && !end);
        if too_long {
            self.answer_truncated(header.stream, Some(ErrorCode::CANCEL), on);
        } else if end {
            self.answer_whole(header.stream, &[], on);
        } else if stream.empty_frames > MAX_EMPTY_FRAMES {
            self.fail(
                header.stream,
                StreamFailure::Malformed("its DATA is empty again and again"),
                on,
            );
        }
        Ok(())
    }

    /// The answer has ended. Its body is `last`, or what is held if `last` is empty.
    #[inline]
    pub(super) fn answer_whole(&mut self, id: u32, last: &[u8], on: &mut impl Events<T>) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        // An early answer (RFC 9113, 8.1): the rest of our body is not wanted. Without a reset the stream would count as open for ever.
        let code = stream.waits().then_some(ErrorCode::CANCEL);
        let Some(stream) = self.close(id, code) else { return };
        let (fields, held) = stream.parts.as_ref().map_or((&[][..], &[][..]), |parts| parts.answer());
        let body = if last.is_empty() { held } else { last };
        let answer = Answer::new(stream.status, self.ours.keep, fields, body);
        on.answer(stream.owner, answer);
        self.give_back(stream.parts);
    }

    fn answer_truncated(&mut self, id: u32, code: Option<ErrorCode>, on: &mut impl Events<T>) {
        let Some(stream) = self.close(id, code) else { return };
        let (fields, body) = stream.parts.as_ref().map_or((&[][..], &[][..]), |parts| parts.answer());
        let answer = Answer::new(stream.status, self.ours.keep, fields, body);
        on.answer(stream.owner, answer.truncated());
        self.give_back(stream.parts);
    }

    /// Ends a stream for its own fault (RFC 9113, 5.4.2 and 8.1.1).
    #[cold]
    pub(super) fn fail(&mut self, id: u32, failure: StreamFailure, on: &mut impl Events<T>) {
        let code = match failure {
            StreamFailure::Malformed(_) => Some(ErrorCode::PROTOCOL_ERROR),
            StreamFailure::Refused | StreamFailure::Reset(_) => None,
        };
        if let Some(stream) = self.close(id, code) {
            self.give_back(stream.parts);
            on.failed(stream.owner, failure);
        }
    }

    /// RFC 9113, 6.4 and 8.7. An answer that broke off is still an answer: its status says what became of the request.
    fn rst_stream(&mut self, header: Header, payload: &[u8], on: &mut impl Events<T>) -> Result<(), ProtocolError> {
        let Ok(code) = payload.try_into() else {
            return Err(ProtocolError::frame_size("RST_STREAM is not 4 bytes long"));
        };
        self.check_opened(header)?;
        let code = ErrorCode(u32::from_be_bytes(code));
        match self.streams.get_mut(header.stream) {
            None => {}
            Some(stream) if stream.status != 0 => self.answer_truncated(header.stream, None, on),
            Some(_) if code == ErrorCode::REFUSED_STREAM => self.fail(header.stream, StreamFailure::Refused, on),
            Some(_) => self.fail(header.stream, StreamFailure::Reset(code), on),
        }
        Ok(())
    }

    /// RFC 9113, 6.5.
    fn settings(&mut self, header: Header, payload: &[u8], on: &mut impl Events<T>) -> Result<(), ProtocolError> {
        if header.stream != 0 {
            return Err(ProtocolError::protocol("SETTINGS on a stream"));
        }
        if header.has(flag::ACK) {
            if !payload.is_empty() {
                return Err(ProtocolError::frame_size("SETTINGS with ACK has a payload"));
            }
            self.decoder.acknowledged(self.ours.header_table_size);
            return Ok(());
        }
        let peer = self.peer.updated(payload)?;
        let by = i64::from(peer.initial_window) - i64::from(self.peer.initial_window);
        self.peer = peer;
        self.move_windows(by)?;
        self.encoder
            .set_peer_limit(peer.least_header_table_size, peer.header_table_size);
        self.count_ack()?;
        frame::put_header(&mut self.output, 0, kind::SETTINGS, flag::ACK, 0);
        on.settings();
        Ok(())
    }

    /// RFC 9113, 6.7.
    fn pinged(&mut self, header: Header, payload: &[u8], on: &mut impl Events<T>) -> Result<(), ProtocolError> {
        let Ok(opaque) = payload.try_into() else {
            return Err(ProtocolError::frame_size("PING is not 8 bytes long"));
        };
        if header.stream != 0 {
            return Err(ProtocolError::protocol("PING on a stream"));
        }
        if !header.has(flag::ACK) {
            self.count_ack()?;
            frame::put_ping(&mut self.output, flag::ACK, opaque);
        } else if u64::from_be_bytes(opaque) == self.pinged && self.pinged != 0 {
            on.pong();
        }
        Ok(())
    }

    /// What a peer makes us say must not pile up (RFC 9113, 10.5).
    fn count_ack(&mut self) -> Result<(), ProtocolError> {
        // An output that became shorter has been written since.
        let written = self.output.len() < self.acked_at;
        self.acks = if written { 0 } else { self.acks + 1 };
        self.acked_at = self.output.len() + HEADER_LEN;
        if self.acks > MAX_ACKS {
            let what = "the peer asks for acknowledgements and does not read them";
            return Err(ProtocolError::new(ErrorCode::ENHANCE_YOUR_CALM, what));
        }
        Ok(())
    }

    /// RFC 9113, 6.8. A second GOAWAY may name a lower stream.
    fn peer_goes(&mut self, header: Header, payload: &[u8], on: &mut impl Events<T>) -> Result<(), ProtocolError> {
        let ([last, code, ..], _) = payload.as_chunks::<4>() else {
            return Err(ProtocolError::frame_size("GOAWAY is shorter than 8 bytes"));
        };
        if header.stream != 0 {
            return Err(ProtocolError::protocol("GOAWAY on a stream"));
        }
        let last = u32::from_be_bytes(*last) & 0x7fff_ffff;
        self.leaving = true;
        for id in self.streams.ids(|stream| stream.id > last) {
            self.fail(id, StreamFailure::Refused, on);
        }
        on.goaway(ErrorCode(u32::from_be_bytes(*code)));
        Ok(())
    }

    /// RFC 9113, 6.9.
    fn window_update(&mut self, header: Header, payload: &[u8], on: &mut impl Events<T>) -> Result<(), ProtocolError> {
        let Ok(increment) = payload.try_into() else {
            return Err(ProtocolError::frame_size("WINDOW_UPDATE is not 4 bytes long"));
        };
        let increment = u32::from_be_bytes(increment) & 0x7fff_ffff;
        if header.stream == 0 {
            if increment == 0 {
                return Err(ProtocolError::protocol("WINDOW_UPDATE by 0"));
            }
            return self.widen_connection(increment);
        }
        self.check_opened(header)?;
        if increment == 0 {
            self.fail(header.stream, StreamFailure::Malformed("WINDOW_UPDATE by 0"), on);
        } else if !self.widen_stream(header.stream, increment)
            && let Some(stream) = self.close(header.stream, Some(ErrorCode::FLOW_CONTROL_ERROR))
        {
            on.failed(
                stream.owner,
                StreamFailure::Malformed("its window grew beyond 2^31 - 1"),
            );
        }
        Ok(())
    }

    /// Frames for streams that we never opened break RFC 9113, 5.1; those for streams that have ended are late.
    #[inline]
    pub(super) fn check_opened(&self, header: Header) -> Result<(), ProtocolError> {
        if self.was_opened(header.stream) {
            return Ok(());
        }
        Err(ProtocolError::protocol("a frame for a stream that was never opened"))
    }
}

/// RFC 9113, 6.3: it means nothing any more.
fn priority(header: Header) -> Result<(), ProtocolError> {
    if header.stream == 0 {
        return Err(ProtocolError::protocol("PRIORITY on stream 0"));
    }
    if header.length != 5 {
        return Err(ProtocolError::frame_size("PRIORITY is not 5 bytes long"));
    }
    Ok(())
}

/// RFC 9113, 4.2.
#[inline]
fn checked(header: [u8; HEADER_LEN]) -> Result<Header, ProtocolError> {
    let header = Header::parse(header);
    if header.length > MAX_RECEIVED {
        return Err(ProtocolError::frame_size("a frame is longer than allowed"));
    }
    Ok(header)
}

/// Moves bytes until `partial` is one whole frame. False if there are not enough.
fn complete(partial: &mut Vec<u8>, bytes: &mut &[u8]) -> Result<bool, ProtocolError> {
    let Some(header) = fill(partial, bytes, HEADER_LEN) else {
        return Ok(false);
    };
    let header = match header.first_chunk() {
        Some(header) => checked(*header)?,
        None => return Ok(false),
    };
    Ok(fill(partial, bytes, HEADER_LEN + header.length).is_some())
}

/// Moves bytes until `partial` has a length; `None` if there are not enough.
fn fill<'a>(partial: &'a mut Vec<u8>, bytes: &mut &[u8], length: usize) -> Option<&'a [u8]> {
    let missing = length.saturating_sub(partial.len());
    let (some, rest) = bytes.split_at(missing.min(bytes.len()));
    partial.extend_from_slice(some);
    *bytes = rest;
    (partial.len() >= length).then_some(partial)
}
