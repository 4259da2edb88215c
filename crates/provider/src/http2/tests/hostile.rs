//! Any bytes, in any pieces.

use proptest::prelude::*;

use super::super::frame::{flag, kind};
use super::super::*;
use super::peer::*;

const REQUESTS: u32 = 6;

fn opened() -> Connection<u32> {
    let mut connection = Connection::new(ours());
    for owner in 0..REQUESTS {
        connection.request(&head(), b"", &[&vec![1; 20_000]], owner).unwrap();
    }
    connection
}

/// A stream of everything that a server may send.
pub(super) fn recorded() -> Vec<u8> {
    let indexed = [&[0x88, 0x61, 0x96][..], &hex_date(), &[0x75, 2, b'4', b'2']].concat();
    let (a, b) = indexed.split_at(9);
    [
        settings_frame(&[(1, 2_000), (3, 100), (4, 30_000), (5, 20_000)]),
        frame(kind::SETTINGS, flag::ACK, 0, &[]),
        window_update(0, 200_000),
        frame(kind::HEADERS, WHOLE, 1, &indexed),
        data(1, false, b"{\"name\":"),
        frame(kind::HEADERS, 0, 3, a),
        frame(kind::CONTINUATION, flag::END_HEADERS, 3, b),
        data(1, true, b"1}"),
        frame(kind::PING, 0, 0, b"whatever"),
        frame(kind::DATA, flag::PADDED | flag::END_STREAM, 3, &[3, b'b', 0, 0, 0]),
        headers(5, WHOLE, &[(":status", "103")]),
        frame(kind::HEADERS, WHOLE_AND_END, 5, &[0x88, 0xbf, 0xbe]),
        frame(0x55, 1, 3, b"unknown"),
        rst(7, 7),
        window_update(9, 500),
        frame(kind::HEADERS, WHOLE, 9, &[0x8d]),
        data(9, false, &[5; 300]),
        headers(9, WHOLE_AND_END, &[("x", "y")]),
        goaway(9, 0),
    ]
    .concat()
}

fn hex_date() -> Vec<u8> {
    vec![
        0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66, 0xe0, 0x82,
        0xa6, 0x2d, 0x1b, 0xff,
    ]
}

type Outcome = (Vec<Event>, Result<(), ProtocolError>, Vec<u8>);

fn play<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut connection = opened();
    connection.output().clear();
    let mut on = Recorder::default();
    let mut result = Ok(());
    for piece in pieces {
        result = connection.receive(piece, &mut on);
    }
    account(&mut connection, &on);
    let output = std::mem::take(connection.output());
    (on.0, result, output)
}

/// Each owner came back once, or is still in there.
fn account(connection: &mut Connection<u32>, on: &Recorder) {
    let mut owners: Vec<u32> = connection.drain().into_iter().map(|(_, owner)| owner).collect();
    owners.extend(on.0.iter().filter_map(|event| match event {
        Event::Answer { owner, .. } | Event::Failed(owner, _) => Some(*owner),
        _ => None,
    }));
    owners.sort_unstable();
    assert_eq!(owners, (0..REQUESTS).collect::<Vec<_>>());
}

#[test]
fn the_recorded_stream_is_valid_and_means_something() {
    let (events, result, _) = play([&recorded()[..]]);
    assert_eq!(result, Ok(()));
    assert_eq!(events.len(), 8, "{events:#?}");
    let dated =
        |event: &Event| matches!(event, Event::Answer { status: 200, retry_after: Some(text), .. } if text == "42");
    assert_eq!(events.iter().filter(|event| dated(event)).count(), 3);
}

#[test]
fn byte_by_byte_and_every_cut_in_two_give_the_same_events() {
    let stream = recorded();
    let whole = play([&stream[..]]);
    assert_eq!(play(stream.chunks(1)), whole);
    for cut in 0..stream.len() {
        let (a, b) = stream.split_at(cut);
        assert_eq!(play([a, b]), whole, "cut at {cut}");
    }
}

#[derive(Debug, Clone)]
enum Mutation {
    Set(prop::sample::Index, u8),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (index(), any::<u8>()).prop_map(|(i, b)| Mutation::Set(i, b)),
        1 => (index(), 1..40_usize).prop_map(|(i, n)| Mutation::Remove(i, n)),
        1 => (index(), 1..40_usize).prop_map(|(i, n)| Mutation::Repeat(i, n)),
        1 => (index(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(i, bytes)| Mutation::Insert(i, bytes)),
    ]
}

fn mutate(stream: &mut Vec<u8>, mutation: Mutation) {
    match mutation {
        Mutation::Set(i, b) => *i.get_mut(stream) = b,
        Mutation::Remove(i, n) => {
            let at = i.index(stream.len());
            stream.drain(at..stream.len().min(at + n));
        }
        Mutation::Repeat(i, n) => {
            let at = i.index(stream.len());
            let part = stream[at..stream.len().min(at + n)].to_vec();
            stream.splice(at..at, part);
        }
        Mutation::Insert(i, bytes) => {
            let at = i.index(stream.len());
            stream.splice(at..at, bytes);
        }
    }
    if stream.is_empty() {
        stream.push(0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..600), settled in any::<bool>()) {
        let begin = if settled { settings_frame(&[]) } else { Vec::new() };
        let (_, _, output) = play([&begin[..], &bytes]);
        prop_assert!(output.len() <= 200_000);
    }

    /// Frames of every kind with any flags and payload, for streams that are open, ended or none.
    #[test]
    fn random_frames_do_no_harm(
        frames in prop::collection::vec((0..11_u8, any::<u8>(), 0..16_u32, prop::collection::vec(any::<u8>(), 0..30)), 0..40)
    ) {
        let mut stream = settings_frame(&[]);
        for (kind, flags, id, payload) in frames {
            stream.extend(frame(kind, flags, id, &payload));
        }
        let (_, _, output) = play([&stream[..]]);
        prop_assert!(output.len() <= 200_000);
    }

    #[test]
    fn a_mutated_stream_does_no_harm_and_is_the_same_in_any_pieces(
        mutations in prop::collection::vec(mutation(), 1..6), piece in 1..50_usize
    ) {
        let mut stream = recorded();
        for mutation in mutations {
            mutate(&mut stream, mutation);
        }
        let whole = play([&stream[..]]);
        let pieces = play(stream.chunks(piece));
        prop_assert_eq!(whole, pieces);
    }
}

#[test]
fn a_million_frames_for_ended_streams_and_resets_leave_no_trace() {
    let mut connection = opened();
    let mut on = Recorder::default();
    connection.receive(&settings_frame(&[]), &mut on).unwrap();
    for id in (0..REQUESTS).map(|n| 2 * n + 1) {
        connection.receive(&rst(id, 0), &mut on).unwrap();
    }
    connection.output().clear();
    let junk = [
        rst(1, 0),
        window_update(3, 1),
        data(5, false, b""),
        frame(kind::PRIORITY, 0, 7, &[0; 5]),
    ]
    .concat();
    for _ in 0..250 {
        connection.receive(&junk.repeat(1_000), &mut on).unwrap();
    }
    assert!(connection.output().is_empty());
    assert_eq!((connection.open_streams(), on.0.len()), (0, 1 + REQUESTS as usize));
}
