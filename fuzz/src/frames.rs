//! Every codec of the daemon's own: what is read from any bytes is written and read again the same.
//!
//! Input: `codec u8 │ bytes`. Headers with a CRC get the right one first, so that a mutation
//! reaches what is behind it.

use certeus_core::envelope::{Bye, Envelope, Hello, Return};
use certeus_core::format::{GroupHeader, LogEntry, SegmentHeader};
use certeus_core::gap::GapEntry;
use certeus_ipc::record::{Attributes, Record, RecordHeader};
use certeus_ipc::verdict::Entry;

/// Where the CRC of a segment's header stands.
const SEGMENT_CRC_AT: usize = 160;

pub fn run(data: &[u8]) {
    let Some((codec, bytes)) = data.split_first() else { return };
    match codec % 9 {
        0 => hello(bytes),
        1 => answer(bytes),
        2 => small(bytes),
        3 => entries(bytes),
        4 => gap(bytes),
        5 => group(bytes),
        6 => segment(bytes),
        7 => record(bytes),
        _ => attributes(bytes),
    }
}

fn hello(bytes: &[u8]) {
    if let Some(hello) = Hello::parse(bytes) {
        let again = hello.encode();
        assert!(bytes.starts_with(&again));
        assert_eq!(Hello::parse(&again), Some(hello));
        assert_eq!(Hello::parse(&again[..again.len() - 1]), None, "a hello cut short");
    }
}

fn answer(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    if let Some(answer) = Return::parse(*kind, bytes) {
        let (again, payload) = answer.encode();
        assert_eq!(again, *kind);
        assert!(payload.len() <= Return::BYTES_MAX);
        assert_eq!(Return::parse(again, &payload), Some(answer));
    }
}

fn small(bytes: &[u8]) {
    if let Some((envelope, leaf)) = Envelope::parse(bytes) {
        let mut out = [0; Envelope::BYTES];
        envelope.write(&leaf, &mut out);
        assert_eq!(Envelope::parse(&out), Some((envelope, leaf)));
    }
    if let Some(bye) = Bye::parse(bytes) {
        assert_eq!(Bye::parse(&bye.encode()), Some(bye));
    }
    if let Some(words) = bytes.get(..Entry::BYTES) {
        let mut chunks = words.chunks_exact(8);
        let words = [(); 5].map(|()| {
            u64::from_le_bytes(chunks.next().expect("five").try_into().expect("8 bytes"))
        });
        if let Some(entry) = Entry::from_words(words) {
            assert_eq!(entry.to_words(), words);
        }
    }
}

fn entries(bytes: &[u8]) {
    if let Some(entries) = LogEntry::parse_all(bytes) {
        let mut again = Vec::new();
        entries.iter().for_each(|entry| entry.write(&mut again));
        assert!(again.len() <= bytes.len());
        assert_eq!(LogEntry::parse_all(&again), Some(entries));
    }
}

fn gap(bytes: &[u8]) {
    let Some(gap) = GapEntry::parse(bytes) else { return };
    let mut again = Vec::new();
    gap.write(&mut again);
    assert_eq!(GapEntry::parse(&again), Some(gap));
    let others: Vec<GapEntry> = bytes.chunks(48).skip(1).filter_map(GapEntry::parse).collect();
    let mut left = gap.without(&others);
    left.sort_by_key(|part| part.first_seq);
    for part in &left {
        assert!(part.first_seq <= part.last_seq);
        assert!(gap.first_seq <= part.first_seq && part.last_seq <= gap.last_seq);
        let told =
            |other: &GapEntry| other.first_seq <= part.last_seq && part.first_seq <= other.last_seq;
        assert!(!others.iter().any(told), "told twice: {part:?}");
    }
    assert!(left.windows(2).all(|pair| pair[0].last_seq < pair[1].first_seq));
}

fn group(bytes: &[u8]) {
    let Some(mut bytes) = bytes.get(..128).map(<[u8]>::to_vec) else { return };
    bytes[..4].copy_from_slice(b"GRUP");
    let crc = crc32c::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    if let Some(header) = GroupHeader::parse(&bytes) {
        assert_eq!(header.encode()[..], bytes[..]);
        assert!(header.next_seq() >= header.first_seq);
        assert!(header.group_bytes() % 4096 == 0 && header.group_bytes() > header.body_bytes());
        let copied = GroupHeader { salt: header.salt ^ 1, ..header };
        assert_eq!(copied.hash(), header.hash(), "a copy is the same link");
    }
}

fn segment(bytes: &[u8]) {
    let Some(mut bytes) = bytes.get(..SEGMENT_CRC_AT + 4).map(<[u8]>::to_vec) else { return };
    bytes[..12].copy_from_slice(b"certeusL\x01\0\0\0");
    let crc = crc32c::crc32c(&bytes[..SEGMENT_CRC_AT]);
    bytes[SEGMENT_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    if let Some(header) = SegmentHeader::parse(&bytes) {
        assert_eq!(SegmentHeader::parse(&header.encode()), Some(header));
    }
}

fn record(bytes: &[u8]) {
    let Some(record) = Record::parse(bytes) else {
        return;
    };
    assert!(record.bytes.len() <= bytes.len() && record.padded_bytes() % 8 == 0);
    let mut head = [0; 32];
    record.header.write(&mut head);
    assert_eq!(RecordHeader::parse(record.bytes), Some(record.header));
    assert_eq!(head[..], record.bytes[..32]);
}

fn attributes(bytes: &[u8]) {
    if let Some(parsed) = Attributes::parse(bytes) {
        let mut again = Vec::new();
        parsed.write(&mut again);
        assert_eq!((again.len(), &again[..]), (parsed.bytes(), bytes));
    }
}
