//! HPACK (RFC 7541): header blocks to bytes and back.
//!
//! Both directions have a table of their own, which is a promise: each side replays what the other did to it. One wrong eviction and every later block
//! means something else, which is why any doubt about a block ends the connection (RFC 9113, 4.3).

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod huffman;
pub(crate) mod integer;
pub(crate) mod table;

/// A header block that cannot be decoded; names the rule. The connection's tables can no longer agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CompressionError(pub(crate) &'static str);
