//! One event as a client may write it: what is accepted is what PostgreSQL takes, and is logged as
//! it was given.
//!
//! Input: `depth_max u8 │ payload of a client frame` (`ipc/src/record.rs`). serde_json is the
//! second opinion on what is JSON.

use certeus_core::keyed;
use certeus_core::validate::{self, Limits};
use certeus_ipc::record::{
    Attributes, FLAG_OPAQUE, KIND_EVENT, PREFIX_BYTES, RECORD_HEADER_BYTES, Record, RecordHeader,
    Tag, write_payload, write_payload_to,
};
use certeus_ipc::verdict::{Reason, Verdict};

/// Below the depth at which serde_json gives up.
const DEPTH_MAX: u8 = 100;
const EVENT_BYTES_MAX: usize = 16 * 1024;

pub fn run(data: &[u8]) {
    let Some((depth, payload)) = data.split_first() else { return };
    let Some((prefix, body)) = payload.split_at_checked(PREFIX_BYTES) else { return };
    let attributes_bytes = u32::from_le_bytes(prefix[..4].try_into().expect("4 bytes")) as usize;
    let Some((attributes, data)) = body.split_at_checked(attributes_bytes) else { return };
    let (flags, depth_max) = (prefix[4], u32::from(depth % DEPTH_MAX));
    let limits = Limits { event_bytes_max: EVENT_BYTES_MAX, depth_max };
    match validate::check(attributes, flags, data, limits) {
        Ok(parsed) => accepted(&parsed, attributes, flags, data, payload),
        Err(Reason::InvalidJson) => {
            assert!(serde_json::from_slice::<serde_json::Value>(data).is_err(), "it is JSON");
        }
        Err(reason) => assert_ne!(reason, Reason::None),
    }
}

fn accepted(parsed: &Attributes<'_>, attributes: &[u8], flags: u8, data: &[u8], payload: &[u8]) {
    for tag in Tag::ALL {
        let Some(value) = parsed.get(tag) else { continue };
        let text = std::str::from_utf8(value).expect("attributes are UTF-8");
        assert!(value.len() <= tag.bytes_max() && !text.contains('\0'), "{tag:?}");
    }
    if flags & FLAG_OPAQUE == 0 {
        let text = std::str::from_utf8(data).expect("JSON is UTF-8");
        assert!(!text.contains('\0'));
        let value = serde_json::from_str(text).expect("what is accepted is JSON");
        assert!(has_no_zero(&value), "U+0000 in {text}");
    }
    if let Some(extensions) = parsed.get(Tag::Extensions) {
        let value: serde_json::Value = serde_json::from_slice(extensions).expect("an object");
        let object = value.as_object().expect("extensions are an object");
        assert!(object.len() <= 32 && object.values().all(|one| !one.is_object()));
    }
    written_again(parsed, flags, data, payload);
    let record = record_of(attributes, flags, data);
    let read = Record::parse(&record).expect("what was made is read");
    assert_eq!((read.attributes, read.data, read.bytes), (*parsed, data, &record[..]));
    assert!(Record::parse(&record[..record.len() - 1]).is_none(), "a record cut short");
    let digest = keyed::content_digest(&[1; 32], parsed, flags, data);
    assert_eq!(keyed::content_digest(&[1; 32], &read.attributes, read.header.flags, data), digest);
}

/// Parsing loses nothing: both writers give the same bytes again.
fn written_again(parsed: &Attributes<'_>, flags: u8, data: &[u8], payload: &[u8]) {
    let mut out = Vec::new();
    write_payload(&mut out, parsed, flags, data);
    assert_eq!(out[PREFIX_BYTES..], payload[PREFIX_BYTES..]);
    let mut other = vec![0xee; out.len()];
    write_payload_to(&mut other, parsed, flags, data);
    assert_eq!(out, other);
}

fn record_of(attributes: &[u8], flags: u8, data: &[u8]) -> Vec<u8> {
    let bytes = RECORD_HEADER_BYTES + attributes.len() + data.len();
    let header = RecordHeader {
        bytes: bytes as u32,
        kind: KIND_EVENT,
        verdict: Verdict::Accepted,
        flags: flags & FLAG_OPAQUE,
        tenant_no: 1,
        attributes_bytes: attributes.len() as u32,
        producer_no: 2,
        ticket: 3,
    };
    let mut record = vec![0; RECORD_HEADER_BYTES];
    header.write(&mut record);
    record.extend_from_slice(attributes);
    record.extend_from_slice(data);
    record
}

fn has_no_zero(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => !text.contains('\0'),
        serde_json::Value::Array(values) => values.iter().all(has_no_zero),
        serde_json::Value::Object(fields) => {
            fields.iter().all(|(name, value)| !name.contains('\0') && has_no_zero(value))
        }
        _ => true,
    }
}
