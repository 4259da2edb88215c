use proptest::prelude::*;

use super::*;

const GOOD: &str = "projects/p/messages/x";

/// What a client says: the preface, its SETTINGS, and these frames.
fn said(settings: &[u8], frames: &[(u8, u8, u32, &[u8])]) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    frame(&mut bytes, SETTINGS, 0, 0, settings);
    for (kind, flags, stream, payload) in frames {
        frame(&mut bytes, *kind, *flags, *stream, payload);
    }
    bytes
}

fn request(stream: u32) -> [(u8, u8, u32, &'static [u8]); 2] {
    [
        (HEADERS, END_HEADERS, stream, b"unread"),
        (DATA, END_STREAM, stream, b"{}"),
    ]
}

/// Kind, flags and stream of every frame that is answered.
fn heads(out: &[u8]) -> Vec<(u8, u8, u32)> {
    let mut heads = Vec::new();
    let mut at = 0;
    while let Some(frame) = next(&out[at..]).unwrap() {
        heads.push((frame.kind, frame.flags, frame.stream));
        at += HEAD + frame.payload.len();
    }
    assert_eq!(at, out.len(), "whole frames only");
    heads
}

fn answered(out: &[u8]) -> Vec<u32> {
    let ends = |(kind, flags, stream): (u8, u8, u32)| (kind == DATA && flags == END_STREAM).then_some(stream);
    heads(out).into_iter().filter_map(ends).collect()
}

fn take(bytes: &[u8]) -> (Result<usize, Violation>, Vec<u8>, Sink) {
    let (mut sink, mut out) = (Sink::new(100, GOOD), Vec::new());
    let taken = sink.take(bytes, &mut out, |_| {});
    (taken, out, sink)
}

#[test]
fn a_stream_is_answered_when_it_ends_and_not_before() {
    let frames = [
        (HEADERS, END_HEADERS, 1, &b"a"[..]),
        (DATA, 0, 1, b"first"),
        (HEADERS, END_HEADERS | END_STREAM, 3, b"no body"),
        (DATA, END_STREAM, 1, b"second"),
        (HEADERS, END_HEADERS, 5, b"a"),
        (DATA, 0, 5, b"body"),
        (HEADERS, END_HEADERS | END_STREAM, 5, b"trailers"),
        (HEADERS, END_HEADERS, 7, b"never ends"),
    ];
    let (taken, out, sink) = take(&said(&[], &frames));
    assert!(taken.is_ok());
    assert_eq!((answered(&out), sink.answered), (vec![3, 1, 5], 3));
}

#[test]
fn a_header_block_in_parts_is_one_and_must_not_be_interrupted() {
    let frames = [
        (HEADERS, END_STREAM, 1, &b"a"[..]),
        (CONTINUATION, 0, 1, b"b"),
        (CONTINUATION, END_HEADERS, 1, b"c"),
    ];
    assert_eq!(answered(&take(&said(&[], &frames)).1), [1]);
    let (taken, out, _) = take(&said(&[], &[frames[0], (PING, 0, 0, b"12345678")]));
    assert!(taken.is_err());
    assert_eq!(heads(&out).last().unwrap().0, GOAWAY);
}

#[test]
fn settings_and_pings_are_acknowledged_and_acknowledgements_are_not() {
    let frames = [
        (PING, 0, 0, &b"12345678"[..]),
        (PING, ACK, 0, b"12345678"),
        (SETTINGS, ACK, 0, b""),
        (0xfa, 0, 0, b"a kind that nobody knows"),
    ];
    let (_, out, _) = take(&said(&[], &frames));
    assert_eq!(heads(&out), [(SETTINGS, ACK, 0), (PING, ACK, 0)]);
    assert!(out.ends_with(b"12345678"));
}

#[test]
fn answers_wait_for_room_on_the_connection_and_keep_their_order() {
    let mut sink = Sink::new(100, GOOD);
    let length = u32::try_from(sink.body.len()).unwrap();
    let mut out = Vec::new();
    let requests: Vec<_> = (0..2_000).flat_map(|n| request(2 * n + 1)).collect();
    sink.take(&said(&[], &requests), &mut out, |_| {}).unwrap();
    let fit = USUAL_WINDOW / length;
    assert_eq!(answered(&out).len(), usize::try_from(fit).unwrap());
    assert_eq!(sink.answered, u64::from(fit));
    out.clear();
    let mut more = Vec::new();
    frame(&mut more, WINDOW_UPDATE, 0, 0, &(2 * length).to_be_bytes());
    sink.take(&more, &mut out, |_| {}).unwrap();
    assert_eq!(answered(&out), [2 * fit + 1, 2 * fit + 3]);
}

#[test]
fn what_the_client_sends_is_given_back_before_its_windows_are_used_up() {
    let mut sink = Sink::new(100, GOOD);
    let body = vec![b'x'; MAX_FRAME];
    let mut out = Vec::new();
    sink.take(&said(&[], &[(HEADERS, END_HEADERS, 1, b"a")]), &mut out, |_| {})
        .unwrap();
    let (mut stream, mut connection) = (i64::from(STREAM_WINDOW), i64::from(WINDOW));
    for _ in 0..10_000 {
        let mut data = Vec::new();
        frame(&mut data, DATA, 0, 1, &body);
        stream -= i64::try_from(body.len()).unwrap();
        connection -= i64::try_from(body.len()).unwrap();
        assert!(stream >= 0 && connection >= 0);
        out.clear();
        sink.take(&data, &mut out, |_| {}).unwrap();
        let mut at = 0;
        while let Some(update) = next(&out[at..]).unwrap() {
            let more = i64::from(u32::from_be_bytes(update.payload.try_into().unwrap()));
            *if update.stream == 0 {
                &mut connection
            } else {
                &mut stream
            } += more;
            at += HEAD + update.payload.len();
        }
    }
    assert!(stream <= i64::from(STREAM_WINDOW) && connection <= i64::from(WINDOW));
}

#[test]
fn a_client_that_shrinks_the_table_hears_of_it_in_the_next_header_block() {
    let (_, out, _) = take(&said(&[0, 1, 0, 0, 0, 0], &[request(1), request(3)].concat()));
    assert_eq!(answered(&out), [1, 3]);
    let settings = HEAD;
    assert_eq!(out[settings + HEAD], EMPTY_TABLE);
    let first = settings + HEAD + 1 + HEADER_BLOCK.len() + HEAD + Sink::new(1, GOOD).body.len();
    assert_eq!(out[first + HEAD], HEADER_BLOCK[0]);
}

#[test]
fn what_no_client_may_do_ends_the_connection_with_the_last_stream_named() {
    for wrong in [
        (HEADERS, END_HEADERS, 0, &b"a"[..]),
        (HEADERS, END_HEADERS, 2, b"a"),
        (DATA, 0, 0, b"a"),
        (CONTINUATION, 0, 1, b"a"),
        (WINDOW_UPDATE, 0, 0, b"abc"),
    ] {
        let frames = [request(5).to_vec(), vec![wrong]].concat();
        let (taken, out, _) = take(&said(&[], &frames));
        assert!(taken.is_err(), "{wrong:?}");
        assert_eq!(answered(&out), [5], "{wrong:?}");
        assert!(out.ends_with(&[0, 0, 0, 5, 0, 0, 0, 1]), "{wrong:?}");
    }
    let mut long = said(&[], &[]);
    long.extend_from_slice(&[0, 0x40, 1, DATA, 0, 0, 0, 0, 1]);
    assert!(take(&long).0.is_err());
    assert!(take(&said(&[0, 4, 0, 0, 0, 9], &[])).0.is_err());
    assert!(take(b"GET / HTTP/1.1\r\n").0.is_err());
}

#[test]
fn only_the_frame_that_ends_a_body_is_shown() {
    let mut shown = Vec::new();
    let frames = [
        (HEADERS, END_HEADERS, 1, &b"a"[..]),
        (DATA, 0, 1, b"one"),
        (DATA, END_STREAM, 1, b"two"),
    ];
    let mut sink = Sink::new(1, GOOD);
    sink.take(&said(&[], &frames), &mut Vec::new(), |body| shown.push(body.to_vec()))
        .unwrap();
    assert_eq!(shown, [b"two"]);
}

proptest! {
    #[test]
    fn it_does_not_matter_where_the_bytes_are_parted(parts in prop::collection::vec(1_usize..200, 1..400)) {
        let mut frames: Vec<_> = (0..50).flat_map(|n| request(2 * n + 1)).collect();
        frames.insert(31, (PING, 0, 0, b"12345678"));
        let bytes = said(&[0, 1, 0, 0, 0, 0], &frames);
        let (_, whole, _) = take(&bytes);
        let (mut sink, mut out, mut input) = (Sink::new(100, GOOD), Vec::new(), Vec::new());
        let mut left = &bytes[..];
        for part in parts.iter().chain([&bytes.len()]) {
            let (now, later) = left.split_at(left.len().min(*part));
            left = later;
            input.extend_from_slice(now);
            let used = sink.take(&input, &mut out, |_| {}).unwrap();
            input.drain(..used);
        }
        prop_assert_eq!(out, whole);
        prop_assert_eq!((sink.answered, input.len()), (50, 0));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut all = PREFACE.to_vec();
        all.extend_from_slice(&bytes);
        let (taken, _, _) = take(&all);
        prop_assert!(taken.is_err() || taken.is_ok_and(|used| used <= all.len()));
    }
}

#[test]
fn a_stream_that_is_to_be_late_is_answered_when_that_is_asked_for() {
    let (mut sink, mut out) = (Sink::new(100, GOOD), Vec::new());
    sink.delaying = true;
    let frames = [request(1), request(3)].concat();
    sink.take(&said(&[], &frames), &mut out, |_| {}).unwrap();
    assert_eq!((answered(&out), &sink.unanswered[..]), (vec![], &[1, 3][..]));
    out.clear();
    sink.answer(3, &mut out).unwrap();
    assert_eq!((answered(&out), sink.answered), (vec![3], 1));
}
