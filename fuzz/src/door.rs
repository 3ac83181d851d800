//! What somebody sends through a door: whatever it is, each payload made of it is one that a ring
//! and a worker take, and a CloudEvent is logged as serde_json reads it too.
//!
//! Input: `form u8 │ cut u8 │ bytes`. Forms by lines get the bytes whole, and in two blocks.

use certeus_core::door::journal::Journal;
use certeus_core::door::{Encoder, Rules, cloudevents, lines, syslog};
use certeus_core::validate::{self, Limits, json};
use certeus_core::worker::Sources;
use certeus_ipc::record::{Attributes, FLAG_OPAQUE, PREFIX_BYTES, Tag};
use certeus_ipc::verdict::Reason;
use serde_json::Value;

pub const LIMITS: Limits = Limits { event_bytes_max: 1024, depth_max: 64 };
const COMMON: lines::Common<'static> =
    lines::Common { r#type: "t", source: None, id_field: None, subject_field: None };

/// Short, so that lines longer than it are common.
const FRAME_BYTES_MAX: usize = 200;

pub struct Payload<'a> {
    pub attributes: Attributes<'a>,
    pub flags: u8,
    pub data: &'a [u8],
}

pub fn run(data: &[u8]) {
    let [form, cut, bytes @ ..] = data else { return };
    let rules = Rules {
        event_bytes_max: LIMITS.event_bytes_max,
        source: b"door".to_vec(),
        sources: Sources::new(["s*", "/mycontext"]),
    };
    let fields = lines::Common { id_field: Some("id"), subject_field: Some("type"), ..COMMON };
    let cut = usize::from(*cut) % (bytes.len() + 1);
    match form % 7 {
        0 => in_blocks(&rules, bytes, cut, |encoder, block, last| {
            lines::data(encoder, block, COMMON, last);
        }),
        1 => in_blocks(&rules, bytes, cut, |encoder, block, last| {
            lines::data(encoder, block, fields, last);
        }),
        2 => in_blocks(&rules, bytes, cut, cloudevents::lines),
        3 => {
            let mut begin = 0;
            while begin == 0 || begin < bytes.len() {
                let mut encoder = Encoder::new(&rules, bytes.len());
                if cloudevents::batch(&mut encoder, bytes, begin).is_err() {
                    break;
                }
                payloads(&encoder);
                begin = encoder.consumed;
            }
        }
        4 => single(&rules, bytes),
        5 => in_blocks(&rules, bytes, cut, stream),
        _ => journal(&rules, bytes, cut),
    }
}

/// Whatever a message is, the worker takes what is made of it.
fn stream(encoder: &mut Encoder<'_>, block: &[u8], last: bool) {
    let common = syslog::Common { r#type: "syslog", source: None };
    let outcome = syslog::stream(encoder, block, common, FRAME_BYTES_MAX, last);
    assert!(outcome.is_ok() || encoder.consumed == 0);
    for payload in payloads(encoder) {
        assert_eq!(json::check(payload.data, 4), Ok(()));
        let data: Value = serde_json::from_slice(payload.data).expect("data is JSON");
        assert!(data.is_object());
    }
}

/// Blocks that end anywhere are the same entries, up to where the stream is none; the worker takes
/// each that has an id.
fn journal(rules: &Rules, bytes: &[u8], cut: usize) {
    let begin = || Journal::new(LIMITS.event_bytes_max, "journal", Some("/own"), Some("after"));
    let (mut whole, mut first, mut second) =
        (Encoder::new(rules, 0), Encoder::new(rules, 0), Encoder::new(rules, 0));
    let mut one = begin();
    let outcome = one.take(&mut whole, bytes);
    for payload in payloads(&whole) {
        let data: Value = serde_json::from_slice(payload.data).expect("data is JSON");
        assert!(data.is_object());
        assert!(payload.attributes.get(Tag::Id).is_some());
    }
    let mut two = begin();
    let parts =
        two.take(&mut first, &bytes[..cut]).and_then(|()| two.take(&mut second, &bytes[cut..]));
    assert_eq!(outcome, parts);
    assert_eq!([&first.payloads[..], &second.payloads].concat(), whole.payloads);
    assert_eq!((one.cursor(), one.left_out), (two.cursor(), two.left_out));
}

/// What an encoder made: each is one that a worker takes or tells why not.
pub fn payloads<'a>(encoder: &'a Encoder<'_>) -> Vec<Payload<'a>> {
    let (mut rest, mut found) = (&encoder.payloads[..], Vec::new());
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (payload, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
        rest = behind;
        let (prefix, body) = payload.split_at(PREFIX_BYTES);
        let length = u32::from_le_bytes(prefix[..4].try_into().expect("4 bytes")) as usize;
        let (attributes, data) = body.split_at(length);
        let verdict = validate::check(attributes, prefix[4], data, LIMITS);
        assert!(!matches!(verdict, Err(Reason::MalformedEvent | Reason::TooLarge)), "{verdict:?}");
        let attributes = Attributes::parse(attributes).expect("framing is proper");
        found.push(Payload { attributes, flags: prefix[4], data });
    }
    assert!(rest.is_empty());
    assert_eq!(found.len(), encoder.count);
    assert_eq!(encoder.seen, encoder.count + encoder.refused.len());
    assert!(encoder.refused.is_sorted_by(|one, next| one.0 < next.0));
    found
}

/// Blocks that end anywhere are the same events.
fn in_blocks(
    rules: &Rules,
    bytes: &[u8],
    cut: usize,
    take: impl Fn(&mut Encoder<'_>, &[u8], bool),
) {
    let mut whole = Encoder::new(rules, bytes.len());
    take(&mut whole, bytes, true);
    payloads(&whole);
    let mut first = Encoder::new(rules, cut);
    take(&mut first, &bytes[..cut], false);
    assert!(first.consumed <= cut);
    let mut second = Encoder::new(rules, bytes.len());
    take(&mut second, &bytes[first.consumed..], true);
    assert_eq!([&first.payloads[..], &second.payloads].concat(), whole.payloads);
    assert_eq!(first.seen + second.seen, whole.seen);
    assert_eq!(first.consumed + second.consumed, whole.consumed);
}

fn single(rules: &Rules, body: &[u8]) {
    let mut encoder = Encoder::new(rules, body.len());
    if cloudevents::event(&mut encoder, body).is_err() {
        return;
    }
    let found = payloads(&encoder);
    let [payload] = &found[..] else { return };
    let text = std::str::from_utf8(body).expect("an event that is taken is UTF-8");
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            assert!(error.to_string().contains("recursion limit"), "{error}: {text}");
            return;
        }
    };
    assert_eq!(value["specversion"], "1.0");
    for (tag, name) in [
        (Tag::Id, "id"),
        (Tag::Type, "type"),
        (Tag::Subject, "subject"),
        (Tag::Time, "time"),
        (Tag::DataSchema, "dataschema"),
    ] {
        let told = payload.attributes.get(tag).map(|it| std::str::from_utf8(it).expect("UTF-8"));
        assert_eq!(told, value[name].as_str(), "{name}");
    }
    let source = payload.attributes.get(Tag::Source).unwrap_or(b"door");
    assert_eq!(Some(source), value["source"].as_str().map(str::as_bytes));
    if value["data_base64"].is_null() {
        assert_eq!(payload.flags & FLAG_OPAQUE, 0);
        let data: Value = serde_json::from_slice(payload.data).expect("data is JSON");
        assert_eq!(data, value["data"]);
    }
    let extensions = payload.attributes.get(Tag::Extensions).unwrap_or(b"{}");
    let extensions: Value = serde_json::from_slice(extensions).expect("extensions are JSON");
    for (name, extension) in extensions.as_object().expect("an object") {
        assert_eq!(*extension, value[name]);
    }
}
