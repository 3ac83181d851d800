//! What somebody exports as OTLP's logs: whatever it is, each payload made of it is one that a ring
//! and a worker take, its data is a JSON object, and parts come to an end.
//!
//! Input: `notation u8 │ bytes`.

use certeus_core::door::otlp::{Logs, Notation};
use certeus_core::door::{Encoder, Rules};
use certeus_core::validate::json;
use certeus_core::worker::Sources;
use certeus_ipc::record::Tag;
use certeus_ipc::verdict::Reason;
use serde_json::Value;

use crate::door::{LIMITS, payloads};

/// An empty record has two bytes.
const RECORD_BYTES_MIN: usize = 2;

pub fn run(data: &[u8]) {
    let [notation, body @ ..] = data else { return };
    let notation = if notation & 1 == 0 { Notation::Binary } else { Notation::Json };
    let rules = Rules {
        event_bytes_max: LIMITS.event_bytes_max,
        source: b"door".to_vec(),
        sources: Sources::new(["*"]),
    };
    let Ok(mut logs) = Logs::new(body, notation) else { return };
    let (mut more, mut seen) = (true, 0);
    while more {
        let mut encoder = Encoder::new(&rules, 0);
        more = logs.fill(body, &mut encoder);
        seen += encoder.seen;
        for payload in payloads(&encoder) {
            let outcome = json::check(payload.data, 128);
            assert!(matches!(outcome, Ok(()) | Err(Reason::NulCharacter)), "{outcome:?}");
            let data: Value = serde_json::from_slice(payload.data).expect("data is JSON");
            assert!(data.is_object());
            assert!(payload.attributes.get(Tag::Id).is_none());
            let extensions = payload.attributes.get(Tag::Extensions).unwrap_or(b"{}");
            assert_eq!(json::check(extensions, 1), Ok(()));
        }
    }
    assert!(seen <= body.len() / RECORD_BYTES_MIN);
    let mut encoder = Encoder::new(&rules, 0);
    assert!(!logs.fill(body, &mut encoder));
    assert_eq!(encoder.seen, 0);
}
