use certeus_ipc::record::KIND_EVENT;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::builder::{Event, SegmentBuilder};
use super::super::{LogReader, reason};
use super::*;

const AT_NS: u64 = 1_700_000_000_123_999_999;

struct Dir(std::path::PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("certeus-render-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    fn builder(&self) -> SegmentBuilder {
        let mut builder = SegmentBuilder::new(&self.0, [3; 16], [7; 32]);
        builder.segment(None, false).expect("a segment");
        builder.producer(1, 0, "acme", "shop");
        builder.producer(2, 0, "other", "till/2");
        builder
    }

    fn read(&self) -> Batch {
        let mut reader = LogReader::new(&self.0);
        reader.next_batch(u64::MAX - 1, 100_000, 1 << 30).expect("reads").expect("a batch")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn event<'a>(producer_no: u64, ticket: u64, event_type: &'a str, data: &'a [u8]) -> Event<'a> {
    let mut attributes = [None; 8];
    attributes[0] = Some(event_type.as_bytes());
    Event { producer_no, ticket, attributes, data, kind: KIND_EVENT, ..Event::default() }
}

/// One batch of a few events, of which number 4 is a kind that is skipped.
fn some(name: &str) -> (Dir, Batch) {
    let dir = Dir::new(name);
    let mut builder = dir.builder();
    for (at, event_type) in ["pay.in", "pay.out", "tick", "x", "pay.in"].into_iter().enumerate() {
        let ticket = at as u64 + 1;
        let producer_no = 1 + u64::from(event_type == "tick");
        let kind = if event_type == "x" { 9 } else { KIND_EVENT };
        builder.record(&Event { kind, ..event(producer_no, ticket, event_type, b"{}") });
    }
    builder.commit(AT_NS).expect("commits");
    let batch = dir.read();
    (dir, batch)
}

fn lines(told: &Rendered) -> Vec<Value> {
    let text = std::str::from_utf8(&told.bytes).expect("UTF-8");
    text.split_terminator('\n').map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn seqs(told: &Rendered) -> Vec<u64> {
    lines(told).iter().filter_map(|line| line["seq"].as_u64()).collect()
}

#[test]
fn a_line_is_what_it_always_was() {
    let dir = Dir::new("line");
    let mut builder = dir.builder();
    let data = b"{\"a\": 1e2,\r\n \"a\": 2}";
    let mut one = event(1, 9, "t\u{2028}\"\\\u{1}\u{7f}", data);
    one.attributes[7] =
        Some(br#" { "trace" : "\u00e9\n","n":-0 , "seq":1,"b":true,"tenant":"x"} "#);
    builder.record(&one);
    let mut two = Event { opaque: true, escalated: true, ..event(2, 1, "t", b"\x00\xff") };
    two.attributes[1] = Some(b"i");
    builder.record(&two);
    builder.commit(AT_NS).expect("commits");
    let scope = Scope { versioned: true, ..Scope::whole(Form::Lines) };
    let told = render(&dir.read(), &Filter::default(), &scope);
    let expected = [
        "{\"schema_version\": 1, \"seq\": 1, \"recorded_at\": \"2023-11-14T22:13:20.123Z\", \
         \"specversion\": \"1.0\", \"source\": \"shop\", \
         \"type\": \"t\u{2028}\\\"\\\\\\u0001\u{7f}\", \"tenant\": \"acme\", \
         \"verdict\": \"accepted\", \"id\": \"1:9\", \"trace\": \"é\\n\", \"n\": -0, \"b\": true, \
         \"data\": {\"a\": 1e2,   \"a\": 2}}\n",
        "{\"schema_version\": 1, \"seq\": 2, \"recorded_at\": \"2023-11-14T22:13:20.123Z\", \
         \"specversion\": \"1.0\", \"source\": \"till/2\", \"id\": \"i\", \"type\": \"t\", \
         \"tenant\": \"other\", \"verdict\": \"escalated\", \"data_base64\": \"AP8=\"}\n",
    ];
    assert_eq!(String::from_utf8(told.bytes).expect("UTF-8"), expected.concat());
}

#[test]
fn filters_take_what_they_name() {
    let (_dir, batch) = some("filters");
    let all = Scope { gaps: false, ..Scope::whole(Form::Lines) };
    let of = |tenant: Option<&str>, event_type: &str, source: &str| Filter {
        tenant: tenant.map(str::to_string),
        event_type: Match::of_pattern(event_type),
        source: Match::of_pattern(source),
    };
    for (filter, expected) in [
        (of(None, "*", "*"), vec![1, 2, 3, 5]),
        (of(None, "pay.in", "*"), vec![1, 5]),
        (of(None, "pay.*", "*"), vec![1, 2, 5]),
        (of(None, "pay", "*"), vec![]),
        (of(None, "*", "till/*"), vec![3]),
        (of(None, "*", "shop"), vec![1, 2, 5]),
        (of(Some("other"), "*", "*"), vec![3]),
        (of(Some("oth"), "*", "*"), vec![]),
        (of(Some("acme"), "tick", "*"), vec![]),
    ] {
        let told = render(&batch, &filter, &all);
        assert_eq!(seqs(&told), expected, "{filter:?}");
        assert_eq!((told.last_seq, told.more, told.events), (5, false, expected.len()));
    }
}

#[test]
fn an_event_of_no_known_producer_belongs_to_no_tenant() {
    let dir = Dir::new("nobody");
    let mut builder = dir.builder();
    builder.record(&event(9, 1, "t", b"1"));
    builder.commit(AT_NS).expect("commits");
    let batch = dir.read();
    let scope = Scope::whole(Form::Lines);
    assert_eq!(render(&batch, &Filter::default(), &scope).events, 1);
    let filter = Filter { tenant: Some(String::new()), ..Filter::default() };
    assert_eq!(render(&batch, &filter, &scope).events, 0);
}

#[test]
fn parts_of_a_batch_join_to_the_whole_whatever_bounds_them() {
    let (_dir, batch) = some("parts");
    for form in [Form::Lines, Form::Sse] {
        let whole = render(&batch, &Filter::default(), &Scope::whole(form));
        for (events_max, bytes_max) in [(1, usize::MAX), (2, usize::MAX), (9, 1), (9, 400)] {
            let mut scope = Scope { events_max, bytes_max, ..Scope::whole(form) };
            let mut joined = Vec::new();
            loop {
                let told = render(&batch, &Filter::default(), &scope);
                assert!(told.events <= events_max);
                assert!(told.bytes.len() <= bytes_max.max(250));
                assert!(told.last_seq > scope.after_seq, "goes on");
                joined.extend(told.bytes);
                scope.after_seq = told.last_seq;
                if !told.more {
                    break;
                }
            }
            let (joined, whole) =
                (String::from_utf8(joined), String::from_utf8(whole.bytes.clone()));
            assert_eq!(joined, whole, "{events_max} {bytes_max}");
        }
    }
}

#[test]
fn gaps_stand_where_they_are_in_every_form_and_pass_every_filter() {
    let (_dir, batch) = some("gaps");
    let nothing = Filter { event_type: Match::of_pattern("none"), ..Filter::default() };
    let lines = render(&batch, &nothing, &Scope::whole(Form::Lines));
    let gap = "{\"first_seq\": 4, \"last_seq\": 4, \"reason\": \"unknown-kind\"}";
    assert_eq!(String::from_utf8(lines.bytes).expect("UTF-8"), format!("{{\"gap\": {gap}}}\n"));
    let sse = render(&batch, &nothing, &Scope::whole(Form::Sse));
    let expected = format!("event: gap\nid: 4\ndata: {gap}\n\nid: 5\n\n");
    assert_eq!(String::from_utf8(sse.bytes).expect("UTF-8"), expected);
    let quiet = Scope { gaps: false, ..Scope::whole(Form::Sse) };
    let told = render(&batch, &nothing, &quiet);
    assert_eq!(told.bytes, b"id: 5\n\n");
    assert_eq!(told.gaps, [Gap { first_seq: 4, last_seq: 4, reason: reason::UNKNOWN_KIND }]);
}

#[test]
fn a_gap_is_told_within_the_numbers_that_were_asked_for() {
    let gap = Gap { first_seq: 3, last_seq: 9, reason: reason::TRIMMED };
    let batch = Batch::of_gap(gap, &super::super::Cursor::start(), 1);
    for (after_seq, until_seq, expected) in [
        (0, u64::MAX, Some((3, 9))),
        (4, 7, Some((5, 7))),
        (2, 3, Some((3, 3))),
        (9, u64::MAX, None),
        (0, 2, None),
    ] {
        let scope = Scope { after_seq, until_seq, ..Scope::whole(Form::Lines) };
        let told = render(&batch, &Filter::default(), &scope);
        let ranges: Vec<_> = told.gaps.iter().map(|gap| (gap.first_seq, gap.last_seq)).collect();
        assert_eq!(ranges, expected.into_iter().collect::<Vec<_>>());
        assert_eq!(told.last_seq, until_seq.min(9).max(after_seq));
        assert!(!told.more);
    }
}

#[test]
fn a_position_beyond_the_batch_never_moves_back() {
    let (_dir, batch) = some("beyond");
    let scope = Scope { after_seq: 40, ..Scope::whole(Form::Sse) };
    let told = render(&batch, &Filter::default(), &scope);
    assert_eq!((told.bytes.len(), told.last_seq, told.more), (0, 40, false));
}

/// Fields of each message that the client dispatches, and its last id at the end: the parser of
/// the HTML standard, 9.2.6, lines ended by any of the three line ends.
fn sse_messages(text: &str) -> (Vec<(String, String)>, String) {
    let (mut messages, mut last_id) = (Vec::new(), String::new());
    let (mut name, mut data) = (String::new(), None::<String>);
    for line in text.replace("\r\n", "\n").replace('\r', "\n").split('\n') {
        if line.is_empty() {
            if let Some(data) = data.take() {
                messages.push((std::mem::take(&mut name), data));
            }
            name.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => name = value.into(),
            "id" => last_id = value.into(),
            "data" => data = Some(data.map_or(value.into(), |data| format!("{data}\n{value}"))),
            other => panic!("no field of ours: {other}"),
        }
    }
    (messages, last_id)
}

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n\n".to_string()),
        Just("\r".to_string()),
        Just("\ndata: x\n\nid: 99\n".to_string()),
        Just("\u{2028}\u{2029}\u{85}\u{feff}".to_string()),
        Just("\"},{\\".to_string()),
        (0u32..0x20).prop_map(|code| char::from_u32(code).expect("a control").to_string()),
        any::<String>(),
    ];
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

/// JSON with white space of every kind between its tokens.
fn spaced(value: &str, space: &str) -> String {
    let text = serde_json::to_string(value).expect("a string");
    format!("{space}[{space}{text}{space},{space}1e0{space}]{space}")
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400, failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn what_is_rendered_parses_back_to_the_event_in_both_forms(
        texts in proptest::array::uniform8(hostile()),
        given in proptest::array::uniform8(any::<bool>()),
        space in "[ \t\r\n]{0,3}",
        bytes in proptest::collection::vec(any::<u8>(), 0..9),
        opaque in any::<bool>(),
    ) {
        let dir = Dir::new("property");
        let mut builder = dir.builder();
        let text = spaced(&texts[7], &space);
        let data = if opaque { &bytes[..] } else { text.as_bytes() };
        let extension = json!({"ext": texts[6], "seq": 7, "n": -5}).to_string();
        let mut one = Event { opaque, ..event(1, 9, &texts[0], data) };
        let names = ["type", "id", "subject", "time", "source", "dataschema", "datacontenttype"];
        for at in 1..7 {
            one.attributes[at] = given[at].then_some(texts[at].as_bytes());
        }
        one.attributes[7] = given[7].then_some(extension.as_bytes());
        builder.record(&one);
        builder.commit(AT_NS).expect("commits");
        let batch = dir.read();
        let told = render(&batch, &Filter::default(), &Scope::whole(Form::Lines));
        prop_assert_eq!(told.bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
        let sse = render(&batch, &Filter::default(), &Scope::whole(Form::Sse));
        let (messages, last_id) = sse_messages(std::str::from_utf8(&sse.bytes).expect("UTF-8"));
        prop_assert_eq!(last_id, "1");
        prop_assert_eq!(messages.len(), 1);
        prop_assert_eq!(&messages[0].0, "");
        let line = &told.bytes[..told.bytes.len() - 1];
        let event = render(&batch, &Filter::default(), &Scope::whole(Form::Events));
        prop_assert_eq!(messages[0].1.as_bytes(), &event.bytes[..event.bytes.len() - 1]);
        let shown: Value = serde_json::from_slice(line).expect("JSON");
        for (at, name) in names.into_iter().enumerate() {
            let expected = match (name, at == 0 || given[at]) {
                (_, true) => json!(texts[at]),
                ("id", _) => json!("1:9"),
                ("source", _) => json!("shop"),
                _ => Value::Null,
            };
            prop_assert_eq!(&shown[name], &expected, "{}", name);
        }
        prop_assert_eq!(&shown["seq"], 1);
        let extended = if given[7] { json!([texts[6], -5]) } else { json!([null, null]) };
        prop_assert_eq!(json!([shown["ext"], shown["n"]]), extended);
        if opaque {
            prop_assert_eq!(&shown["data_base64"], &json!(base64(&bytes)));
        } else {
            prop_assert_eq!(&shown["data"], &json!([texts[7], 1.0]));
            let end = format!("\"data\": {}}}", text.replace(['\n', '\r'], " "));
            prop_assert!(line.ends_with(end.as_bytes()));
        }
    }
}

/// Bit by bit, unlike the code.
fn base64(bytes: &[u8]) -> String {
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let digits = bits.as_bytes().chunks(6).map(|chunk| {
        let text = format!("{:0<6}", std::str::from_utf8(chunk).expect("digits"));
        let code = u8::from_str_radix(&text, 2).expect("binary");
        char::from(match code {
            0..=25 => b'A' + code,
            26..=51 => b'a' + code - 26,
            52..=61 => b'0' + code - 52,
            62 => b'+',
            _ => b'/',
        })
    });
    let text: String = digits.collect();
    format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4))
}
