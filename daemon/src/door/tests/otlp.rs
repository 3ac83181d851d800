//! OTLP's records as events, from both notations.

use certeus_ipc::record::Tag;

use super::*;
use crate::door::otlp::{Logs, Notation, PART_BYTES, PART_STEPS};

/// A field of a message that has a length: text, bytes, or a message.
pub fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    [&out, content].concat()
}

fn fixed64(number: u8, value: u64) -> Vec<u8> {
    [&[number << 3 | 1][..], &value.to_le_bytes()].concat()
}

fn text(value: &str) -> Vec<u8> {
    field(1, value.as_bytes())
}

fn pair(key: &str, value: &[u8]) -> Vec<u8> {
    [text(key), field(2, value)].concat()
}

/// A request with these records, of one resource and one scope.
fn request(resource: &[u8], scope: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
    let records: Vec<_> = records.iter().flat_map(|record| field(2, record)).collect();
    let scope_logs = [field(1, scope), records].concat();
    field(1, &[field(1, resource), field(2, &scope_logs)].concat())
}

/// What becomes of a body: events, and why others were refused.
fn taken(body: &[u8], notation: Notation) -> (Vec<Event>, Vec<(usize, String)>) {
    let mut rules = rules();
    rules.sources = Sources::new(["*"]);
    let mut logs = Logs::new(body, notation).expect("a request");
    let (mut found, mut refused, mut seen) = (Vec::new(), Vec::new(), 0);
    loop {
        let mut encoder = Encoder::new(&rules, 0);
        let more = logs.fill(body, &mut encoder);
        found.extend(events(&encoder));
        refused.extend(words(&encoder).iter().map(|(at, word)| (seen + at, (*word).to_owned())));
        seen += encoder.seen;
        if !more {
            assert!(!logs.fill(body, &mut Encoder::new(&rules, 0)));
            return (found, refused);
        }
    }
}

fn only(body: &[u8], notation: Notation) -> Event {
    let (mut events, refused) = taken(body, notation);
    assert_eq!((events.len(), refused.as_slice()), (1, &[][..]), "{events:?}");
    events.remove(0)
}

fn data(value: &[u8]) -> String {
    let event = only(&request(b"", b"", &[field(5, value)]), Notation::Binary);
    String::from_utf8(event.data).unwrap()
}

fn whole_record() -> Vec<u8> {
    [
        fixed64(1, 1_544_712_660_123_456_789),
        fixed64(11, 1_544_712_661_000_000_000),
        vec![2 << 3, 9],
        field(3, b"INFO"),
        field(5, &text("he said \"\u{e9}\"\n")),
        field(6, &pair("n", &[3 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1])),
        field(6, &pair("http.ok", &[2 << 3, 1])),
        vec![7 << 3, 2],
        [&[8 << 3 | 5][..], &0x101_u32.to_le_bytes()].concat(),
        field(9, &[0x5b; 16]),
        field(10, &[0xee; 8]),
        field(12, b"device.started"),
        b"\x9a\x06\x03new".to_vec(),
    ]
    .concat()
}

const WHOLE_JSON: &str = r#" {"resourceLogs":[{"resource":{"attributes":[
  {"key":"service.name","value":{"stringValue":"check\u006fut"}},
  {"value":{"stringValue":"shop"},"key":"service.namespace"}],"droppedAttributesCount":0},
  "scopeLogs":[{"logRecords":[{
    "timeUnixNano":"1544712660123456789","observedTimeUnixNano":1.544712661e18,
    "severityNumber":9,"severityText":"INFO","body":{"stringValue":"he said \"é\"\n"},
    "attributes":[{"key":"n","value":{"intValue":"-1"}},
      {"key":"http.ok","value":{"boolValue":true}}],
    "droppedAttributesCount":2,"flags":257,"traceId":"5B5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b",
    "spanId":"eeeeeeeeeeeeeeee","event\u004eame":"device.started","unknown":[{"x":null}],
    "exceptions":null}],
    "scope":{"name":"lib","version":"1.2","attributes":[{"key":"a","value":{}}]},
    "schemaUrl":"https://opentelemetry.io/schemas/1.30.0"}],
  "schemaUrl":""}]} "#;

const WHOLE_DATA: &str = concat!(
    r#"{"body":"he said \"é\"\n","attributes":{"n":-1,"http.ok":true},"severity_number":9,"#,
    r#""severity_text":"INFO","event_name":"device.started","time_unix_nano":1544712660123456789,"#,
    r#""observed_time_unix_nano":1544712661000000000,"#,
    r#""trace_id":"5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b","span_id":"eeeeeeeeeeeeeeee","flags":257,"#,
    r#""dropped_attributes_count":2,"#,
    r#""resource":{"attributes":{"service.name":"check\u006fut","service.namespace":"shop"}},"#,
    r#""scope":{"name":"lib","version":"1.2","attributes":{"a":null},"#,
    r#""schema_url":"https://opentelemetry.io/schemas/1.30.0"}}"#
);

#[test]
fn a_record_is_an_event_in_either_notation() {
    let resource = [
        field(1, &pair("service.name", &text("checkout"))),
        field(1, &pair("service.namespace", &text("shop"))),
    ];
    let scope = [field(1, b"lib"), field(2, b"1.2"), field(3, &pair("a", b""))].concat();
    let url = b"https://opentelemetry.io/schemas/1.30.0";
    let scope_logs = [field(1, &scope), field(2, &whole_record()), field(3, url)].concat();
    let body = field(1, &[field(1, &resource.concat()), field(2, &scope_logs)].concat());
    let attributes = [
        (Tag::Type, "device.started"),
        (Tag::Time, "2018-12-13T14:51:00.123456789Z"),
        (Tag::Source, "shop/checkout"),
        (
            Tag::Extensions,
            concat!(
                r#"{"traceparent":"00-5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b-eeeeeeeeeeeeeeee-01","#,
                r#""severitynumber":9,"severitytext":"INFO"}"#
            ),
        ),
    ];
    let written = only(&body, Notation::Binary);
    let expected = event(&attributes, WHOLE_DATA.replace("\\u006f", "o").as_bytes());
    assert_eq!(written, sorted(expected));
    let json = only(WHOLE_JSON.as_bytes(), Notation::Json);
    assert_eq!(json, sorted(event(&attributes, WHOLE_DATA.as_bytes())));
}

/// Attributes in the order of their tags.
fn sorted(mut event: Event) -> Event {
    event.attributes.sort_by_key(|(tag, _)| *tag as u8);
    event
}

#[test]
fn what_is_not_given_is_left_out() {
    let expected = event(&[(Tag::Type, "otel.log"), (Tag::Source, "otel")], b"{}");
    assert_eq!(only(&request(b"", b"", &[vec![]]), Notation::Binary), sorted(expected.clone()));
    let json = br#"{"resourceLogs":[{"resource":null,"scopeLogs":[{"logRecords":[{}]}]}]}"#;
    assert_eq!(only(json, Notation::Json), sorted(expected));
    for body in [&b""[..], b"\x0a\x00", b"\x0a\x02\x12\x00"] {
        assert_eq!(taken(body, Notation::Binary), (vec![], vec![]));
    }
    for body in ["{}", r#"{"resourceLogs":[]}"#, r#"{"resourceLogs":[{"scopeLogs":[{}]}]}"#] {
        assert_eq!(taken(body.as_bytes(), Notation::Json), (vec![], vec![]), "{body}");
    }
}

#[test]
fn the_source_is_the_service() {
    let name = |key, value: &[u8]| field(1, &pair(key, value));
    let (service, space) = ("service.name", "service.namespace");
    for (resource, expected) in [
        (vec![], "otel"),
        (name(service, &text("a")), "a"),
        ([name(space, &text("n")), name(service, &text("a"))].concat(), "n/a"),
        ([name(space, b""), name(service, &text("a"))].concat(), "a"),
        (name(space, &text("n")), "otel"),
        (name(service, &[3 << 3, 1]), "otel"),
        (name(service, &text("")), "otel"),
        ([name(service, &text("a")), name(service, &text("b"))].concat(), "b"),
    ] {
        let event = only(&request(&resource, b"", &[vec![]]), Notation::Binary);
        assert!(event.attributes.contains(&(Tag::Source, expected.into())), "{event:?}");
    }
}

#[test]
fn a_source_that_may_not_be_claimed_is_refused() {
    let service = |name| field(1, &pair("service.name", &text(name)));
    let one = |name| request(&service(name), b"", &[vec![], vec![]]);
    let body = [one("sensor/1"), one("other")].concat();
    let rules = rules();
    let mut encoder = Encoder::new(&rules, 0);
    assert!(!Logs::new(&body, Notation::Binary).unwrap().fill(&body, &mut encoder));
    assert_eq!(words(&encoder), [(2, "source-not-allowed"), (3, "source-not-allowed")]);
    assert_eq!(encoder.count, 2);
}

#[test]
fn a_value_is_the_json_that_it_stands_for() {
    let double = |value: f64| fixed64(4, value.to_bits());
    let values = |values: &[Vec<u8>]| -> Vec<u8> {
        values.iter().flat_map(|value| field(1, value)).collect()
    };
    for (value, expected) in [
        (vec![], "null"),
        (text("a\u{1}\\"), r#""a\u0001\\""#),
        (text(""), r#""""#),
        (vec![2 << 3, 0], "false"),
        ([&[3 << 3][..], &[0xff; 8], &[0x7f]].concat(), "9223372036854775807"),
        (double(1.0), "1.0"),
        (double(-0.0), "-0.0"),
        (double(f64::MAX), "1.7976931348623157e+308"),
        (double(f64::NAN), r#""NaN""#),
        (double(f64::INFINITY), r#""Infinity""#),
        (double(f64::NEG_INFINITY), r#""-Infinity""#),
        (field(7, b"\x00\xff"), r#""AP8=""#),
        (field(5, b""), "[]"),
        (field(5, &values(&[text("a"), vec![], field(5, b"")])), r#"["a",null,[]]"#),
        (field(6, b""), "{}"),
        (field(6, &values(&[pair("k", &text("v")), vec![]])), r#"{"k":"v","":null}"#),
        (field(6, &values(&[pair("k", b""), pair("k", &text("2"))])), r#"{"k":null,"k":"2"}"#),
        ([text("first"), vec![3 << 3, 2]].concat(), "2"),
        (vec![8 << 3, 7], "null"),
    ] {
        assert_eq!(data(&value), format!("{{\"body\":{expected}}}"));
    }
}

#[test]
fn a_bad_record_does_not_harm_the_rest() {
    let deep = (0..101).fold(vec![], |inner, _| field(5, &field(1, &inner)));
    let bad = [
        (field(5, &field(1, b"\xff")), "invalid-utf8"),
        (field(5, &deep), "too-deep"),
        (vec![0x0c], "invalid-protobuf"),
        (field(5, &[2 << 3]), "invalid-protobuf"),
        (field(5, &field(1, &vec![b'x'; EVENT_BYTES_MAX])), "too-large"),
        (vec![1 << 3 | 1, 1, 2], "invalid-protobuf"),
        (vec![2 << 3, 0x80, 0x80, 0x80, 0x80, 0x08], "invalid-protobuf"),
    ];
    let records: Vec<_> = bad.iter().map(|(record, _)| record.clone()).collect();
    let records = [&records[..], &[field(5, &text("good"))]].concat();
    let (events, refused) = taken(&request(b"", b"", &records), Notation::Binary);
    assert_eq!(events.len(), 1);
    let expected: Vec<_> = bad.iter().map(|(_, word)| (*word).to_owned()).enumerate().collect();
    assert_eq!(refused, expected);

    let json = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"intValue":1.5}},1,
        {"body":{"stringValue":"\ud800"}},{"body":{"bytesValue":"%"}},{"attributes":{}},
        {"traceId":"zz000000000000000000000000000000"},{"body":[]},{"flags":"x"},
        {"body":{"doubleValue":inf}},{"severityNumber":2147483648},
        {"body":{"stringValue":"good"}}]}]}]}"#;
    let (events, refused) = taken(json.as_bytes(), Notation::Json);
    assert_eq!(events.len(), 1);
    let words: Vec<_> = refused.iter().map(|(_, word)| word.as_str()).collect();
    let (json, base64) = ("invalid-json", "invalid-base64");
    assert_eq!(words, [json, json, "lone-surrogate", base64, json, json, json, json, json, json]);
}

#[test]
fn what_is_too_large_is_not_read_to_its_end() {
    let long = text(&"\u{1}".repeat(EVENT_BYTES_MAX / 2));
    let bad = [field(1, &long), field(1, &field(1, b"\xff"))].concat();
    let body = field(5, &field(5, &bad));
    let resource = field(1, &[field(1, b"a"), field(2, &field(5, &bad))].concat());
    for body in [request(b"", b"", &[body]), request(&resource, b"", &[vec![]])] {
        let expected = (vec![], vec![(0, "too-large".to_owned())]);
        assert_eq!(taken(&body, Notation::Binary), expected);
    }
}

#[test]
fn bytes_are_base64_of_either_alphabet_in_json() {
    for text in ["+/8=", "+/8", "-_8=", "-_8"] {
        let record = format!(r#"{{"body":{{"bytesValue":"{text}"}}}}"#);
        let body = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{record}]}}]}}]}}"#);
        assert_eq!(only(body.as_bytes(), Notation::Json).data, br#"{"body":"+/8="}"#);
    }
}

#[test]
fn what_no_attribute_can_hold_is_in_the_data_alone() {
    let long = "n".repeat(256);
    for name in ["two\nlines", &long] {
        let record = [field(12, name.as_bytes()), field(3, name.as_bytes())].concat();
        let event = only(&request(b"", b"", &[record]), Notation::Binary);
        let expected = [(Tag::Type, "otel.log".to_owned()), (Tag::Source, "otel".to_owned())];
        assert_eq!(event.attributes, expected);
        let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
        assert_eq!((&data["event_name"], &data["severity_text"]), (&name.into(), &name.into()));
    }
}

#[test]
fn an_id_of_zeros_or_another_length_is_none() {
    for (trace, span) in
        [(vec![0; 16], vec![1; 8]), (vec![1; 15], vec![1; 8]), (vec![], vec![0; 8])]
    {
        let record = [field(9, &trace), field(10, &span)].concat();
        let event = only(&request(b"", b"", &[record]), Notation::Binary);
        assert!(!event.attributes.iter().any(|(tag, _)| *tag == Tag::Extensions));
        assert!(!String::from_utf8(event.data).unwrap().contains("trace_id"));
    }
}

#[test]
fn a_body_that_is_no_request_is_told_as_a_whole() {
    for body in [&b"\x0a"[..], b"\x0a\x05ab", b"\x0b", b"\x08\x80", b"\x00\x00", b"\x0a\x01\xff"] {
        assert!(Logs::new(body, Notation::Binary).is_err(), "{body:?}");
    }
    for body in [
        "",
        "[]",
        "{",
        "{}}",
        "{]",
        r#"{"a"}"#,
        r#"{"resourceLogs":{}}"#,
        r#"{"resourceLogs":[1]}"#,
        r#"{"resourceLogs":[{},]}"#,
        r#"{"resourceLogs":[{} {}]}"#,
        r#"{"resourceLogs":[}"#,
        r#"{"a":1,}"#,
        r#"{,}"#,
        r#"{1:2}"#,
        "{\"a\":\"",
        r#"{"a":}"#,
        "{} x",
    ] {
        assert!(Logs::new(body.as_bytes(), Notation::Json).is_err(), "{body}");
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(2000), "]".repeat(2000));
    assert!(Logs::new(deep.as_bytes(), Notation::Json).is_err());
}

#[test]
fn a_large_request_comes_in_parts() {
    let resource = field(1, &pair("k", &text(&"x".repeat(1000))));
    let body = request(&resource, b"", &vec![vec![]; 3 * PART_STEPS]);
    let rules = Rules { sources: Sources::new(["*"]), ..rules() };
    let mut logs = Logs::new(&body, Notation::Binary).unwrap();
    let (mut seen, mut more) = (0, true);
    while more {
        let mut encoder = Encoder::new(&rules, 0);
        more = logs.fill(&body, &mut encoder);
        assert!(encoder.payloads.len() < 2 * PART_BYTES);
        assert_eq!(events(&encoder).len(), encoder.seen);
        seen += encoder.seen;
    }
    assert_eq!(seen, 3 * PART_STEPS);
}
