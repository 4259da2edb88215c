//! RFC 9113's rules, one by one.

use super::super::frame::{flag, kind};
use super::super::*;
use super::peer::*;

/// A connection with `n` open requests (owners 0 to n - 1 on streams 1, 3, ...), its output taken.
fn open(n: u32) -> Connection<u32> {
    let mut connection = connection(&[]);
    for owner in 0..n {
        let id = connection.request(&head(), b"", &[b"body"], owner).unwrap();
        assert_eq!(id, StreamId(2 * owner + 1));
    }
    connection.output().clear();
    connection
}

fn events(connection: &mut Connection<u32>, bytes: &[u8]) -> Vec<Event> {
    let mut on = Recorder::default();
    connection.receive(bytes, &mut on).unwrap();
    on.0
}

const OK: &[(&str, &str)] = &[(":status", "200")];

#[test]
fn the_preface_comes_first_and_settings_are_acknowledged() {
    let mut connection: Connection<u32> = Connection::new(ours());
    assert!(connection.output().starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    assert_eq!(kinds(connection.output()), [kind::SETTINGS, kind::WINDOW_UPDATE]);
    let frames = frames(connection.output());
    assert!(
        frames[0].1.chunks(6).any(|entry| entry == [0, 2, 0, 0, 0, 0]),
        "no pushes"
    );
    assert_eq!(frames[1].1, ((4_u32 << 20) - 65_535).to_be_bytes());
    assert_eq!(connection.peer_limit(), None);
    connection.output().clear();
    assert_eq!(events(&mut connection, &settings_frame(&[(3, 7)])), [Event::Settings]);
    assert_eq!(connection.peer_limit(), Some(7));
    assert_eq!(*connection.output(), [0, 0, 0, 4, 1, 0, 0, 0, 0]);
}

#[test]
fn an_answer_in_one_frame_or_in_many_is_one_event() {
    let fields = &[
        (":status", "429"),
        ("x", "y"),
        ("retry-after", "30"),
        ("apns-id", "abc"),
        ("retry-after", "31"),
    ];
    let mut connection = open(5);
    let full = |owner, body: &[u8]| Event::Answer {
        owner,
        status: 429,
        retry_after: Some("30".to_owned()),
        apns_id: Some("abc".to_owned()),
        body: body.to_vec(),
        truncated: false,
    };
    assert_eq!(
        events(&mut connection, &headers(5, WHOLE_AND_END, fields)),
        [full(2, b"")]
    );
    let bytes = [headers(1, WHOLE, fields), data(1, true, b"no")].concat();
    assert_eq!(events(&mut connection, &bytes), [full(0, b"no")]);
    let bytes = [
        headers(3, WHOLE, fields),
        data(3, false, b"in "),
        data(3, false, b""),
        data(3, true, b"parts"),
    ]
    .concat();
    assert_eq!(events(&mut connection, &bytes), [full(1, b"in parts")]);
    let trailers = headers(7, WHOLE_AND_END, &[("grpc-status", "0")]);
    let bytes = [headers(7, WHOLE, fields), data(7, false, b"body"), trailers].concat();
    assert_eq!(events(&mut connection, &bytes), [full(3, b"body")]);
    let interim = headers(9, WHOLE, &[(":status", "103"), ("retry-after", "1")]);
    let bytes = [interim, headers(9, WHOLE, OK), data(9, true, b"late")].concat();
    assert_eq!(events(&mut connection, &bytes), [answered(4, 200, b"late")]);
    assert_eq!(connection.open_streams(), 0);
    assert!(connection.output().is_empty(), "nothing to say to any of it");
}

#[test]
fn padding_and_priority_are_taken_off() {
    let mut connection = open(1);
    let payload = [&[3, 0, 0, 0, 0, 9][..], &block(OK), &[0, 0, 0]].concat();
    let bytes = [
        frame(kind::HEADERS, WHOLE | flag::PADDED | flag::PRIORITY, 1, &payload),
        frame(kind::PRIORITY, 0, 1, &[0; 5]),
        frame(0x42, 0xff, 1, b"no such frame"),
        frame(kind::DATA, flag::PADDED | flag::END_STREAM, 1, &[2, b'o', b'k', 0, 0]),
    ];
    assert_eq!(events(&mut connection, &bytes.concat()), [answered(0, 200, b"ok")]);
}

#[test]
fn a_header_block_may_go_on_in_continuation() {
    let mut connection = open(1);
    let block = block(&[(":status", "200"), ("retry-after", "5")]);
    let (a, b) = block.split_at(7);
    let bytes = [
        frame(kind::HEADERS, flag::END_STREAM, 1, a),
        frame(kind::CONTINUATION, 0, 1, b""),
        frame(kind::CONTINUATION, flag::END_HEADERS, 1, b),
    ];
    let events = events(&mut connection, &bytes.concat());
    assert!(
        matches!(&events[..], [Event::Answer { retry_after: Some(text), .. }] if text == "5"),
        "{events:?}"
    );
}

#[test]
fn a_reset_stream_gives_its_owner_back_and_its_late_frames_are_ignored() {
    let mut connection = open(2);
    assert_eq!(connection.reset(StreamId(1)), Some(0));
    assert_eq!(connection.reset(StreamId(1)), None);
    assert_eq!(*connection.output(), rst(1, 8));
    // Its header block is read all the same: it puts ":status 418" into the table, which the other answer names.
    let mut inserting = vec![0x48, 3];
    inserting.extend_from_slice(b"418");
    let bytes = [
        frame(kind::HEADERS, WHOLE, 1, &inserting),
        data(1, false, &[0; 1000]),
        window_update(1, 0x7fff_ffff),
        rst(1, 0),
        frame(kind::HEADERS, WHOLE_AND_END, 3, &[0xbe]),
    ];
    assert_eq!(events(&mut connection, &bytes.concat()), [answered(1, 418, b"")]);
}

#[test]
fn resets_by_the_peer_say_whether_the_request_was_processed() {
    let mut connection = open(3);
    let bytes = [
        rst(1, 7),
        rst(3, 2),
        headers(5, WHOLE, OK),
        data(5, false, b"half"),
        rst(5, 7),
    ]
    .concat();
    let broken_off = Event::Answer {
        owner: 2,
        status: 200,
        retry_after: None,
        apns_id: None,
        body: b"half".to_vec(),
        truncated: true,
    };
    assert_eq!(
        events(&mut connection, &bytes),
        [
            Event::Failed(0, StreamFailure::Refused),
            Event::Failed(1, StreamFailure::Reset(ErrorCode(2))),
            broken_off
        ]
    );
}

#[test]
fn an_early_answer_counts_and_ends_the_stream() {
    let mut connection = connection(&[(4, 10)]);
    connection.request(&head(), b"", &[&[1; 100]], 9).unwrap();
    connection.output().clear();
    let bytes = [
        headers(1, WHOLE, &[(":status", "413")]),
        data(1, true, b"too large"),
        rst(1, 0),
        window_update(1, 90),
    ]
    .concat();
    assert_eq!(events(&mut connection, &bytes), [answered(9, 413, b"too large")]);
    assert_eq!(
        *connection.output(),
        rst(1, 8),
        "the rest of the body is not sent, and the peer knows"
    );
}

#[test]
fn a_goaway_refuses_what_lies_above_it_and_lets_the_rest_go_on() {
    let mut connection = open(4);
    assert_eq!(
        events(&mut connection, &goaway(0x7fff_ffff, 0)),
        [Event::Goaway(ErrorCode::NO_ERROR)]
    );
    assert_eq!(connection.request(&head(), b"", &[b"x"], 77), Err(77));
    assert!(!connection.is_open());
    let refused = |owner| Event::Failed(owner, StreamFailure::Refused);
    assert_eq!(
        events(&mut connection, &goaway(3, 0)),
        [refused(2), refused(3), Event::Goaway(ErrorCode::NO_ERROR)]
    );
    assert_eq!(events(&mut connection, &goaway(1, 11))[0], refused(1));
    assert_eq!(
        events(&mut connection, &headers(1, WHOLE_AND_END, OK)),
        [answered(0, 200, b"")]
    );
}

#[test]
fn we_say_goodbye_once_and_open_streams_go_on() {
    let mut connection = open(1);
    connection.goaway();
    connection.goaway();
    assert_eq!(*connection.output(), goaway(0, 0));
    assert_eq!(connection.request(&head(), b"", &[], 5), Err(5));
    assert_eq!(
        events(&mut connection, &headers(1, WHOLE_AND_END, OK)),
        [answered(0, 200, b"")]
    );
}

#[test]
fn the_peers_stream_limit_is_kept() {
    let mut connection = connection(&[(3, 2)]);
    for owner in 0..2 {
        connection.request(&head(), b"", &[], owner).unwrap();
    }
    assert_eq!(connection.request(&head(), b"", &[], 2), Err(2));
    events(&mut connection, &headers(1, WHOLE_AND_END, OK));
    assert_eq!(connection.request(&head(), b"", &[], 2), Ok(StreamId(5)));
    events(&mut connection, &settings_frame(&[(3, 0)]));
    assert_eq!((connection.peer_limit(), connection.open_streams()), (Some(0), 2));
}

#[test]
fn drain_gives_back_every_owner_that_had_no_answer() {
    let mut connection = open(5);
    events(&mut connection, &headers(3, WHOLE_AND_END, OK));
    let owners: Vec<_> = connection
        .drain()
        .into_iter()
        .map(|(id, owner)| (id.0, owner))
        .collect();
    assert_eq!(owners, [(1, 0), (5, 2), (7, 3), (9, 4)]);
    assert!(connection.drain().is_empty());
    assert_eq!(connection.request(&head(), b"", &[], 5), Err(5));
}

#[test]
fn pings_are_answered_and_only_our_latest_is_a_pong() {
    let mut connection = open(0);
    events(&mut connection, &frame(kind::PING, 0, 0, b"12345678"));
    assert_eq!(*connection.output(), frame(kind::PING, flag::ACK, 0, b"12345678"));
    connection.output().clear();
    let ack = |payload: &[u8]| frame(kind::PING, flag::ACK, 0, payload);
    assert_eq!(events(&mut connection, &ack(&[0; 8])), []);
    connection.ping();
    let first = frames(connection.output())[0].1.clone();
    connection.ping();
    let second = frames(connection.output())[1].1.clone();
    assert_eq!(events(&mut connection, &ack(&first)), []);
    assert_eq!(events(&mut connection, &ack(&second)), [Event::Pong]);
}

#[test]
fn pings_over_a_long_time_are_no_flood_however_busy_the_output_is() {
    let mut connection = open(0);
    for n in 0..5_000_u32 {
        connection
            .request(&head(), b"", &[&vec![0; (n % 7) as usize]], n)
            .unwrap();
        events(&mut connection, &frame(kind::PING, 0, 0, &[0; 8]));
        connection.output().clear();
    }
}

#[test]
fn a_body_of_more_than_64_kib_is_cut_off() {
    let mut connection = open(2);
    let exactly = [
        &headers(1, WHOLE, OK)[..],
        &data(1, false, &[7; 16_384]).repeat(4),
        &data(1, true, b""),
    ]
    .concat();
    assert_eq!(events(&mut connection, &exactly), [answered(0, 200, &vec![7; 65_536])]);
    let more = [
        &headers(3, WHOLE, OK)[..],
        &data(3, false, &[7; 16_384]).repeat(4),
        &data(3, false, b"x"),
    ]
    .concat();
    let events = events(&mut connection, &more);
    assert!(
        matches!(&events[..], [Event::Answer { owner: 1, truncated: true, body, .. }] if body.len() == 65_536),
        "{}",
        events.len()
    );
    assert!(connection.output().ends_with(&rst(3, 8)));
}

#[test]
fn the_connections_window_is_given_back_in_big_steps_and_for_ignored_streams_too() {
    let mut connection = open(1);
    connection.reset(StreamId(1));
    connection.output().clear();
    let mut taken: i64 = 4 << 20;
    for _ in 0..2_000 {
        taken -= 16_384;
        events(&mut connection, &data(1, false, &[0; 16_384]));
        for (header, payload) in frames(&std::mem::take(connection.output())) {
            assert_eq!((header.kind, header.stream), (kind::WINDOW_UPDATE, 0));
            let by = u32::from_be_bytes(payload.try_into().unwrap());
            assert!(by >= 2 << 20);
            taken += i64::from(by);
        }
        assert!(taken > 1 << 20 && taken <= 4 << 20);
    }
}

#[test]
fn malformed_answers_fail_their_stream_alone() {
    let upper = &[(":status", "200"), ("X-Upper", "1")][..];
    for bytes in [
        headers(1, WHOLE, &[]),
        headers(1, WHOLE, &[("x", "y")]),
        headers(1, WHOLE, upper),
        headers(1, WHOLE, &[("x", "y"), (":status", "200")]),
        headers(1, WHOLE, &[(":status", "101")]),
        headers(1, WHOLE_AND_END, &[(":status", "100")]),
        headers(1, WHOLE, &[(":status", "103")]).repeat(200),
        data(1, true, b"no head"),
        [headers(1, WHOLE, OK), headers(1, WHOLE, &[("x", "y")])].concat(),
        [headers(1, WHOLE, OK), headers(1, WHOLE_AND_END, OK)].concat(),
        [headers(1, WHOLE, OK), data(1, false, b"").repeat(200)].concat(),
        window_update(1, 0),
        window_update(1, 0x7fff_ffff),
    ] {
        let mut connection = open(2);
        let events_of_it = events(&mut connection, &bytes);
        assert!(
            matches!(events_of_it[..], [Event::Failed(0, StreamFailure::Malformed(_))]),
            "{events_of_it:?}"
        );
        assert_eq!(kinds(connection.output()), [kind::RST_STREAM]);
        assert_eq!(
            events(&mut connection, &headers(3, WHOLE_AND_END, OK)),
            [answered(1, 200, b"")]
        );
    }
}

const PROTOCOL: u32 = 1;
const FLOW: u32 = 3;
const SIZE: u32 = 6;
const COMPRESSION: u32 = 9;
const CALM: u32 = 11;

/// Each of these, on a connection with two open streams, ends it with its code.
fn each_ends_the_connection(cases: Vec<(u32, Vec<u8>)>) {
    for (code, bytes) in cases {
        let mut connection = open(2);
        let mut on = Recorder::default();
        let error = connection.receive(&bytes, &mut on).expect_err("it is forbidden");
        let shown = &bytes[..bytes.len().min(40)];
        assert_eq!(error.code, ErrorCode(code), "{error}: {shown:?}");
        assert!(connection.output().ends_with(&goaway(0, code)));
        assert_eq!(
            connection.receive(&headers(1, WHOLE_AND_END, OK), &mut on),
            Err(error),
            "it stays dead"
        );
        assert_eq!(connection.request(&head(), b"", &[], 5), Err(5));
        assert_eq!(connection.drain().len(), 2);
    }
}

#[test]
fn messages_that_break_the_rules_end_the_connection() {
    each_ends_the_connection(vec![
        (PROTOCOL, data(0, false, b"x")),
        (PROTOCOL, data(5, false, b"x")),
        (PROTOCOL, data(2, false, b"x")),
        (PROTOCOL, frame(kind::DATA, flag::PADDED, 1, &[5, 0, 0])),
        (PROTOCOL, frame(kind::DATA, flag::PADDED, 1, &[])),
        (PROTOCOL, headers(0, WHOLE, OK)),
        (PROTOCOL, headers(2, WHOLE, OK)),
        (PROTOCOL, headers(99, WHOLE, OK)),
        (PROTOCOL, frame(kind::HEADERS, WHOLE | flag::PADDED, 1, &[2, 0x88])),
        (SIZE, frame(kind::HEADERS, WHOLE | flag::PRIORITY, 1, &[0x88])),
        (COMPRESSION, frame(kind::HEADERS, WHOLE, 1, &[0xff])),
        (PROTOCOL, frame(kind::PRIORITY, 0, 0, &[0; 5])),
        (SIZE, frame(kind::PRIORITY, 0, 1, &[0; 4])),
    ]);
}

#[test]
fn control_frames_that_break_the_rules_end_the_connection() {
    each_ends_the_connection(vec![
        (PROTOCOL, rst(0, 0)),
        (PROTOCOL, rst(99, 0)),
        (SIZE, frame(kind::RST_STREAM, 0, 1, &[0; 5])),
        (PROTOCOL, frame(kind::SETTINGS, 0, 1, &[])),
        (SIZE, frame(kind::SETTINGS, 0, 0, &[0; 5])),
        (SIZE, frame(kind::SETTINGS, flag::ACK, 0, &[0; 6])),
        (PROTOCOL, settings_frame(&[(2, 1)])),
        (FLOW, settings_frame(&[(4, 0x8000_0000)])),
        (PROTOCOL, settings_frame(&[(5, 16_383)])),
        (PROTOCOL, settings_frame(&[(5, 0x0100_0000)])),
        (PROTOCOL, frame(kind::PUSH_PROMISE, WHOLE, 1, &[0, 0, 0, 2, 0x88])),
        (SIZE, frame(kind::PING, 0, 0, &[0; 7])),
        (PROTOCOL, frame(kind::PING, 0, 1, &[0; 8])),
        (SIZE, frame(kind::GOAWAY, 0, 0, &[0; 7])),
        (PROTOCOL, frame(kind::GOAWAY, 0, 1, &[0; 8])),
        (SIZE, frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3])),
        (PROTOCOL, window_update(0, 0)),
        (PROTOCOL, window_update(99, 1)),
        (FLOW, window_update(0, 0x7fff_ffff)),
    ]);
}

#[test]
fn header_blocks_in_pieces_and_floods_that_break_the_rules_end_the_connection() {
    let begin = || frame(kind::HEADERS, 0, 1, &[0x88]);
    each_ends_the_connection(vec![
        (PROTOCOL, frame(kind::CONTINUATION, 4, 1, &[])),
        (PROTOCOL, [begin(), data(1, false, b"")].concat()),
        (PROTOCOL, [begin(), frame(0x42, 0, 0, b"")].concat()),
        (PROTOCOL, [begin(), frame(kind::CONTINUATION, 4, 3, &[])].concat()),
        (
            CALM,
            [begin(), frame(kind::CONTINUATION, 0, 1, &[]).repeat(1_000)].concat(),
        ),
        (
            CALM,
            [begin(), frame(kind::CONTINUATION, 0, 1, &[0; 16_000]).repeat(3)].concat(),
        ),
        (SIZE, frame(0x42, 0, 0, &vec![0; 16_385])),
        (CALM, frame(kind::PING, 0, 0, &[0; 8]).repeat(2_000)),
        (CALM, settings_frame(&[]).repeat(2_000)),
        // The window of stream 1 is at the top, then all windows are raised.
        (
            FLOW,
            [window_update(1, 0x7fff_ffff - 65_531), settings_frame(&[(4, 70_000)])].concat(),
        ),
    ]);
}

#[test]
fn the_first_frame_must_be_settings() {
    for bytes in [
        frame(kind::PING, 0, 0, &[0; 8]),
        frame(kind::SETTINGS, flag::ACK, 0, &[]),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
    ] {
        let mut connection: Connection<u32> = Connection::new(ours());
        assert!(connection.receive(&bytes, &mut Recorder::default()).is_err());
    }
}

#[test]
fn a_peer_that_sends_beyond_the_connections_window_is_stopped() {
    let settings = Settings {
        connection_window: 65_535,
        ..ours()
    };
    let mut connection: Connection<u32> = Connection::new(settings);
    // The window is given back at half: only a peer that does not wait for the giving can overrun it, and that cannot be seen from here.
    events(&mut connection, &settings_frame(&[]));
    connection.request(&head(), b"", &[], 0).unwrap();
    connection.output().clear();
    connection.reset(StreamId(1));
    connection.output().clear();
    events(&mut connection, &data(1, false, &[0; 16_384]));
    assert!(connection.output().is_empty());
    events(&mut connection, &data(1, false, &[0; 16_384]));
    assert_eq!(*connection.output(), window_update(0, 32_768));
}

#[test]
fn a_head_longer_than_a_frame_goes_on_in_continuation() {
    let mut connection = connection(&[]);
    let long = "v".repeat(40_000);
    let head = Head::new("https", "h", "/")
        .and_then(|h| h.header("x", &long, Indexing::Literal))
        .unwrap();
    connection.request(&head, b"", &[b"body"], 0).unwrap();
    let frames = frames(connection.output());
    let kinds: Vec<_> = frames.iter().map(|(h, _)| (h.kind, h.flags)).collect();
    assert_eq!(kinds[0], (kind::HEADERS, 0));
    assert_eq!(
        kinds[1..],
        [(kind::CONTINUATION, 0), (kind::CONTINUATION, 4), (kind::DATA, 1)][kinds.len().abs_diff(4)..]
    );
    let block: Vec<u8> = frames
        .iter()
        .filter(|(h, _)| h.kind != kind::DATA)
        .flat_map(|(_, p)| p.clone())
        .collect();
    assert_eq!(Reader::new().read(&block)[4].1, long);
}

#[test]
fn heads_that_http_cannot_carry_are_refused() {
    let head = || Head::new("https", "h", "/").unwrap();
    for (name, value) in [
        ("Upper", "x"),
        (":path", "/"),
        ("", "x"),
        ("a b", "x"),
        ("x", "a\r\nb"),
        ("x", "a\0"),
        ("x", " a"),
    ] {
        assert!(
            head().header(name, value, Indexing::Table).is_err(),
            "{name:?}: {value:?}"
        );
    }
    assert!(Head::new("https", "", "/").is_err());
    assert!(!format!("{:?}", head().header("authorization", "Bearer secret", Indexing::Table)).contains("secret"));
}

#[test]
fn a_header_list_beyond_the_peers_limit_is_not_sent() {
    // Names, values and 32 bytes for each of the six fields.
    let fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "fcm.example"),
        (":path", "/v1/projects/p/messages:send"),
        ("authorization", "Bearer abc"),
        ("content-type", "application/json"),
    ];
    let size = fields
        .iter()
        .map(|(name, value)| name.len() + value.len() + 32)
        .sum::<usize>();
    let size = u32::try_from(size).unwrap();
    for limit in [0, 1, size - 1] {
        let mut connection = connection(&[(6, limit)]);
        assert_eq!(connection.request(&head(), b"", &[b"body"], 7), Err(7), "{limit}");
        assert!(connection.output().is_empty() && connection.is_open());
        assert_eq!(connection.open_streams(), 0);
        // The limit may be raised again; no stream number was used up.
        events(&mut connection, &settings_frame(&[(6, size)]));
        assert_eq!(connection.request(&head(), b"", &[b"body"], 7), Ok(StreamId(1)));
    }
}

#[test]
fn the_tail_of_a_path_counts_in_the_header_list() {
    let head = Head::with_path_prefix("https", "a", "/3/device/").unwrap();
    let size = 7 + 4 + 7 + 5 + 10 + 1 + 5 + 10 + 4 * 32;
    let mut connection = connection(&[(6, size + 4)]);
    assert_eq!(connection.request(&head, b"12345", &[], 1), Err(1));
    assert_eq!(connection.request(&head, b"1234", &[], 2), Ok(StreamId(1)));
}

#[test]
fn a_lowered_limit_of_the_header_list_leaves_open_streams_alone() {
    let mut connection = open(1);
    assert_eq!(events(&mut connection, &settings_frame(&[(6, 10)])), [Event::Settings]);
    assert_eq!(connection.request(&head(), b"", &[], 1), Err(1));
    assert_eq!(
        events(&mut connection, &headers(1, WHOLE_AND_END, OK)),
        [answered(0, 200, b"")]
    );
}
