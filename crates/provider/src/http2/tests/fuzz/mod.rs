//! The fuzz target's body over scripts from a seed: no fuzzer is needed, and a failure can be played again.

mod script;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::super::Connection;
use super::super::frame::{HEADER_LEN, MAX_RECEIVED};
use super::super::settings::{BODY_LIMIT, HEADER_LIMIT};
use super::hostile::recorded;

const SCRIPTS: u64 = 6_000;

/// What a peer makes us keep has bounds, whatever it sends.
fn is_bounded(connection: &mut Connection<u32>) {
    assert!(connection.partial.len() < HEADER_LEN + MAX_RECEIVED);
    let block = connection
        .continued
        .as_ref()
        .map_or(0, |continued| continued.block.len());
    assert!(block <= HEADER_LIMIT);
    assert!(connection.kept.len() <= HEADER_LIMIT);
    for stream in connection.streams.iter_mut() {
        if let Some(parts) = &stream.parts {
            assert!(parts.fields_len <= HEADER_LIMIT);
            assert!(parts.held.len() <= BODY_LIMIT + parts.fields_len);
        }
    }
    assert!(connection.waiting_streams() <= 2 * connection.open_streams() + 500);
}

/// Steps without any sense, and before half of them SETTINGS, without which nothing goes far.
fn random(rng: &mut SmallRng) -> Vec<u8> {
    let mut script = Vec::new();
    if rng.random() {
        script.extend([4, 7, 0, 0, 0, 0, 0]);
    }
    let length = rng.random_range(0..600);
    script.extend((0..length).map(|_| rng.random::<u8>()));
    script
}

/// A valid stream of a server's, damaged, in pieces, with other steps in between.
fn damaged(rng: &mut SmallRng) -> Vec<u8> {
    let mut stream = recorded();
    for _ in 0..rng.random_range(0..6) {
        let at = rng.random_range(0..stream.len());
        match rng.random_range(0..4) {
            0 => drop(stream.drain(at..stream.len().min(at + 9))),
            1 => stream.insert(at, rng.random()),
            _ => stream[at] = rng.random(),
        }
    }
    let mut script = Vec::new();
    for _ in 0..6 {
        script.extend([9, rng.random(), rng.random(), rng.random()]);
    }
    let mut rest = &stream[..];
    while !rest.is_empty() {
        let piece;
        (piece, rest) = rest.split_at(rest.len().min(rng.random_range(1..200)));
        script.extend([3, u8::try_from(piece.len()).unwrap()]);
        script.extend_from_slice(piece);
        script.push(rng.random());
        if rng.random_range(0..4) == 0 {
            script.extend((0..4).map(|_| rng.random_range(9..16_u8)));
        }
    }
    script
}

fn play(first_seed: u64, make: impl Fn(&mut SmallRng) -> Vec<u8>) {
    for seed in first_seed..first_seed + SCRIPTS {
        let script = make(&mut SmallRng::seed_from_u64(seed));
        let played = std::panic::catch_unwind(|| script::run(&script, is_bounded));
        assert!(played.is_ok(), "the script of seed {seed} breaks a promise: {script:?}");
    }
}

#[test]
fn no_script_breaks_a_promise() {
    play(0, random);
}

#[test]
fn no_damaged_stream_breaks_a_promise() {
    play(1 << 32, damaged);
}
