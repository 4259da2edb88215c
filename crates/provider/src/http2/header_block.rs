//! Header blocks of answers: HEADERS and CONTINUATION (RFC 9113, 6.2 and 6.10), and what their fields say of a stream (8.1 to 8.3).

use super::answer::Events;
use super::connection::Connection;
use super::error::{ErrorCode, ProtocolError, StreamFailure};
use super::frame::{self, Header, flag};
use super::receive::MAX_EMPTY_FRAMES;
use super::settings::HEADER_LIMIT;

/// What a fragment costs besides its bytes, so that empty ones come to an end too.
const FRAGMENT_OVERHEAD: usize = 64;

/// A block that is not whole yet.
pub(super) struct Continued {
    stream: u32,
    end_stream: bool,
    pub(super) block: Vec<u8>,
    cost: usize,
}

impl<T> Connection<T> {
    pub(super) fn headers(
        &mut self,
        header: Header,
        payload: &[u8],
        on: &mut impl Events<T>,
    ) -> Result<(), ProtocolError> {
        self.check_opened(header)?;
        let Some(mut block) = frame::without_padding(header, payload) else {
            return Err(ProtocolError::protocol("HEADERS is all padding and more"));
        };
        if header.has(flag::PRIORITY) {
            block = block
                .get(5..)
                .ok_or(ProtocolError::frame_size("HEADERS is too short for its priority"))?;
        }
        let end_stream = header.has(flag::END_STREAM);
        if header.has(flag::END_HEADERS) {
            return self.block(header.stream, end_stream, block, on);
        }
        let mut whole = self.buffers.take();
        whole.extend_from_slice(block);
        self.continued = Some(Continued {
            stream: header.stream,
            end_stream,
            cost: block.len() + FRAGMENT_OVERHEAD,
            block: whole,
        });
        Ok(())
    }

    pub(super) fn continuation(
        &mut self,
        header: Header,
        payload: &[u8],
        on: &mut impl Events<T>,
    ) -> Result<(), ProtocolError> {
        let Some(mut continued) = self.continued.take().filter(|c| c.stream == header.stream) else {
            return Err(ProtocolError::protocol("CONTINUATION of nothing"));
        };
        continued.cost += payload.len() + FRAGMENT_OVERHEAD;
        // Without the whole block the table is lost, so that it cannot be the stream's error alone.
        if continued.cost > HEADER_LIMIT {
            return Err(ProtocolError::new(
                ErrorCode::ENHANCE_YOUR_CALM,
                "a header block is too long",
            ));
        }
        continued.block.extend_from_slice(payload);
        if !header.has(flag::END_HEADERS) {
            self.continued = Some(continued);
            return Ok(());
        }
        self.block(continued.stream, continued.end_stream, &continued.block, on)?;
        self.buffers.give(continued.block);
        Ok(())
    }

    /// A whole header block: the answer's, an interim one's, or the trailers.
    #[inline]
    fn block(&mut self, id: u32, end: bool, block: &[u8], on: &mut impl Events<T>) -> Result<(), ProtocolError> {
        // Blocks of streams that have ended change the table all the same (RFC 9113, 4.3).
        let mut kept = std::mem::take(&mut self.kept);
        kept.clear();
        let section = self.decoder.decode(block, &mut kept);
        self.kept = kept;
        let section = section.map_err(|e| ProtocolError::new(ErrorCode::COMPRESSION_ERROR, e.0))?;
        let Some(stream) = self.streams.get_mut(id) else {
            return Ok(());
        };
        let flaw = match (section.flaw, stream.status, section.status) {
            (Some(flaw), ..) => Some(flaw),
            (None, 0, 0) => Some("it has no :status"),
            // RFC 9113, 8.6: there is no 101.
            (None, 0, 101) => Some("it switches protocols"),
            (None, 0, 100..200) if end => Some("it ends with an interim answer"),
            (None, 0, 100..200) => {
                stream.empty_frames += 1;
                (stream.empty_frames > MAX_EMPTY_FRAMES).then_some("it has too many interim answers")
            }
            (None, 0, status) => {
                stream.status = status;
                if !self.kept.is_empty() {
                    let parts = stream.parts();
                    parts.held = self.buffers.take();
                    parts.held.extend_from_slice(&self.kept);
                    parts.fields_len = self.kept.len();
                }
                None
            }
            (None, _, 1..) => Some("its trailers have a :status"),
            (None, _, 0) if !end => Some("its trailers do not end it"),
            (None, _, 0) => None,
        };
        if let Some(flaw) = flaw {
            self.fail(id, StreamFailure::Malformed(flaw), on);
        } else if end {
            self.answer_whole(id, &[], on);
        }
        Ok(())
    }
}
