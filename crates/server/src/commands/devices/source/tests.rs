use super::*;

/// Reads a whole file: the number of each line, and its token or what is wrong.
fn read(format: Format, content: &[u8]) -> Vec<(u64, Result<String, String>)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("devices");
    std::fs::write(&path, content).unwrap();
    let mut whole = Vec::new();
    let mut places = Vec::new();
    let mut source = Source::open(&path, format, None).unwrap();
    while let Some(line) = source.next().unwrap() {
        whole.push((line.number, line.command.map(|command| token(&command))));
        places.push(source.place());
    }
    // From every place on the rest is the same.
    for (at, place) in places.into_iter().enumerate() {
        let mut source = Source::open(&path, format, Some(place)).unwrap();
        let mut rest = Vec::new();
        while let Some(line) = source.next().unwrap() {
            rest.push((line.number, line.command.map(|command| token(&command))));
        }
        assert_eq!(rest, whole[at + 1..], "from {place:?}");
    }
    whole
}

fn token(command: &str) -> String {
    let command: serde_json::Value = serde_json::from_str(command).unwrap();
    command["device_register"]["token"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn good(lines: &[(u64, Result<String, String>)]) -> Vec<(u64, &str)> {
    lines
        .iter()
        .filter_map(|(number, token)| Some((*number, token.as_deref().ok()?)))
        .collect()
}

fn bad(lines: &[(u64, Result<String, String>)]) -> Vec<u64> {
    lines
        .iter()
        .filter(|(_, token)| token.is_err())
        .map(|(number, _)| *number)
        .collect()
}

#[test]
fn lines_have_the_numbers_that_an_editor_shows() {
    for end in ["\n", "\r\n"] {
        let csv = ["token,platform", "a,ios", "", "b,ios", "c", "d,ios"].join(end);
        for csv in [csv.clone(), csv + end] {
            let lines = read(Format::Csv, csv.as_bytes());
            assert_eq!(good(&lines), [(2, "a"), (4, "b"), (6, "d")], "{csv:?}");
            assert_eq!(bad(&lines), [5], "{csv:?}");
        }
        let json = [
            "{\"token\":\"a\"}",
            "",
            "# a remark",
            "{\"token\":\"b\"",
            "{\"token\":\"c\"}",
        ]
        .join(end);
        let lines = read(Format::Ndjson, json.as_bytes());
        assert_eq!(good(&lines), [(1, "a"), (5, "c")]);
        assert_eq!(bad(&lines), [4]);
    }
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    assert_eq!(
        good(&read(Format::Csv, b"\xef\xbb\xbftoken,platform\na,ios\n")),
        [(2, "a")]
    );
    assert_eq!(
        good(&read(Format::Ndjson, b"\xef\xbb\xbf{\"token\":\"a\"}\n")),
        [(1, "a")]
    );
}

#[test]
fn a_quoted_line_break_in_meta_is_part_of_the_row() {
    let lines = read(
        Format::Csv,
        b"token,platform,meta\na,ios,\"{\n\"\"k\"\": \"\"v\"\"}\"\nb,ios,\n",
    );
    assert_eq!(good(&lines), [(2, "a"), (4, "b")]);
}

#[test]
fn an_open_quotation_mark_costs_one_line() {
    for end in ["\n", "\r\n"] {
        let csv = [
            "token,platform,user",
            "a,ios,x",
            "\"b,ios,y",
            "c,ios,z",
            "d,ios,\"w",
            "e,ios,v",
        ]
        .join(end);
        let lines = read(Format::Csv, (csv + end).as_bytes());
        assert_eq!(good(&lines), [(2, "a"), (4, "c"), (6, "e")]);
        assert_eq!(bad(&lines), [3, 5]);
    }
}

#[test]
fn an_open_quotation_mark_in_a_large_file_costs_one_line_too() {
    let mut csv = b"token,platform\n\"x,ios\n".to_vec();
    let rows = 3 * usize::try_from(LONGEST_ROW).unwrap() / 1_000;
    for row in 0..rows {
        csv.extend_from_slice(format!("{row:0>990},ios\n").as_bytes());
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("devices");
    std::fs::write(&path, csv).unwrap();
    let mut source = Source::open(&path, Format::Csv, None).unwrap();
    let (mut good, mut bad) = (0, Vec::new());
    while let Some(line) = source.next().unwrap() {
        match line.command {
            Ok(_) => good += 1,
            Err(_) => bad.push(line.number),
        }
    }
    assert_eq!((good, bad), (rows, vec![2]));
}

#[test]
fn a_line_of_endless_length_is_set_aside_in_bounded_memory() {
    let mut json = vec![b'x'; 3 * usize::try_from(LONGEST).unwrap()];
    json.extend_from_slice(b"\n{\"token\":\"a\"}\n");
    let lines = read(Format::Ndjson, &json);
    assert_eq!(good(&lines), [(2, "a")]);
    assert_eq!(bad(&lines), [1]);
}
