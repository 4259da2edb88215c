//! Peers that break the rules of RFC 9113: some of it fails a stream, the rest ends the connection, with the code that the RFC names.

use super::super::frame::{flag, kind};
use super::super::*;
use super::peer::*;

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
