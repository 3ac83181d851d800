//! Whatever comes: what is encoded is what was sent, and nothing ends the encoder.

use certeus_ipc::record::Tag;
use proptest::prelude::*;

use super::otlp::field;
use super::*;
use crate::door::cloudevents::{NoSuchBody, batch, event as single, lines};
use crate::door::lines::{Common, data};
use crate::door::otlp::{Logs, Notation};
use crate::validate::{self, Limits};

const LIMITS: Limits = Limits { event_bytes_max: EVENT_BYTES_MAX, depth_max: 64 };
/// What a source of bytes likes to begin, end and escape with.
const TOKENS: [&str; 26] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "\\",
    "\\u0041",
    "\\ud800",
    "\n",
    "\r\n",
    " ",
    "null",
    "\"specversion\":\"1.0\"",
    "\"id\":\"i\"",
    "\"source\":\"s\"",
    "\"type\":\"t\"",
    "\"data\":",
    "\"data_base64\":\"AA==\"",
    "\"level\":1",
    "\"recorded_at\":1",
    "\"seq\":1",
    "é",
    "1.5e3",
    "\0",
];

/// A JSON string for `text`, with as many escapes as `escaped` says.
fn quoted(text: &str, escaped: bool) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        if escaped || matches!(character, '"' | '\\') || character.is_control() {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(character);
        }
    }
    out + "\""
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|it| it.to_string()),
        any::<i64>().prop_map(|it| it.to_string()),
        "-?[1-9][0-9]{0,5}(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?",
        ("[^\0]{0,8}", any::<bool>()).prop_map(|(text, escaped)| quoted(&text, escaped)),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|it| format!("[{}]", it.join(", "))),
            prop::collection::vec(("[a-z]{0,3}", inner), 0..4).prop_map(|members| {
                let members = members.iter().map(|(name, value)| format!("\"{name}\" :{value}"));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

/// A CloudEvent, as a line, and the event that has to come of it.
fn cloudevent() -> impl Strategy<Value = (String, Event)> {
    let text = || ("[^\0]{1,12}", any::<bool>());
    let attributes = (
        text(),
        text(),
        prop::option::of(text()),
        prop::option::of("[0-9T:Z-]{1,20}"),
        prop_oneof![Just("door".to_owned()), "sensor/[a-z]{0,5}"],
        prop::option::of(text()),
        prop::option::of(Just("text/plain".to_owned())),
        prop::option::of("[a-c][0-9a-z]{0,5}".prop_map(|name| format!("{{\"x{name}\":1}}"))),
    );
    (attributes, json(), any::<u64>()).prop_map(|(attributes, json, order)| {
        let (ty, id, subject, time, source, schema, content_type, extensions) = attributes;
        let plain = |it: String| (it, false);
        let given = [
            (Tag::Type, "type", Some(ty)),
            (Tag::Id, "id", Some(id)),
            (Tag::Subject, "subject", subject),
            (Tag::Time, "time", time.map(plain)),
            (Tag::Source, "source", Some(plain(source))),
            (Tag::DataSchema, "dataschema", schema),
            (Tag::ContentType, "datacontenttype", content_type.map(plain)),
        ];
        let mut members = vec!["\"specversion\" : \"1.0\"".to_owned(), format!("\"data\": {json}")];
        let mut event = Event { data: json.into_bytes(), ..Event::default() };
        for (tag, name, value) in given {
            let Some((value, escaped)) = value else { continue };
            members.push(format!("\"{name}\":{}", quoted(&value, escaped)));
            if (tag, &*value) != (Tag::Source, "door") {
                event.attributes.push((tag, value));
            }
        }
        if let Some(extensions) = extensions {
            members.push(extensions[1..extensions.len() - 1].to_owned());
            event.attributes.push((Tag::Extensions, extensions));
        }
        let middle = order as usize % members.len();
        members.rotate_left(middle);
        (format!("{{{}}}", members.join(", ")), event)
    })
}

/// Every event of a buffer as the worker gets it: framing is proper, and the worker has a verdict.
fn judged(encoder: &Encoder<'_>) -> Vec<Event> {
    let mut rest = &encoder.payloads[..];
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (payload, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
        let attributes_bytes = u32::from_le_bytes(payload[..4].try_into().unwrap()) as usize;
        let (attributes, data) = payload[PREFIX_BYTES..].split_at(attributes_bytes);
        let verdict = validate::check(attributes, payload[4], data, LIMITS);
        assert_ne!(verdict.err(), Some(Reason::MalformedEvent));
        rest = behind;
    }
    events(encoder)
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => prop::sample::select(&TOKENS[..]).prop_map(|it| it.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

/// Messages in messages, whatever their fields are, and some that are cut; JSON of OTLP's names.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12),
        "[a-z\"{}]{0,4}".prop_map(String::into_bytes),
    ];
    let binary = leaf.prop_recursive(9, 40, 3, |inner| {
        prop::collection::vec((1_u8..13, inner), 0..3)
            .prop_map(|fields| fields.iter().flat_map(|(number, it)| field(*number, it)).collect())
    });
    let names = ["resourceLogs", "scopeLogs", "logRecords", "body", "attributes", "key", "value"];
    let more = ["stringValue", "kvlistValue", "values", "traceId", "timeUnixNano", "\\u0062ody"];
    let name = prop::sample::select([&names[..], &more].concat());
    let json = json().prop_recursive(9, 40, 3, move |inner| {
        prop::collection::vec((name.clone(), any::<bool>(), inner), 0..3).prop_map(|members| {
            let members = members.iter().map(|(name, is_array, value)| match is_array {
                true => format!("\"{name}\":[{value}]"),
                false => format!("\"{name}\": {value}"),
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        })
    });
    prop_oneof![binary, json.prop_map(String::into_bytes), noise()]
}

proptest! {
    #[test]
    fn an_event_is_logged_as_it_was_sent((line, expected) in cloudevent()) {
        let rules = rules();
        let mut encoder = Encoder::new(&rules, 0);
        single(&mut encoder, line.as_bytes()).unwrap();
        prop_assert_eq!(words(&encoder), []);
        prop_assert_eq!(judged(&encoder), [expected]);
    }

    #[test]
    fn one_event_is_the_same_in_each_form(sent in prop::collection::vec(cloudevent(), 0..5)) {
        let rules = rules();
        let (texts, expected): (Vec<_>, Vec<_>) = sent.into_iter().unzip();
        let mut encoder = Encoder::new(&rules, 0);
        batch(&mut encoder, format!("[{}]", texts.join(" , ")).as_bytes(), 0).unwrap();
        prop_assert_eq!(events(&encoder), &expected[..]);
        let mut encoder = Encoder::new(&rules, 0);
        lines(&mut encoder, texts.join("\r\n").replace('\n', "\n\n").as_bytes(), true);
        prop_assert_eq!(events(&encoder), &expected[..]);
    }

    #[test]
    fn blocks_may_end_anywhere(
        block in noise(),
        good in prop::collection::vec(cloudevent(), 0..3),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        is_data: bool,
    ) {
        let rules = rules();
        let good = good.iter().map(|(line, _)| format!("\n{line}")).collect::<String>();
        let whole = [&block[..], good.as_bytes()].concat();
        let common =
            Common { r#type: "t", source: None, id_field: Some("id"), subject_field: None };
        let take = |block: &[u8], last: bool| {
            let mut encoder = Encoder::new(&rules, 0);
            if is_data {
                data(&mut encoder, block, common, last);
            } else {
                lines(&mut encoder, block, last);
            }
            (judged(&encoder), encoder.seen, encoder.consumed)
        };
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
        cuts.push(whole.len());
        cuts.sort_unstable();
        let (mut from, mut found, mut seen) = (0, Vec::new(), 0);
        for (at, to) in cuts.iter().enumerate() {
            let (events, more, consumed) = take(&whole[from..*to], at + 1 == cuts.len());
            found.extend(events);
            seen += more;
            from += consumed;
        }
        prop_assert_eq!((found, seen, from), take(&whole, true));
    }

    #[test]
    fn no_bytes_end_a_request_of_otlp(body in messages(), is_json: bool) {
        let notation = if is_json { Notation::Json } else { Notation::Binary };
        let rules = Rules { sources: Sources::new(["*"]), ..rules() };
        if let Ok(mut logs) = Logs::new(&body, notation) {
            let mut encoder = Encoder::new(&rules, 0);
            prop_assert!(!logs.fill(&body, &mut encoder));
            for event in judged(&encoder) {
                let outcome = validate::json::check(&event.data, 128);
                prop_assert!(matches!(outcome, Ok(()) | Err(Reason::NulCharacter)), "{:?}", event);
            }
        }
    }

    #[test]
    fn no_bytes_end_an_encoder_or_a_session(body in noise()) {
        let rules = rules();
        type Form = fn(&mut Encoder<'_>, &[u8]) -> Result<(), NoSuchBody>;
        for form in [single as Form, |encoder, body| batch(encoder, body, 0)] {
            let mut encoder = Encoder::new(&rules, 0);
            let outcome = form(&mut encoder, &body);
            judged(&encoder);
            prop_assert!(outcome.is_err() || encoder.consumed == body.len());
        }
    }
}
