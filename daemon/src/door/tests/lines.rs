//! Lines, and those that are the data of events.

use certeus_ipc::record::Tag;

use super::*;
use crate::door::lines::{Common, Lines, data};

const PLAIN: Common<'static> =
    Common { r#type: "t", source: None, id_field: None, subject_field: None };

fn encode<'r>(rules: &'r Rules, block: &[u8], common: Common<'_>, last: bool) -> Encoder<'r> {
    let mut encoder = Encoder::new(rules, block.len());
    data(&mut encoder, block, common, last);
    encoder
}

#[test]
fn lines_are_whole_and_not_blank() {
    let block = b"one\n\ntwo\r\n \t\r\n\r\nthree three three\r\r\n\x0c\nfour";
    let mut lines = Lines::new(block, false);
    let found: Vec<_> = (&mut lines).collect();
    assert_eq!(found, [&b"one"[..], b"two", b"three three three\r"]);
    assert_eq!(&block[lines.consumed()..], b"four");
    let mut lines = Lines::new(b"four\r", true);
    assert_eq!((lines.next(), lines.next(), lines.consumed()), (Some(&b"four"[..]), None, 5));
    let mut blank = Lines::new(b" \n\n  ", true);
    assert_eq!((blank.next(), blank.consumed()), (None, 5));
}

#[test]
fn a_line_ends_at_its_first_lf_wherever_that_is() {
    for before in 0..40 {
        // A byte that differs from LF in its lowest bit is what the search by words may mistake.
        let block = [vec![0x0b; before], b"x\n\x0by\n".to_vec()].concat();
        let found: Vec<_> = Lines::new(&block, false).collect();
        assert_eq!(found, [&block[..=before], &b"\x0by"[..]], "{before}");
    }
}

#[test]
fn a_lines_own_bytes_are_the_data() {
    let rules = rules();
    let block = b" {\"b\" : 1.50,\t\"a\":\"\\u0041\"} \r\n{not looked at}\n{\"n\":2}";
    let encoder = encode(&rules, block, PLAIN, false);
    let kept = [&b" {\"b\" : 1.50,\t\"a\":\"\\u0041\"} "[..], b"{not looked at}"];
    let expected = kept.map(|data| event(&[(Tag::Type, "t")], data));
    assert_eq!(events(&encoder), expected);
    assert_eq!(encoder.consumed, block.len() - 7);
}

#[test]
fn a_line_that_is_no_object_is_refused() {
    let rules = rules();
    let encoder = encode(&rules, b"[]\n1\n\"{}\"\nnull\n{}\n\xef\xbb\xbf{}\n", PLAIN, false);
    let refused = [0, 1, 2, 3, 5].map(|index| (index, "not-an-object"));
    assert_eq!(words(&encoder), refused);
    assert_eq!(events(&encoder).len(), 1);
    // A form feed is white space to people and not to JSON.
    for id_field in [None, Some("id")] {
        let encoder = encode(&rules, b"\x0c{\"id\":1}\n", Common { id_field, ..PLAIN }, false);
        assert_eq!(words(&encoder), [(0, "not-an-object")]);
    }
}

#[test]
fn a_line_that_is_too_large_or_of_another_source_is_refused() {
    let rules = rules();
    let large = format!("{{\"a\":\"{}\"}}\n{{}}\n", "x".repeat(EVENT_BYTES_MAX));
    assert_eq!(words(&encode(&rules, large.as_bytes(), PLAIN, false)), [(0, "too-large")]);
    let other = Common { source: Some("other"), ..PLAIN };
    assert_eq!(words(&encode(&rules, b"{}\n", other, false)), [(0, "source-not-allowed")]);
    let sensor = Common { source: Some("sensor/1"), ..PLAIN };
    let expected = event(&[(Tag::Type, "t"), (Tag::Source, "sensor/1")], b"{}");
    assert_eq!(events(&encode(&rules, b"{}\n", sensor, false)), [expected]);
}

#[test]
fn fields_become_id_and_subject() {
    let rules = rules();
    let common = Common { id_field: Some("id"), subject_field: Some("gr\u{fc}n"), ..PLAIN };
    for (line, id, subject) in [
        (r#"{"id":"a","grün":"b"}"#, "a", "b"),
        (r#"{"id":12,"gr\u00fcn":-3}"#, "12", "-3"),
        (r#"{"id":-0,"grün":"\ud83d\ude00\n\"\\\/"}"#, "0", "\u{1f600}\n\"\\/"),
        (r#"{"\u0069d":"x","grün":"b", "nested":{"id":"no"}}"#, "x", "b"),
        (r#"{"id":"first","id":"last","grün":"b"}"#, "last", "b"),
        (
            r#" { "grün" : "\b\f\n\r\t" , "id" : 123456789012345678901234567890 } "#,
            "123456789012345678901234567890",
            "\u{8}\u{c}\n\r\t",
        ),
    ] {
        let encoder = encode(&rules, line.as_bytes(), common, true);
        let attributes = [(Tag::Type, "t"), (Tag::Id, id), (Tag::Subject, subject)];
        assert_eq!(events(&encoder), [event(&attributes, line.as_bytes())], "{line}");
    }
}

#[test]
fn a_line_without_its_field_is_refused() {
    let rules = rules();
    let common = Common { id_field: Some("id"), ..PLAIN };
    for (line, word) in [
        ("{}", "no-field-id"),
        (r#"{"id":null}"#, "no-field-id"),
        (r#"{"x":{"id":1}}"#, "no-field-id"),
        (r#"{"id":true}"#, "field-id-is-no-text"),
        (r#"{"id":1.5}"#, "field-id-is-no-text"),
        (r#"{"id":1e2}"#, "field-id-is-no-text"),
        (r#"{"id":{}}"#, "field-id-is-no-text"),
        (r#"{"id":[1]}"#, "field-id-is-no-text"),
        (r#"{"id":""}"#, "invalid-attribute"),
        (r#"{"id":"a""#, "invalid-json"),
        (r#"{"id":"a"} x"#, "invalid-json"),
        (r#"{"id":"a",}"#, "invalid-json"),
        (r#"{"id" "a"}"#, "invalid-json"),
        (r#"{,"id":"a"}"#, "invalid-json"),
        (r#"{"x":1 "id":"a"}"#, "invalid-json"),
        (r#"{"id":"\ud800"}"#, "lone-surrogate"),
        (r#"{"id":"\u0000"}"#, "nul-character"),
    ] {
        let encoder = encode(&rules, line.as_bytes(), common, true);
        assert_eq!(words(&encoder), [(0, word)], "{line}");
        assert!(encoder.payloads.is_empty());
    }
    let invalid = encode(&rules, b"{\"id\":\"\xff\"}\n", common, false);
    assert_eq!(words(&invalid), [(0, "invalid-utf8")]);
}
