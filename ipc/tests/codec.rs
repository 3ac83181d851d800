//! Records, payloads and verdict entries: what is written is what is read, and nothing else is.
#![cfg(not(loom))]

use certeus_ipc::layout::{frame_bytes, payload_bytes_max};
use certeus_ipc::record::{
    Attributes, PREFIX_BYTES, RECORD_HEADER_BYTES, Record, RecordHeader, Tag, write_payload,
    write_payload_to,
};
use certeus_ipc::verdict::{Entry, Reason, Verdict};
use proptest::prelude::*;

type Values = Vec<Option<Vec<u8>>>;

fn values() -> impl Strategy<Value = Values> {
    let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    proptest::collection::vec(value, Tag::ALL.len())
}

fn attributes(values: &Values) -> Attributes<'_> {
    let mut attributes = Attributes::default();
    for (tag, value) in Tag::ALL.into_iter().zip(values) {
        attributes.set(tag, value.as_deref());
    }
    attributes
}

fn entry() -> impl Strategy<Value = Entry> {
    let verdict = proptest::sample::select(Verdict::ALL.to_vec());
    let reason = proptest::sample::select(Reason::ALL.to_vec());
    (any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>(), verdict, reason).prop_map(
        |(ticket, seq, group, count, verdict, reason)| Entry {
            ticket,
            seq,
            group,
            count,
            verdict,
            reason,
        },
    )
}

proptest! {
    #[test]
    fn attributes_come_back(values in values()) {
        let attributes = attributes(&values);
        let mut bytes = Vec::new();
        attributes.write(&mut bytes);
        prop_assert_eq!(bytes.len(), attributes.bytes());
        prop_assert_eq!(Attributes::parse(&bytes), Some(attributes));
    }

    #[test]
    fn a_payload_is_the_same_in_place_as_in_a_vector(
        values in values(),
        data in proptest::collection::vec(any::<u8>(), 0..100),
        flags in any::<u8>(),
    ) {
        let attributes = attributes(&values);
        let mut written = Vec::new();
        write_payload(&mut written, &attributes, flags, &data);
        let mut in_place = vec![0xaa; PREFIX_BYTES + attributes.bytes() + data.len()];
        write_payload_to(&mut in_place, &attributes, flags, &data);
        prop_assert_eq!(in_place, written);
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Attributes::parse(&bytes);
        let _ = Record::parse(&bytes);
    }

    #[test]
    fn a_record_comes_back(
        values in values(),
        data in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let attributes = attributes(&values);
        let mut bytes = vec![0; RECORD_HEADER_BYTES];
        attributes.write(&mut bytes);
        bytes.extend_from_slice(&data);
        let header = RecordHeader {
            bytes: bytes.len() as u32,
            kind: 1,
            verdict: Verdict::Escalated,
            flags: 1,
            tenant_no: 3,
            attributes_bytes: attributes.bytes() as u32,
            producer_no: u64::MAX - 1,
            ticket: 9,
        };
        header.write(&mut bytes);
        bytes.extend_from_slice(b"what follows");
        let record = Record::parse(&bytes).unwrap();
        prop_assert_eq!(record.header, header);
        prop_assert_eq!(record.attributes, attributes);
        prop_assert_eq!(record.data, &data[..]);
        for cut in 0..record.bytes.len() {
            prop_assert!(Record::parse(&record.bytes[..cut]).is_none(), "cut at {}", cut);
        }
    }

    #[test]
    fn an_entry_comes_back(entry in entry()) {
        prop_assert_eq!(Entry::from_words(entry.to_words()), Some(entry));
    }

    #[test]
    fn no_words_make_the_entry_parser_panic(words in any::<[u64; 5]>()) {
        if let Some(entry) = Entry::from_words(words) {
            prop_assert_eq!(entry.to_words(), words);
        }
    }
}

#[test]
fn attributes_out_of_order_twice_or_too_long_are_refused() {
    let good = [1, 1, 0, b'a', 2, 1, 0, b'b'];
    assert!(Attributes::parse(&good).is_some());
    for bad in [
        &[2, 1, 0, b'a', 1, 1, 0, b'b'][..],
        &[1, 1, 0, b'a', 1, 1, 0, b'b'],
        &[1, 2, 0, b'a'],
        &[9, 0, 0],
        &[0, 0, 0],
        &[1, 1],
    ] {
        assert_eq!(Attributes::parse(bad), None, "{bad:?}");
    }
}

#[test]
fn a_record_of_a_duplicate_does_not_exist() {
    let mut bytes = [0; RECORD_HEADER_BYTES];
    let header = RecordHeader {
        bytes: RECORD_HEADER_BYTES as u32,
        kind: 1,
        verdict: Verdict::Duplicate,
        flags: 0,
        tenant_no: 0,
        attributes_bytes: 0,
        producer_no: 0,
        ticket: 0,
    };
    header.write(&mut bytes);
    assert_eq!(RecordHeader::parse(&bytes), None);
}

#[test]
fn numbers_on_disk_and_in_rings_never_change() {
    let verdicts = ["accepted", "escalated", "duplicate", "rejected"];
    for (code, word) in verdicts.into_iter().enumerate() {
        assert_eq!(Verdict::from_code(code as u8).unwrap().word(), word);
    }
    let reasons = [
        "",
        "malformed-event",
        "invalid-json",
        "invalid-utf8",
        "too-large",
        "too-deep",
        "nul-character",
        "lone-surrogate",
        "number-out-of-range",
        "invalid-time",
        "invalid-attribute",
        "invalid-extensions",
        "source-not-allowed",
        "id-conflict",
    ];
    for (code, word) in reasons.into_iter().enumerate() {
        assert_eq!(Reason::from_code(code as u8).unwrap().word(), word);
    }
    assert_eq!(Reason::from_code(reasons.len() as u8), None);
    assert_eq!(Verdict::from_code(4), None);
}

#[test]
fn only_runs_with_consecutive_seq_continue() {
    let reason = Reason::None;
    let first =
        Entry { ticket: 5, seq: 50, group: 2, count: 3, verdict: Verdict::Accepted, reason };
    let next = Entry { ticket: 8, seq: 53, count: 1, ..first };
    assert_eq!(first.last_ticket(), 7);
    assert!(first.continues(&next));
    for other in [
        Entry { ticket: 9, ..next },
        Entry { seq: 54, ..next },
        Entry { group: 3, ..next },
        Entry { verdict: Verdict::Escalated, ..next },
        Entry { count: u32::MAX, ..next },
    ] {
        assert!(!first.continues(&other), "{other:?}");
    }
    let duplicate = Entry { verdict: Verdict::Duplicate, ..first };
    assert!(!duplicate.continues(&Entry { verdict: Verdict::Duplicate, ..next }));
}

#[test]
fn frames_are_aligned_and_eight_of_the_largest_fill_a_ring() {
    for payload in 0..100 {
        let bytes = frame_bytes(payload);
        assert!(bytes % 16 == 0 && bytes >= payload + 16 && bytes < payload + 32);
    }
    assert_eq!(frame_bytes(payload_bytes_max(65536)) * 8, 65536);
}
