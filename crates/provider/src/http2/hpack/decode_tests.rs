use super::*;

const KEEP: &[&str] = &[
    "retry-after",
    "location",
    "date",
    "set-cookie",
    "cache-control",
    "custom-key",
    "content-encoding",
];

fn decoder() -> Decoder {
    Decoder::new(4_096, KEEP)
}

/// Status and kept fields of a block.
fn read(decoder: &mut Decoder, block: &[u8]) -> Result<(u16, Vec<(String, String)>), CompressionError> {
    let mut kept = Vec::new();
    let section = decoder.decode(block, &mut kept)?;
    assert_eq!(section.flaw, None);
    let mut fields = Vec::new();
    let mut rest = kept.as_slice();
    while let [name, high, low, tail @ ..] = rest {
        let (value, tail) = tail.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        fields.push((
            KEEP[usize::from(*name)].to_owned(),
            String::from_utf8(value.to_vec()).unwrap(),
        ));
        rest = tail;
    }
    Ok((section.status, fields))
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

const DATE_1: &str = "Mon, 21 Oct 2013 20:13:21 GMT";
const DATE_2: &str = "Mon, 21 Oct 2013 20:13:22 GMT";
const URL: &str = "https://www.example.com";
const COOKIE: &str = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";

/// The answers of RFC 7541, C.5 (in the clear) and C.6 (in Huffman's code), with a table of 256 bytes.
fn answers_of_appendix_c(blocks: [&str; 3]) {
    let mut decoder = decoder();
    decoder.table.resize(256);
    let expected = [
        (
            302,
            vec![("cache-control", "private"), ("date", DATE_1), ("location", URL)],
            222,
        ),
        (
            307,
            vec![("cache-control", "private"), ("date", DATE_1), ("location", URL)],
            222,
        ),
        (
            200,
            vec![
                ("cache-control", "private"),
                ("date", DATE_2),
                ("location", URL),
                ("content-encoding", "gzip"),
                ("set-cookie", COOKIE),
            ],
            215,
        ),
    ];
    for (block, (status, fields, size)) in blocks.into_iter().zip(expected) {
        let fields = fields.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        assert_eq!(read(&mut decoder, &hex(block)), Ok((status, fields)));
        assert_eq!(decoder.table.size(), size);
    }
}

#[test]
fn the_answers_of_appendix_c_5_are_read() {
    answers_of_appendix_c([
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e
         1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d
         4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572
         7369 6f6e 3d31",
    ]);
}

#[test]
fn the_answers_of_appendix_c_6_are_read() {
    answers_of_appendix_c([
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b
         97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf
         cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ]);
}

#[test]
fn a_literal_of_appendix_c_2_is_read_whatever_its_indexing() {
    let name_and_value = "0a63 7573 746f 6d2d 6b65 790d 6375 7374 6f6d 2d68 6561 6465 72";
    for (first, size) in [("40", 55), ("00", 0), ("10", 0)] {
        let mut decoder = decoder();
        let block = hex(&format!("{first}{name_and_value}"));
        let field = ("custom-key".to_owned(), "custom-header".to_owned());
        assert_eq!(read(&mut decoder, &block), Ok((0, vec![field])));
        assert_eq!(decoder.table.size(), size);
    }
}

#[test]
fn an_entry_that_is_larger_than_the_table_empties_it() {
    let mut decoder = decoder();
    read(&mut decoder, &hex("4882 6402")).unwrap();
    assert!(decoder.table.size() > 0);
    let mut block = vec![0x40, 1, b'x'];
    integer::encode(&mut block, 0, 7, 5_000);
    block.resize(block.len() + 5_000, b'v');
    read(&mut decoder, &block).unwrap();
    assert_eq!(decoder.table.size(), 0);
}

#[test]
fn a_new_entry_may_take_the_name_of_the_one_that_it_evicts() {
    let mut decoder = decoder();
    read(&mut decoder, &hex("3f11")).unwrap(); // 48 bytes
    let retry_after = |value: &str, index: u8| [&[index, 1], value.as_bytes()].concat();
    read(&mut decoder, &retry_after("1", 0x75)).unwrap(); // 44
    let (_, fields) = read(&mut decoder, &retry_after("2", 0x7e)).unwrap();
    assert_eq!(fields, [("retry-after".to_owned(), "2".to_owned())]);
    let (_, fields) = read(&mut decoder, &[0xbe]).unwrap();
    assert_eq!(fields, [("retry-after".to_owned(), "2".to_owned())]);
}

#[test]
fn what_rfc_7541_forbids_is_an_error() {
    for (block, why) in [
        (&[0x80][..], "index 0"),
        (&[0xbe], "an index beyond the table"),
        (&[0x7e, 0], "the name of an index beyond the table"),
        (&[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], "an index that overflows"),
        (&[0x88, 0x20], "a size update behind a field"),
        (&[0x3f, 0xe2, 0x1f], "a size update to 4097"),
        (&[0x00, 5, b'a'], "a name that breaks off"),
        (&[0x00, 1, b'a'], "no value"),
        (&[0x48, 0x82, 0x64], "a value that breaks off"),
        (&[0x48, 0x81, 0xff], "padding of 8 bits"),
        (&[0x48, 0x84, 0xff, 0xff, 0xff, 0xff], "EOS"),
        (&[0x40], "nothing behind the first byte"),
    ] {
        assert!(decoder().decode(block, &mut Vec::new()).is_err(), "{why}");
    }
}

#[test]
fn a_smaller_table_must_be_taken_up_once_it_is_acknowledged() {
    let mut small = Decoder::new(100, KEEP);
    read(&mut small, &[0x88]).unwrap();
    small.acknowledged(100);
    assert!(small.decode(&[0x88], &mut Vec::new()).is_err());
    let mut small = Decoder::new(100, KEEP);
    small.acknowledged(100);
    assert!(
        small.decode(&[0x3f, 70, 0x88], &mut Vec::new()).is_err(),
        "101 is too much"
    );
    let mut small = Decoder::new(100, KEEP);
    small.acknowledged(100);
    assert_eq!(read(&mut small, &[0x3f, 69, 0x88]), Ok((200, vec![])));
    assert_eq!(read(&mut small, &[0x88]), Ok((200, vec![])));
}

#[test]
fn malformed_fields_are_a_flaw_and_do_not_disturb_the_table() {
    let field = |name: &str, value: &str| {
        let mut block = vec![0x88, 0x40];
        for text in [name, value] {
            integer::encode(&mut block, 0, 7, text.len());
            block.extend_from_slice(text.as_bytes());
        }
        block
    };
    for (name, value) in [
        ("Upper", "x"),
        (":path", "/"),
        (":status", "200"),
        ("connection", "close"),
        ("x", "a\nb"),
        ("x", "a\0b"),
        ("x", " a"),
        ("a b", "x"),
        ("", "x"),
    ] {
        let mut decoder = decoder();
        let section = decoder.decode(&field(name, value), &mut Vec::new()).unwrap();
        assert!(section.flaw.is_some(), "{name:?}: {value:?}");
        assert_eq!(decoder.table.size(), name.len() + value.len() + 32);
        // Named by its index it is malformed still.
        assert!(decoder.decode(&[0x88, 0xbe], &mut Vec::new()).unwrap().flaw.is_some());
        assert_eq!(decoder.decode(&[0x88], &mut Vec::new()).unwrap().flaw, None);
    }
    for value in ["20", "2000", "2x0", "099", ""] {
        let mut block = field(":status", value);
        block.remove(0);
        assert!(
            decoder().decode(&block, &mut Vec::new()).unwrap().flaw.is_some(),
            "{value:?}"
        );
    }
}

#[test]
fn naming_one_large_entry_again_and_again_does_not_fill_the_memory() {
    let mut decoder = decoder();
    let mut block = vec![0x75];
    integer::encode(&mut block, 0, 7, 3_000);
    block.resize(block.len() + 3_000, b'9');
    block.resize(30_000, 0xbe);
    let mut kept = Vec::new();
    let section = decoder.decode(&block, &mut kept).unwrap();
    assert!(section.flaw.is_some());
    assert!(kept.len() <= HEADER_LIMIT, "{}", kept.len());
}
