//! Log v1: the bytes of a segment file. What they mean together is told in `daemon/README.md`.
//!
//! ```text
//! segment   │ header 4096 │ group │ group │ ... │ zeros (never written yet) │
//! group     │ header 128 │ entries, 8-aligned │ records, 8-aligned │ zeros to 4096 │
//! ```
//!
//! A group is what one sync makes durable. It starts on a multiple of 4096, so no sync ever
//! rewrites a page that holds acknowledged bytes. Everything is little-endian; each header has its
//! own CRC32C and the group header one over the body.

use crate::gap::GapEntry;
use crate::merkle::Hash;
use certeus_ipc::verdict::{Reason, Verdict};
use sha2::{Digest, Sha256};

pub const SEGMENT_MAGIC: [u8; 8] = *b"certeusL";
pub const GROUP_MAGIC: u32 = u32::from_le_bytes(*b"GRUP");
pub const FORMAT_VERSION: u32 = 1;
pub const ALIGN: u64 = 4096;
pub const SEGMENT_HEADER_BYTES: u64 = 4096;
pub const GROUP_HEADER_BYTES: usize = 128;
/// Nothing larger is written, nothing larger is believed when reading.
pub const GROUP_BODY_BYTES_MAX: u32 = 32 * 1024 * 1024;
/// No log gets so far. A header that says more is not believed though its CRC is right, so that
/// sums of such numbers never overflow: who forges one must not stop every start.
pub const NUMBER_MAX: u64 = 1 << 62;

/// The first page of a segment, written once when the segment becomes the current one.
///
/// Its `before_*` fields say where the log ended at that moment: bytes of earlier segments beyond
/// that end are never read again. Where `before_next_seq` is higher than what an earlier segment
/// really holds, the numbers between are a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub log_uuid: [u8; 16],
    pub segment_no: u64,
    /// Random for each activation: groups of an earlier life of this file are not ours.
    pub salt: u64,
    pub created_at_ns: u64,
    pub epoch: u64,
    /// The segment in which the log so far ends, and the offset there; 0, 0 for a new log.
    pub before_segment_no: u64,
    pub before_end_offset: u64,
    /// The last group of the log so far; 0 for a new log.
    pub before_group: u64,
    /// The first `seq` that this segment may give out.
    pub before_next_seq: u64,
    /// [`GroupHeader::hash`] of the last group; zeros for a new log.
    pub before_chain: Hash,
    /// The last group's root; zeros for a new log.
    pub before_root: Hash,
}

impl SegmentHeader {
    pub(crate) const END: usize = 12 + 4 + 16 + 8 * 8 + 64;

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES as usize);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&0_u32.to_le_bytes());
        out.extend_from_slice(&self.log_uuid);
        for word in [
            self.segment_no,
            self.salt,
            self.created_at_ns,
            self.epoch,
            self.before_segment_no,
            self.before_end_offset,
            self.before_group,
            self.before_next_seq,
        ] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.before_chain);
        out.extend_from_slice(&self.before_root);
        assert_eq!(out.len(), Self::END);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out.resize(SEGMENT_HEADER_BYTES as usize, 0);
        out
    }

    /// `None`: no header of this format and version, damaged, or with numbers that no writer makes.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.get(..Self::END + 4)?;
        let word = |index: usize| u64_at(fixed, 32 + index * 8);
        let proper = fixed[..8] == SEGMENT_MAGIC
            && u32_at(fixed, 8) == FORMAT_VERSION
            && u32_at(fixed, Self::END) == crc32c::crc32c(&fixed[..Self::END]);
        let header = Self {
            log_uuid: fixed[16..32].try_into().expect("16 bytes"),
            segment_no: word(0),
            salt: word(1),
            created_at_ns: word(2),
            epoch: word(3),
            before_segment_no: word(4),
            before_end_offset: word(5),
            before_group: word(6),
            before_next_seq: word(7),
            before_chain: fixed[96..128].try_into().expect("32 bytes"),
            before_root: fixed[128..160].try_into().expect("32 bytes"),
        };
        (proper && header.is_possible()).then_some(header)
    }

    /// Whether a log can have got so far.
    fn is_possible(&self) -> bool {
        let segments = [self.segment_no, self.before_segment_no, self.before_end_offset];
        let numbers = [self.epoch, self.before_group, self.before_next_seq];
        self.before_next_seq > 0
            && segments.iter().chain(&numbers).all(|number| *number <= NUMBER_MAX)
    }
}

/// The head of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// The segment's.
    pub salt: u64,
    /// Dense from 1.
    pub group: u64,
    /// `seq` of the first record.
    pub first_seq: u64,
    /// Records.
    pub count: u32,
    pub entries_bytes: u32,
    pub records_bytes: u32,
    /// CRC32C of entries and records.
    pub body_crc: u32,
    /// Wall clock at the commit; without promise of order.
    pub recorded_at_ns: u64,
    /// Of the log writer's life that wrote it.
    pub epoch: u64,
    /// [`GroupHeader::hash`] of the group before; zeros for the first.
    pub chain: Hash,
    /// RFC 6962 root of the records' leaves.
    pub root: Hash,
}

impl GroupHeader {
    #[must_use]
    pub fn encode(&self) -> [u8; GROUP_HEADER_BYTES] {
        let mut out = [0; GROUP_HEADER_BYTES];
        out[0..4].copy_from_slice(&GROUP_MAGIC.to_le_bytes());
        out[8..16].copy_from_slice(&self.salt.to_le_bytes());
        out[16..24].copy_from_slice(&self.group.to_le_bytes());
        out[24..32].copy_from_slice(&self.first_seq.to_le_bytes());
        out[32..36].copy_from_slice(&self.count.to_le_bytes());
        out[36..40].copy_from_slice(&self.entries_bytes.to_le_bytes());
        out[40..44].copy_from_slice(&self.records_bytes.to_le_bytes());
        out[44..48].copy_from_slice(&self.body_crc.to_le_bytes());
        out[48..56].copy_from_slice(&self.recorded_at_ns.to_le_bytes());
        out[56..64].copy_from_slice(&self.epoch.to_le_bytes());
        out[64..96].copy_from_slice(&self.chain);
        out[96..128].copy_from_slice(&self.root);
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None`: no group header, damaged, or with lengths or numbers that no writer makes.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.get(..GROUP_HEADER_BYTES)?;
        if u32_at(fixed, 0) != GROUP_MAGIC || u32_at(fixed, 4) != crc32c::crc32c(&fixed[8..]) {
            return None;
        }
        let header = Self {
            salt: u64_at(fixed, 8),
            group: u64_at(fixed, 16),
            first_seq: u64_at(fixed, 24),
            count: u32_at(fixed, 32),
            entries_bytes: u32_at(fixed, 36),
            records_bytes: u32_at(fixed, 40),
            body_crc: u32_at(fixed, 44),
            recorded_at_ns: u64_at(fixed, 48),
            epoch: u64_at(fixed, 56),
            chain: fixed[64..96].try_into().expect("32 bytes"),
            root: fixed[96..128].try_into().expect("32 bytes"),
        };
        header.is_possible().then_some(header)
    }

    /// Whether a writer can have made it.
    fn is_possible(&self) -> bool {
        self.body_bytes() <= u64::from(GROUP_BODY_BYTES_MAX)
            && [self.group, self.first_seq].iter().all(|number| (1..=NUMBER_MAX).contains(number))
            && self.epoch <= NUMBER_MAX
    }

    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        u64::from(self.entries_bytes) + u64::from(self.records_bytes)
    }

    /// Bytes that the group takes in its segment: the next one starts there.
    #[must_use]
    pub fn group_bytes(&self) -> u64 {
        (GROUP_HEADER_BYTES as u64 + self.body_bytes()).next_multiple_of(ALIGN)
    }

    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.first_seq + u64::from(self.count)
    }

    /// What the next group's header has as `chain`: SHA-256 of this header with salt and CRC zero,
    /// so that a group copied into another segment is still the same link.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let mut bytes = Self { salt: 0, ..*self }.encode();
        bytes[4..8].fill(0);
        Sha256::digest(bytes).into()
    }
}

/// What a group holds beside its records: no `seq`, outside the root.
///
/// On disk: `bytes u32 (of the whole entry, padded to 8) | kind u8 | zero u8 ×3 | fields`. A reader
/// skips a kind that it does not know, unless its top bit is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEntry {
    /// Who `producer_no` is. Comes in each segment before or with the producer's first record
    /// there.
    Producer(ProducerEntry),
    /// A rejected or duplicate ticket.
    Verdict(VerdictEntry),
    /// Acknowledged numbers that a start found to be gone. Stands in a group without records, the
    /// first one that the start writes of its own.
    Gap(GapEntry),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerEntry {
    pub producer_no: u64,
    pub tenant_no: u32,
    pub uid: u32,
    /// The 128 random bits that the library made.
    pub producer: [u8; 16],
    pub birth_seq: u64,
    pub tenant: String,
    pub source: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerdictEntry {
    pub producer_no: u64,
    pub ticket: u64,
    /// The original's `seq` for duplicates and id conflicts, else 0.
    pub seq: u64,
    pub verdict: Verdict,
    pub reason: Reason,
}

const ENTRY_PRODUCER: u8 = 0x81;
const ENTRY_VERDICT: u8 = 0x82;
/// Without the top bit: who does not know it derives the same range from the headers.
const ENTRY_GAP: u8 = 0x03;

impl LogEntry {
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 8]);
        let kind = match self {
            Self::Producer(entry) => {
                out.extend_from_slice(&entry.producer_no.to_le_bytes());
                out.extend_from_slice(&entry.tenant_no.to_le_bytes());
                out.extend_from_slice(&entry.uid.to_le_bytes());
                out.extend_from_slice(&entry.producer);
                out.extend_from_slice(&entry.birth_seq.to_le_bytes());
                for text in [&entry.tenant, &entry.source] {
                    let length = u16::try_from(text.len()).expect("names are bounded");
                    out.extend_from_slice(&length.to_le_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
                ENTRY_PRODUCER
            }
            Self::Verdict(entry) => {
                out.extend_from_slice(&entry.producer_no.to_le_bytes());
                out.extend_from_slice(&entry.ticket.to_le_bytes());
                out.extend_from_slice(&entry.seq.to_le_bytes());
                out.extend_from_slice(&[entry.verdict as u8, entry.reason as u8, 0, 0, 0, 0, 0, 0]);
                ENTRY_VERDICT
            }
            Self::Gap(gap) => {
                gap.write(out);
                ENTRY_GAP
            }
        };
        out.resize(out.len().next_multiple_of(8), 0);
        let bytes = u32::try_from(out.len() - start).expect("entries are bounded");
        out[start..start + 4].copy_from_slice(&bytes.to_le_bytes());
        out[start + 4] = kind;
    }

    /// All entries of a group. `None`: damaged, or of a kind that must be understood and is not.
    #[must_use]
    pub fn parse_all(mut bytes: &[u8]) -> Option<Vec<Self>> {
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            let head = bytes.get(..8)?;
            let whole = u32_at(head, 0) as usize;
            if whole < 8 || whole % 8 != 0 || whole > bytes.len() {
                return None;
            }
            let (entry, rest) = bytes.split_at(whole);
            match entry[4] {
                ENTRY_PRODUCER => entries.push(Self::Producer(parse_producer(&entry[8..])?)),
                ENTRY_VERDICT => entries.push(Self::Verdict(parse_verdict(&entry[8..])?)),
                ENTRY_GAP => entries.push(Self::Gap(GapEntry::parse(&entry[8..])?)),
                kind if kind & certeus_ipc::record::KIND_MUST_UNDERSTAND != 0 => return None,
                _ => {}
            }
            bytes = rest;
        }
        Some(entries)
    }
}

fn parse_producer(fields: &[u8]) -> Option<ProducerEntry> {
    let fixed = fields.get(..40)?;
    let mut rest = &fields[40..];
    let mut text = || {
        let length = usize::from(u16::from_le_bytes(rest.get(..2)?.try_into().ok()?));
        let value = rest.get(2..2 + length)?;
        rest = &rest[2 + length..];
        String::from_utf8(value.to_vec()).ok()
    };
    Some(ProducerEntry {
        producer_no: u64_at(fixed, 0),
        tenant_no: u32_at(fixed, 8),
        uid: u32_at(fixed, 12),
        producer: fixed[16..32].try_into().expect("16 bytes"),
        birth_seq: u64_at(fixed, 32),
        tenant: text()?,
        source: text()?,
    })
}

fn parse_verdict(fields: &[u8]) -> Option<VerdictEntry> {
    let fixed = fields.get(..32)?;
    Some(VerdictEntry {
        producer_no: u64_at(fixed, 0),
        ticket: u64_at(fixed, 8),
        seq: u64_at(fixed, 16),
        verdict: Verdict::from_code(fixed[24])?,
        reason: Reason::from_code(fixed[25])?,
    })
}

/// Little-endian word at `at`; the caller has checked the length.
#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// Little-endian half word at `at`; the caller has checked the length.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gap::GapReason;

    fn group() -> GroupHeader {
        GroupHeader {
            salt: 1,
            group: 2,
            first_seq: 3,
            count: 4,
            entries_bytes: 8,
            records_bytes: 16,
            body_crc: 5,
            recorded_at_ns: 6,
            epoch: 7,
            chain: [8; 32],
            root: [9; 32],
        }
    }

    #[test]
    fn group_header_survives_its_bytes_and_no_flipped_bit() {
        let bytes = group().encode();
        assert_eq!(GroupHeader::parse(&bytes), Some(group()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(GroupHeader::parse(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn a_header_with_numbers_that_no_log_reaches_is_not_believed() {
        for number in [NUMBER_MAX + 1, u64::MAX] {
            for header in [
                GroupHeader { group: number, ..group() },
                GroupHeader { first_seq: number, ..group() },
                GroupHeader { epoch: number, ..group() },
                GroupHeader { first_seq: 0, ..group() },
            ] {
                assert_eq!(GroupHeader::parse(&header.encode()), None, "{header:?}");
            }
            let header = SegmentHeader { before_next_seq: number, ..segment() };
            assert_eq!(SegmentHeader::parse(&header.encode()), None, "{header:?}");
            let gap = GapEntry { last_seq: number, ..gap() };
            let mut bytes = Vec::new();
            gap.write(&mut bytes);
            assert_eq!(GapEntry::parse(&bytes), None, "{gap:?}");
        }
        let last = GroupHeader { group: NUMBER_MAX, first_seq: NUMBER_MAX, ..group() };
        assert_eq!(GroupHeader::parse(&last.encode()), Some(last));
    }

    fn segment() -> SegmentHeader {
        SegmentHeader {
            log_uuid: [1; 16],
            segment_no: 2,
            salt: 3,
            created_at_ns: 4,
            epoch: 5,
            before_segment_no: 6,
            before_end_offset: 7,
            before_group: 8,
            before_next_seq: 9,
            before_chain: [10; 32],
            before_root: [11; 32],
        }
    }

    fn gap() -> GapEntry {
        GapEntry {
            first_seq: 1,
            last_seq: 2,
            segment_no: 3,
            offset: 4,
            bytes: 5,
            reason: GapReason::MissingSegment,
        }
    }

    #[test]
    fn segment_header_survives_its_bytes_and_no_flipped_bit() {
        let header = segment();
        let bytes = header.encode();
        assert_eq!(SegmentHeader::parse(&bytes), Some(header));
        for bit in 0..(SegmentHeader::END + 4) * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::parse(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn entries_survive_their_bytes_and_no_truncation() {
        let entries = vec![
            LogEntry::Producer(ProducerEntry {
                producer_no: 1,
                tenant_no: 2,
                uid: 3,
                producer: [4; 16],
                birth_seq: 5,
                tenant: "default".into(),
                source: "check".into(),
            }),
            LogEntry::Verdict(VerdictEntry {
                producer_no: 1,
                ticket: 2,
                seq: 3,
                verdict: Verdict::Rejected,
                reason: Reason::IdConflict,
            }),
            LogEntry::Gap(gap()),
        ];
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for entry in &entries {
            entry.write(&mut bytes);
            ends.push(bytes.len());
        }
        for end in 0..=bytes.len() {
            let whole = ends.iter().position(|known| *known == end);
            let expected = whole.map(|count| entries[..count].to_vec());
            assert_eq!(LogEntry::parse_all(&bytes[..end]), expected, "cut at {end}");
        }
    }
}
