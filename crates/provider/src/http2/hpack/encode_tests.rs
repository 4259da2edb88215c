use proptest::prelude::*;

use super::super::super::tests::peer::Reader;
use super::*;

fn bytes(encoder: &mut Encoder, head: &Head, tail: &[u8]) -> Vec<u8> {
    let block = encoder.block(head);
    let mut out = Vec::new();
    block.put(tail, &mut out);
    assert_eq!(out.len(), block.len(tail));
    out
}

fn head(bearer: &str) -> Head {
    Head::new("https", "fcm.example", "/v1/messages:send")
        .and_then(|h| h.header("authorization", bearer, Indexing::Table))
        .and_then(|h| h.header("x-push", "17", Indexing::Literal))
        .and_then(|h| h.header("x-secret", "pin", Indexing::Never))
        .unwrap()
}

fn expected(bearer: &str) -> Vec<(String, String)> {
    [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "fcm.example"),
        (":path", "/v1/messages:send"),
        ("authorization", bearer),
        ("x-push", "17"),
        ("x-secret", "pin"),
    ]
    .map(|(n, v)| (n.to_owned(), v.to_owned()))
    .to_vec()
}

fn plain(fields: Vec<(String, String, u8)>) -> Vec<(String, String)> {
    fields.into_iter().map(|(n, v, _)| (n, v)).collect()
}

/// Fields, and their block.
type Coded = (&'static [(&'static str, &'static str)], &'static [u8]);

/// RFC 7541, C.4: a request of the appendix, through our field encoder.
#[test]
fn the_requests_of_appendix_c_4_are_encoded_as_the_rfc_has_them() {
    let field = |name: &str, value: &str| Field {
        name: name.as_bytes().into(),
        value: value.as_bytes().into(),
        indexing: Indexing::Table,
    };
    let requests: [Coded; 3] = [
        (
            &[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "www.example.com"),
            ],
            &[
                0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
            ],
        ),
        (
            &[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "www.example.com"),
                ("cache-control", "no-cache"),
            ],
            &[0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf],
        ),
        (
            &[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/index.html"),
                (":authority", "www.example.com"),
                ("custom-key", "custom-value"),
            ],
            &[
                0x82, 0x87, 0x85, 0xbf, 0x40, 0x88, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f, 0x89, 0x25, 0xa8,
                0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf,
            ],
        ),
    ];
    let mut encoder = Encoder::new();
    for ((fields, coded), size) in requests.into_iter().zip([57, 110, 164]) {
        let mut out = Vec::new();
        for (name, value) in fields {
            encoder.put(&field(name, value), &(0..=4096), &mut out);
        }
        assert_eq!(out, coded);
        assert_eq!(encoder.table.size(), size);
    }
}

#[test]
fn a_head_is_a_few_bytes_from_its_second_request_on() {
    let (mut encoder, mut reader) = (Encoder::new(), Reader::new());
    let bearer = format!("Bearer {}", "t".repeat(1_000));
    let head = head(&bearer);
    assert!(bytes(&mut encoder, &head, b"").len() > 500);
    let (mut encoder, first) = (Encoder::new(), encoder.generation);
    assert!(first > 0);
    let mut lengths = Vec::new();
    for _ in 0..4 {
        let block = bytes(&mut encoder, &head, b"");
        lengths.push(block.len());
        assert_eq!(plain(reader.read(&block)), expected(&bearer));
    }
    // The two headers that are not indexed remain.
    assert_eq!(lengths[1..], [lengths[1]; 3]);
    assert!(lengths[1] < 30, "{lengths:?}");
}

#[test]
fn a_new_bearer_goes_into_the_table_and_the_old_one_out_of_the_way() {
    let (mut encoder, mut reader) = (Encoder::new(), Reader::new());
    for n in 0..20 {
        let bearer = format!("Bearer {n} {}", "t".repeat(1_500));
        let head = head(&bearer);
        for round in 0..3 {
            let block = bytes(&mut encoder, &head, b"");
            assert_eq!(plain(reader.read(&block)), expected(&bearer));
            assert!(round == 0 || block.len() < 200, "{round} {}", block.len());
        }
        assert_eq!(encoder.table.size(), reader.size());
    }
}

#[test]
fn a_bearer_that_does_not_fit_is_written_out_and_marked_never_to_be_indexed() {
    let (mut encoder, mut reader) = (Encoder::new(), Reader::new());
    encoder.set_peer_limit(500, 500);
    let bearer = format!("Bearer {}", "t".repeat(1_000));
    let head = head(&bearer);
    for _ in 0..3 {
        let fields = reader.read(&bytes(&mut encoder, &head, b""));
        assert_eq!(plain(fields.clone()), expected(&bearer));
        assert_eq!(fields[4].2 & 0xf0, 0x10);
        assert_eq!(fields[6].2 & 0xf0, 0x10);
    }
    // What does fit is in there all the same.
    assert_eq!(encoder.table.size(), reader.size());
    assert!(reader.size() > 0);
}

#[test]
fn a_table_of_nothing_is_announced_once_and_left_empty() {
    let (mut encoder, mut reader) = (Encoder::new(), Reader::new());
    let head = head("Bearer abc");
    reader.read(&bytes(&mut encoder, &head, b""));
    encoder.set_peer_limit(0, 0);
    reader.limit = 0;
    let first = bytes(&mut encoder, &head, b"");
    assert_eq!(first[0], 0x20);
    assert_eq!(plain(reader.read(&first)), expected("Bearer abc"));
    let second = bytes(&mut encoder, &head, b"");
    assert_eq!(first[1..], second);
    assert_eq!(plain(reader.read(&second)), expected("Bearer abc"));
    assert_eq!((reader.max(), reader.size()), (0, 0));
}

#[test]
fn a_table_that_shrinks_and_grows_between_two_blocks_is_announced_with_both_sizes() {
    let mut encoder = Encoder::new();
    encoder.set_peer_limit(100, 100);
    encoder.set_peer_limit(100, 2_000);
    let block = bytes(&mut encoder, &head("Bearer abc"), b"");
    let mut wanted = Vec::new();
    integer::encode(&mut wanted, 0x20, 5, 100);
    integer::encode(&mut wanted, 0x20, 5, 2_000);
    assert_eq!(block[..wanted.len()], wanted);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Heads, table sizes and path tails in any order: the peer reads what was meant, and both tables stay equal.
    #[test]
    fn whatever_the_order_the_peer_reads_what_was_meant(
        steps in proptest::collection::vec((0_usize..40, prop_oneof![Just(0_u32), 30..300_u32, 300..70_000_u32], 0..4_u8, 0..300_usize), 1..60)
    ) {
        let heads: Vec<(String, Head)> = (0..40)
            .map(|n| (format!("Bearer {}", n.to_string().repeat(1 + n * 20)), n))
            .map(|(bearer, n)| {
                let head = Head::with_path_prefix("https", "push.example", "/3/device/");
                let head = head.and_then(|h| h.header("authorization", &bearer, Indexing::Table));
                let head = head.and_then(|h| h.header("apns-topic", &format!("topic-{}", n % 3), Indexing::Table)).unwrap();
                (bearer, head)
            })
            .collect();
        let (mut encoder, mut reader) = (Encoder::new(), Reader::new());
        for (which, size, action, tail) in steps {
            if action == 0 {
                encoder.set_peer_limit(size.min(u32::try_from(reader.limit).unwrap()), size);
                reader.limit = size as usize;
            }
            let (bearer, head) = &heads[which];
            let tail = "x".repeat(tail);
            let fields = plain(reader.read(&bytes(&mut encoder, head, tail.as_bytes())));
            prop_assert_eq!(&fields[3].1, &format!("/3/device/{tail}"));
            prop_assert_eq!(&fields[4].1, bearer);
            prop_assert_eq!(&fields[5].1, &format!("topic-{}", which % 3));
            prop_assert_eq!(encoder.table.size(), reader.size());
            prop_assert!(reader.max() <= reader.limit && encoder.table.max_size() == reader.max());
        }
    }
}
