//! bugle's HTTP/2 client under any bytes of a server, in any pieces, between any steps of its owner. The bytes are a script: see `script.rs`.
//!
//! Memory is bounded by what the protocol module promises; `-rss_limit_mb=256` checks it from outside.

#![no_main]
#![allow(dead_code, unused_imports, reason = "a target that uses a part of the module")]

#[path = "../../crates/provider/src/http2/mod.rs"]
mod http2;
#[path = "../../crates/provider/src/http2/tests/fuzz/script.rs"]
mod script;

libfuzzer_sys::fuzz_target!(|input: &[u8]| script::run(input, |_| ()));
