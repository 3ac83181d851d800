//! CloudEvents in JSON: the examples of the specification, and every refusal.

use certeus_ipc::record::Tag;

use super::*;
use crate::door::cloudevents::{
    NoSuchBody, PART_BYTES, PART_EVENTS, batch, check_extensions, event as single, lines,
};

fn encode<'r>(rules: &'r Rules, text: &str) -> Encoder<'r> {
    let mut encoder = Encoder::new(rules, text.len());
    assert_eq!(single(&mut encoder, text.as_bytes()), Ok(()));
    assert_eq!((encoder.seen, encoder.consumed), (1, text.len()));
    encoder
}

/// An event with these members besides the required ones.
fn with(members: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"i","source":"s","type":"t"{members}}}"#)
}

fn refused(text: &str) -> String {
    let rules = rules();
    let encoder = encode(&rules, text);
    assert!(encoder.payloads.is_empty(), "{text}");
    let [(0, word)] = words(&encoder)[..] else { panic!("not refused: {text}") };
    word.to_owned()
}

fn taken(text: &str) -> Event {
    let rules = rules();
    let encoder = encode(&rules, text);
    assert_eq!(words(&encoder), [], "{text}");
    events(&encoder).pop().unwrap()
}

#[test]
fn the_examples_of_the_specification_are_taken() {
    let head = |id: &str, rest: &str| {
        format!(
            r#"{{
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "id" : "{id}",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    {rest}
}}"#
        )
    };
    let object = "{\n        \"appinfoA\" : \"abc\",\n        \"appinfoB\" : 123\n    }";
    for (id, rest, content_type, opaque, data) in [
        (
            "A234",
            r#""datacontenttype" : "application/vnd.apache.thrift.binary",
    "data_base64" : "AAH/""#,
            Some("application/vnd.apache.thrift.binary"),
            true,
            "\0\u{1}\u{ff}",
        ),
        (
            "B234",
            r#""unsetextension": null, "datacontenttype" : "application/xml",
    "data" : "<much wow=\"xml\"/>""#,
            Some("application/xml"),
            false,
            r#""<much wow=\"xml\"/>""#,
        ),
        (
            "C234",
            &format!(
                r#""subject": null, "datacontenttype" : "application/json",
    "data" : {object}"#
            ),
            Some("application/json"),
            false,
            object,
        ),
        (
            "D234",
            r#""subject": null, "data" : "I'm just a string""#,
            None,
            false,
            r#""I'm just a string""#,
        ),
    ] {
        let found = taken(&head(id, rest));
        let mut attributes = vec![
            (Tag::Type, "com.example.someevent"),
            (Tag::Id, id),
            (Tag::Time, "2018-04-05T17:31:00Z"),
            (Tag::Source, "/mycontext"),
        ];
        attributes.extend(content_type.map(|it| (Tag::ContentType, it)));
        let extensions = r#"{"comexampleextension1":"value","comexampleothervalue":5}"#;
        attributes.push((Tag::Extensions, extensions));
        let bytes: Vec<u8> = if opaque { vec![0, 1, 255] } else { data.into() };
        assert_eq!(found, Event { opaque, ..event(&attributes, &bytes) }, "{id}");
    }
}

#[test]
fn data_keeps_its_own_bytes() {
    for data in [
        "null",
        "1.50",
        "-0",
        "1e3",
        "\"\\u0041\\/\"",
        "[ 1 , 2 ]",
        "{\"b\":1,\"a\":2,\"b\":3}",
        "true",
        "{\n\t\"deep\": [[[{}]]]\r\n}",
        "\"caf\u{e9}\"",
        "\"{}]\\\"\"",
    ] {
        for content_type in ["", r#","datacontenttype":"text/plain""#] {
            let found = taken(&with(&format!("{content_type}, \"data\" : {data} ")));
            assert_eq!((found.data, found.opaque), (data.into(), false), "{data}");
        }
    }
}

#[test]
fn an_event_without_data_has_null() {
    assert_eq!(taken(&with("")).data, b"null");
    let found = taken(&with(r#","datacontenttype":"text/plain","data_base64":null"#));
    assert_eq!((found.data, found.opaque), (b"null".to_vec(), false));
}

#[test]
fn base64_is_bytes_unless_they_are_called_json() {
    for (content_type, told, opaque) in [
        (None, "application/octet-stream", true),
        (Some("text/plain"), "text/plain", true),
        (Some("application/json"), "application/json", false),
        (Some("a/B+JSON; x=1"), "a/B+JSON; x=1", false),
    ] {
        let member = content_type.map(|it| format!(r#","datacontenttype":"{it}""#));
        let member = member.unwrap_or_default();
        // Some encoders write the slash as an escape.
        let found = taken(&with(&format!(r#"{member},"data_base64":"WzEs\/\/8=""#)));
        assert_eq!(found.attributes.last(), Some(&(Tag::ContentType, told.to_owned())));
        assert_eq!((&found.data[..], found.opaque), (&b"[1,\xff\xff"[..], opaque));
    }
    assert_eq!(taken(&with(r#","data_base64":"""#)).data, b"");
}

#[test]
fn attributes_are_what_their_strings_stand_for() {
    let found = taken(
        r#"{"type":"a\"\\\/b","source":"s","specversion":"1.0",
            "id":"\u00e9\ud83d\ude00","subject":"x"}"#,
    );
    let attributes = [(Tag::Type, "a\"\\/b"), (Tag::Id, "\u{e9}\u{1f600}"), (Tag::Subject, "x")];
    let expected = [&attributes[..], &[(Tag::Source, "s")]].concat();
    assert_eq!(found, event(&expected, b"null"));
}

#[test]
fn extensions_keep_their_own_text() {
    let found = taken(&with(
        r#", "b2" : "x\u0041\"", "unset" :null,"a":true,"n": -9223372036854775808,"data":1"#,
    ));
    let text = r#"{"b2":"x\u0041\"","a":true,"n":-9223372036854775808}"#;
    assert_eq!(found.attributes.last(), Some(&(Tag::Extensions, text.to_owned())));
    assert_eq!(taken(&with(r#","unset":null"#)).attributes.len(), 3);
}

#[test]
fn what_certeus_shows_of_an_event_is_left_out_when_it_is_sent_again() {
    let shown = r#","seq":7,"recorded_at":"2026-01-01T00:00:00Z","tenant":"default",
        "verdict":"accepted","schema_version":1,"level":3"#;
    let found = taken(&with(shown));
    assert_eq!(found.attributes.last(), Some(&(Tag::Extensions, r#"{"level":3}"#.to_owned())));
    let event = shown.replace("recorded_at", "recordedat").replace(r#""schema_version":1,"#, "");
    assert_eq!(taken(&with(&event)).attributes.last(), found.attributes.last());
    for name in ["seq", "recordedat", "tenant", "verdict", "schema_version"] {
        assert_eq!(refused(&with(&format!(r#","{name}":"x""#))), "reserved-name");
        let text = format!(r#"{{"a":1,"{name}":"x"}}"#);
        assert_eq!(check_extensions(text.as_bytes()), Err(Refusal::RESERVED_NAME));
    }
    assert_eq!(check_extensions(br#"{"a":1,"tenants":2}"#), Ok(()));
    assert_eq!(check_extensions(b"[no object"), Ok(()));
}

#[test]
fn every_refusal_has_its_word() {
    for (text, word) in [
        ("{}".to_owned(), "specversion"),
        (r#"{"specversion":"0.3","id":"i","source":"s","type":"t"}"#.into(), "specversion"),
        (r#"{"specversion":1.0,"id":"i","source":"s","type":"t"}"#.into(), "specversion"),
        (r#"{"specversion":"1.0","source":"s","type":"t"}"#.into(), "missing-id"),
        (r#"{"specversion":"1.0","id":null,"source":"s","type":"t"}"#.into(), "missing-id"),
        (r#"{"specversion":"1.0","id":"","source":"s","type":"t"}"#.into(), "missing-id"),
        (r#"{"specversion":"1.0","id":"i","type":"t"}"#.into(), "missing-source"),
        (r#"{"specversion":"1.0","id":"i","source":"","type":"t"}"#.into(), "missing-source"),
        (r#"{"specversion":"1.0","id":"i","source":"s"}"#.into(), "missing-type"),
        (r#"{"specversion":"1.0","id":"i","source":"s","type":""}"#.into(), "missing-type"),
        (r#"{"specversion":"1.0","id":5,"source":"s","type":"t"}"#.into(), "invalid-attribute"),
        (r#"{"specversion":"1.0","id":"i","source":"x","type":"t"}"#.into(), "source-not-allowed"),
        (with(r#","subject":"""#), "invalid-attribute"),
        (with(r#","subject":{}"#), "invalid-attribute"),
        (with(&format!(r#","subject":"{}""#, "x".repeat(1025))), "invalid-attribute"),
        (with(r#","time":"""#), "invalid-time"),
        (with(&format!(r#","time":"{}""#, "1".repeat(65))), "invalid-time"),
        (with(r#","data":1,"data_base64":"AA==""#), "data-and-base64"),
        (with(r#","data":null,"data_base64":"AA==""#), "data-and-base64"),
        (with(r#","data_base64":"AA=""#), "invalid-base64"),
        (with(r#","data_base64":"A A=""#), "invalid-base64"),
        (with(r#","data_base64":5"#), "invalid-base64"),
        (with(r#","level":{}"#), "invalid-extensions"),
        (with(r#","level":[1]"#), "invalid-extensions"),
        (with(r#","Level":1"#), "invalid-extensions"),
        (with(r#","ID":"i""#), "invalid-extensions"),
        (with(r#","my_level":1"#), "invalid-extensions"),
        (with(r#","":1"#), "invalid-extensions"),
        (with(r#","abcdefghij0123456789x":1"#), "invalid-extensions"),
        (with(r#","\u006cevel":1"#), "invalid-extensions"),
        (with(&format!(r#","level":"{}""#, "x".repeat(16 * 1024))), "invalid-extensions"),
        (with(&(0..40).map(|n| format!(r#","n{n}":1"#)).collect::<String>()), "invalid-extensions"),
        (with(&format!(r#","data":"{}""#, "x".repeat(EVENT_BYTES_MAX))), "too-large"),
        (with(r#","data":"\u0000""#), "nul-character"),
        (with(r#","data":"\udc00""#), "lone-surrogate"),
        (with(r#","data":1e999999"#), "number-out-of-range"),
        (with(&format!(r#","data":{}{}"#, "[".repeat(1025), "]".repeat(1025))), "too-deep"),
        (with(r#","data":01"#), "invalid-json"),
        (with(r#","data":"#), "invalid-json"),
        (with(r#","data":[1}"#), "invalid-json"),
        (with(","), "invalid-json"),
        (with(r#" "data":1"#), "invalid-json"),
        (with(r#",data:1"#), "invalid-json"),
    ] {
        assert_eq!(refused(&text), word, "{text}");
    }
}

#[test]
fn a_name_that_stands_twice_is_refused() {
    for name in [
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "time",
        "dataschema",
        "datacontenttype",
        "data",
        "data_base64",
        "level",
        "seq",
        "recorded_at",
    ] {
        for value in ["null", "\"1.0\""] {
            let twice = format!(r#","{name}":{value}"#).repeat(2);
            assert_eq!(refused(&with(&twice)), "invalid-json", "{name}");
        }
    }
}

#[test]
fn a_batch_is_told_by_its_elements() {
    let rules = rules();
    let (good, other) = (with(r#","data":"]},[""#), with(r#","data":2"#));
    for (text, refusals, datas) in [
        ("[]".to_owned(), vec![], vec![]),
        (" [ ] \n".into(), vec![], vec![]),
        (format!("[{good}]"), vec![], vec!["\"]},[\""]),
        (format!("\n[ {good} , {other}\r\n]\t"), vec![], vec!["\"]},[\"", "2"]),
        (
            format!("[1,{good},{{}},[{good}],\"[\",{{\"a\":}},{{[}}],{other},{{\"\x01\":1}}]"),
            vec![
                (0, "not-an-object"),
                (2, "specversion"),
                (3, "not-an-object"),
                (4, "not-an-object"),
                (5, "invalid-json"),
                (6, "invalid-json"),
                (8, "invalid-json"),
            ],
            vec!["\"]},[\"", "2"],
        ),
    ] {
        let mut encoder = Encoder::new(&rules, 0);
        assert_eq!(batch(&mut encoder, text.as_bytes(), 0), Ok(()), "{text}");
        assert_eq!(words(&encoder), refusals, "{text}");
        let found: Vec<_> = events(&encoder).into_iter().map(|event| event.data).collect();
        assert_eq!(found, datas.iter().map(|it| it.as_bytes().to_vec()).collect::<Vec<_>>());
        assert_eq!(encoder.consumed, text.len());
    }
}

#[test]
fn a_batch_comes_in_parts_that_are_bounded() {
    let rules = rules();
    let good = with(r#","data":[1,2]"#);
    for (element, count) in [("0", 3 * PART_EVENTS), (&good, 3 * PART_BYTES / good.len()), (" ", 0)]
    {
        let text = format!("[{}]", vec![element; count].join(" ,\n"));
        let (mut begin, mut seen, mut taken) = (0, 0, 0);
        while begin < text.len() {
            let mut encoder = Encoder::new(&rules, 0);
            assert_eq!(batch(&mut encoder, text.as_bytes(), begin), Ok(()));
            assert!(encoder.seen <= PART_EVENTS && encoder.consumed > begin);
            assert!(encoder.consumed - begin < PART_BYTES + good.len() + 4);
            (begin, seen) = (encoder.consumed, seen + encoder.seen);
            taken += encoder.count;
        }
        assert_eq!((seen, taken), (count, if element == good { count } else { 0 }));
    }
}

#[test]
fn a_body_that_is_something_else_is_told_as_a_whole() {
    let rules = rules();
    let good = with("");
    for text in [
        "".to_owned(),
        " ".into(),
        "1".into(),
        "[".into(),
        "]".into(),
        "{}".into(),
        "[,]".into(),
        "[1,]".into(),
        "[1 2]".into(),
        "[] x".into(),
        "[1]]".into(),
        "[\"".into(),
        "[\"\\".into(),
        "[{]".into(),
        "[}]".into(),
        format!("[{good}"),
        format!("[{good},"),
        format!("{good}]"),
    ] {
        let mut encoder = Encoder::new(&rules, 0);
        assert_eq!(batch(&mut encoder, text.as_bytes(), 0), Err(NoSuchBody), "{text}");
    }
    for text in [
        "".to_owned(),
        " ".into(),
        "1".into(),
        "[]".into(),
        "}".into(),
        "{".into(),
        "\"{}\"".into(),
        "\"".into(),
        format!("{good},"),
        format!("{good}{good}"),
        format!("x{good}"),
    ] {
        let mut encoder = Encoder::new(&rules, 0);
        assert_eq!(single(&mut encoder, text.as_bytes()), Err(NoSuchBody), "{text}");
    }
}

#[test]
fn a_bad_line_does_not_harm_the_next() {
    let rules = rules();
    let block = format!("{}\n\n[]\n{{\"id\r\n{}\r\n{}", with(""), with(r#","data":2"#), with(""));
    let mut encoder = Encoder::new(&rules, block.len());
    lines(&mut encoder, block.as_bytes(), false);
    assert_eq!(words(&encoder), [(1, "not-an-object"), (2, "invalid-json")]);
    assert_eq!(events(&encoder).len(), 2);
    assert_eq!(&block[encoder.consumed..], with(""));
}
