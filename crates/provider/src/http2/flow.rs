//! Flow control (RFC 9113, 5.2 and 6.9).
//!
//! What we send: a body goes out at once as far as both windows allow, the rest is kept in its stream. A stream that only the connection's window holds back stands in `queue`,
//! first come, first served; one that its own window holds back comes into the queue with its `WINDOW_UPDATE`. So whenever the
//! connection's window is above zero the queue is empty.
//!
//! What we receive: the connection's window is given back when half of it is used. Streams have a window that no answer may use up (`settings.rs`).

use std::collections::VecDeque;

use super::connection::Connection;
use super::error::{ErrorCode, ProtocolError};
use super::frame::{self, flag, kind};
use super::settings::MAX_WINDOW;
use super::streams::Stream;

/// A window that grew beyond 2^31 - 1.
pub(super) const OVERFLOW: ProtocolError =
    ProtocolError::new(ErrorCode::FLOW_CONTROL_ERROR, "a window grew beyond 2^31 - 1");

/// The connection's windows.
pub(super) struct Flow {
    /// What we may send over all streams.
    pub(super) send: i64,
    /// Streams whose rest waits for `send`. May hold streams that are gone.
    queue: VecDeque<u32>,
    /// What the peer may send before it has used up its window.
    receive: u32,
    /// The window that we keep open.
    full: u32,
}

impl Flow {
    pub(super) fn new(send: u32, full: u32) -> Self {
        Self {
            send: i64::from(send),
            queue: VecDeque::new(),
            receive: full,
            full,
        }
    }

    /// Counts a DATA frame, padding and all, whatever its stream (RFC 9113, 6.9), and gives the window back in big steps.
    #[inline]
    pub(super) fn received(&mut self, length: usize, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        let left = u32::try_from(length)
            .ok()
            .and_then(|length| self.receive.checked_sub(length));
        let Some(left) = left else {
            let what = "the peer sent more than the connection's window";
            return Err(ProtocolError::new(ErrorCode::FLOW_CONTROL_ERROR, what));
        };
        self.receive = left;
        if left <= self.full / 2 {
            frame::put_window_update(out, 0, self.full - left);
            self.receive = self.full;
        }
        Ok(())
    }
}

/// `amount` more, within the bounds of a window.
pub(super) fn widened(window: i64, amount: u32) -> Option<i64> {
    let wider = window + i64::from(amount);
    (wider <= i64::from(MAX_WINDOW)).then_some(wider)
}

/// Sends what the windows allow of a body that waits. True when it is out.
fn send_rest<T>(flow: &mut Flow, stream: &mut Stream<T>, max_frame_size: usize, out: &mut Vec<u8>) -> bool {
    let Some(parts) = &mut stream.parts else { return true };
    while parts.sent < parts.waiting.len() {
        let Ok(room @ 1..) = usize::try_from(flow.send.min(stream.window)) else {
            return false;
        };
        let rest = &parts.waiting[parts.sent..];
        let length = rest.len().min(room).min(max_frame_size);
        let flags = if length == rest.len() { flag::END_STREAM } else { 0 };
        frame::put_header(out, length, kind::DATA, flags, stream.id);
        out.extend_from_slice(&rest[..length]);
        parts.sent += length;
        flow.take(&mut stream.window, length);
    }
    true
}

impl Flow {
    /// Uses up both windows, which have room for it.
    #[inline]
    #[expect(clippy::cast_possible_wrap, reason = "not above a window, which has 31 bits")]
    fn take(&mut self, stream: &mut i64, length: usize) {
        self.send -= length as i64;
        *stream -= length as i64;
    }

    /// A stream with a window of its own waits for the connection's.
    fn enqueue<T>(&mut self, stream: &mut Stream<T>) {
        if stream.window > 0 && !stream.queued {
            stream.queued = true;
            self.queue.push_back(stream.id);
        }
    }
}

impl<T> Connection<T> {
    /// Sends a body, which is not empty, or what of it the windows allow; the rest is left to wait.
    #[inline]
    pub(super) fn send_body(&mut self, stream: &mut Stream<T>, body: &[&[u8]], length: usize) {
        let room = self.flow.send.min(stream.window);
        // The common case: one frame.
        if length <= self.peer.max_frame_size && i64::try_from(length).is_ok_and(|length| length <= room) {
            frame::put_header(&mut self.output, length, kind::DATA, flag::END_STREAM, stream.id);
            for part in body {
                self.output.extend_from_slice(part);
            }
            self.flow.take(&mut stream.window, length);
            return;
        }
        let mut waiting = self.buffers.take();
        for part in body {
            waiting.extend_from_slice(part);
        }
        stream.parts().waiting = waiting;
        if send_rest(&mut self.flow, stream, self.peer.max_frame_size, &mut self.output) {
            self.give_back(stream.parts.take());
            return;
        }
        self.compact_queue();
        self.flow.enqueue(stream);
    }

    /// Streams that were reset leave their ids in the queue, and without a new window nothing else takes them out.
    fn compact_queue(&mut self) {
        if self.flow.queue.len() > 2 * self.streams.len() + 64 {
            let streams = &mut self.streams;
            self.flow.queue.retain(|id| streams.get_mut(*id).is_some());
        }
    }

    /// Sends for those that stand in the queue, while there is a window.
    fn pump(&mut self) {
        while self.flow.send > 0 {
            let Some(id) = self.flow.queue.pop_front() else { break };
            let Some(stream) = self.streams.get_mut(id) else {
                continue;
            };
            stream.queued = false;
            if send_rest(&mut self.flow, stream, self.peer.max_frame_size, &mut self.output) {
                if let Some(parts) = &mut stream.parts {
                    self.buffers.give(std::mem::take(&mut parts.waiting));
                    parts.sent = 0;
                }
            } else if stream.window > 0 {
                // It keeps its place.
                stream.queued = true;
                self.flow.queue.push_front(id);
            }
        }
    }

    /// How many streams are noted as waiting for the connection's window.
    #[cfg(test)]
    pub(super) fn waiting_streams(&self) -> usize {
        self.flow.queue.len()
    }

    /// The peer lets us send more over all streams.
    pub(super) fn widen_connection(&mut self, increment: u32) -> Result<(), ProtocolError> {
        self.flow.send = widened(self.flow.send, increment).ok_or(OVERFLOW)?;
        self.pump();
        Ok(())
    }

    /// The peer lets us send more over one stream. False if its window overflows, which is the stream's error (RFC 9113, 6.9.1).
    pub(super) fn widen_stream(&mut self, id: u32, increment: u32) -> bool {
        let Some(stream) = self.streams.get_mut(id) else {
            return true;
        };
        let Some(window) = widened(stream.window, increment) else {
            return false;
        };
        stream.window = window;
        if stream.waits() {
            self.flow.enqueue(stream);
            self.pump();
        }
        true
    }

    /// `INITIAL_WINDOW_SIZE` has changed: all streams' windows move with it (RFC 9113, 6.9.2).
    pub(super) fn move_windows(&mut self, by: i64) -> Result<(), ProtocolError> {
        if by == 0 {
            return Ok(());
        }
        for stream in self.streams.iter_mut() {
            stream.window += by;
            if stream.window > i64::from(MAX_WINDOW) {
                return Err(OVERFLOW);
            }
        }
        for id in self.streams.ids(Stream::waits) {
            if let Some(stream) = self.streams.get_mut(id) {
                self.flow.enqueue(stream);
            }
        }
        self.pump();
        Ok(())
    }
}
