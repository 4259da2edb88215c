//! SETTINGS, ours and the peer's (RFC 9113, 6.5).

use super::error::{ErrorCode, ProtocolError};
use super::frame::{self, kind};

/// The longest body that an answer is given with.
pub(super) const BODY_LIMIT: usize = 64 << 10;

/// Window of each stream we open: more than a body may take, so that no stream ever needs a `WINDOW_UPDATE`.
pub(super) const STREAM_WINDOW: u32 = 128 << 10;

/// The longest header block that is collected, and the longest header list by the measure of RFC 9113, 6.5.2.
pub(super) const HEADER_LIMIT: usize = 32 << 10;

/// The windows of both sides before anything else is said (RFC 9113, 6.9.2).
pub(super) const DEFAULT_WINDOW: u32 = 65_535;

/// Windows never go beyond (RFC 9113, 6.9.1).
pub(super) const MAX_WINDOW: u32 = 0x7fff_ffff;

mod id {
    pub(super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(super) const ENABLE_PUSH: u16 = 2;
    pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(super) const MAX_FRAME_SIZE: u16 = 5;
    pub(super) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// What we choose for a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Bytes of the table that the peer's HPACK encoder may use.
    pub(crate) header_table_size: u32,
    /// Bytes that may be under way to us over all streams, 65 535 to 2^31 - 1.
    pub(crate) connection_window: u32,
    /// The headers of answers that [`super::Answer::field`] can give, in lower case. At most 255.
    pub(crate) keep: &'static [&'static str],
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            header_table_size: 4_096,
            connection_window: 4 << 20,
            keep: &["retry-after"],
        }
    }
}

impl Settings {
    /// The connection's receive window within its bounds.
    pub(super) fn window(&self) -> u32 {
        self.connection_window.clamp(DEFAULT_WINDOW, MAX_WINDOW)
    }

    /// The client's preface: the magic, our SETTINGS, and the connection's window, which only `WINDOW_UPDATE` can change (RFC 9113, 6.9.2).
    pub(super) fn put_preface(&self, out: &mut Vec<u8>) {
        let ours = [
            (id::HEADER_TABLE_SIZE, self.header_table_size),
            (id::ENABLE_PUSH, 0),
            (id::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (id::MAX_HEADER_LIST_SIZE, 32 << 10),
        ];
        out.extend_from_slice(frame::PREFACE);
        frame::put_header(out, ours.len() * 6, kind::SETTINGS, 0, 0);
        for (id, value) in ours {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        let more = self.window() - DEFAULT_WINDOW;
        if more > 0 {
            frame::put_window_update(out, 0, more);
        }
    }
}

/// What the peer has said, or the defaults of RFC 9113, 6.5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PeerSettings {
    /// `None` until its first SETTINGS; afterwards without a limit unless it names one.
    pub(super) max_concurrent_streams: Option<usize>,
    pub(super) initial_window: u32,
    pub(super) max_frame_size: usize,
    /// The largest header list that it takes, by the measure of RFC 9113, 6.5.2; without a limit unless it names one.
    pub(super) max_header_list: usize,
    pub(super) header_table_size: u32,
    /// The least size that the latest SETTINGS frame named on its way to `header_table_size` (RFC 7541, 4.2).
    pub(super) least_header_table_size: u32,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            max_concurrent_streams: None,
            initial_window: DEFAULT_WINDOW,
            max_frame_size: 16_384,
            max_header_list: usize::MAX,
            header_table_size: 4_096,
            least_header_table_size: 4_096,
        }
    }
}

impl PeerSettings {
    /// These settings after the payload of a SETTINGS frame, whose values count in their order (RFC 9113, 6.5.3).
    pub(super) fn updated(mut self, payload: &[u8]) -> Result<Self, ProtocolError> {
        let (entries, []) = payload.as_chunks::<6>() else {
            return Err(ProtocolError::frame_size("SETTINGS is not a multiple of 6 bytes long"));
        };
        self.max_concurrent_streams.get_or_insert(usize::MAX);
        self.least_header_table_size = self.header_table_size;
        for &[i0, i1, v0, v1, v2, v3] in entries {
            self.set(u16::from_be_bytes([i0, i1]), u32::from_be_bytes([v0, v1, v2, v3]))?;
        }
        Ok(self)
    }

    fn set(&mut self, id: u16, value: u32) -> Result<(), ProtocolError> {
        match id {
            id::HEADER_TABLE_SIZE => {
                self.header_table_size = value;
                self.least_header_table_size = self.least_header_table_size.min(value);
            }
            // A server that wants pushes from a client breaks a rule of its own (RFC 9113, 6.5.2).
            id::ENABLE_PUSH if value != 0 => return Err(ProtocolError::protocol("the server set ENABLE_PUSH")),
            id::MAX_CONCURRENT_STREAMS => self.max_concurrent_streams = Some(value as usize),
            id::INITIAL_WINDOW_SIZE if value > MAX_WINDOW => {
                let what = "INITIAL_WINDOW_SIZE is beyond 2^31 - 1";
                return Err(ProtocolError::new(ErrorCode::FLOW_CONTROL_ERROR, what));
            }
            id::INITIAL_WINDOW_SIZE => self.initial_window = value,
            id::MAX_FRAME_SIZE if !(16_384..=0x00ff_ffff).contains(&value) => {
                return Err(ProtocolError::protocol("MAX_FRAME_SIZE is out of bounds"));
            }
            id::MAX_FRAME_SIZE => self.max_frame_size = value as usize,
            id::MAX_HEADER_LIST_SIZE => self.max_header_list = value as usize,
            // RFC 9113, 6.5.2: settings that are not known are ignored.
            _ => {}
        }
        Ok(())
    }
}
