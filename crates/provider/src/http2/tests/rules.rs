//! RFC 9113's rules, one by one.

use super::super::answer::{Answer, Events};
use super::super::frame::{flag, kind};
use super::super::*;
use super::peer::*;

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
fn where_many_streams_are_open_those_that_are_answered_next_are_named_ahead() {
    #[derive(Default)]
    struct Order(std::cell::RefCell<Vec<(&'static str, u32)>>);
    impl Events<u32> for Order {
        fn ahead(&self, owner: &u32) {
            self.0.borrow_mut().push(("ahead", *owner));
        }
        fn answer(&mut self, owner: u32, _: Answer<'_>) {
            self.0.get_mut().push(("answer", owner));
        }
        fn failed(&mut self, owner: u32, _: StreamFailure) {
            self.0.get_mut().push(("failed", owner));
        }
    }
    let answer = |owner: u32| headers(2 * owner + 1, WHOLE_AND_END, &[(":status", "200")]);
    // The last frame is cut off, the one before it is of a stream that is gone.
    let bytes = [answer(7), rst(1, 8), answer(5), answer(7), answer(9)].concat();
    for (streams, named) in [(20, false), (300, true)] {
        let (mut connection, mut order) = (open(streams), Order::default());
        connection.receive(&bytes[..bytes.len() - 1], &mut order).unwrap();
        let expected = [
            ("ahead", 7),
            ("ahead", 5),
            ("ahead", 7),
            ("ahead", 9),
            ("answer", 7),
            ("failed", 0),
            ("answer", 5),
        ];
        assert_eq!(order.0.take(), expected[if named { 0 } else { 4 }..]);
    }
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
fn the_connections_window_is_given_back_at_half() {
    let settings = Settings {
        connection_window: 65_535,
        ..ours()
    };
    let mut connection: Connection<u32> = Connection::new(settings);
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
