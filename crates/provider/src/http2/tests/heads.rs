//! Heads of requests: what is sent of them, and what is refused (RFC 9113, 6.10, 8.2 and 6.5.2).

use super::super::frame::kind;
use super::super::*;
use super::peer::*;

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
