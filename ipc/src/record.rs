//! The bytes of one event: as a producer hands it over, and as the log keeps it.
//!
//! ```text
//! payload of a client frame (what the library writes)
//!   0  attributes_bytes u32 │ flags u8 │ zero u8 ×3 │ attributes │ data
//!
//! record (what the worker makes of it, what is logged, what the leaf hashes), 8-aligned
//!   0  bytes u32      of the whole record, without the padding to 8
//!   4  version u8 = 1 │ kind u8 = 1 │ verdict u8 │ flags u8
//!   8  tenant_no u32  │ attributes_bytes u32
//!  16  producer_no u64
//!  24  ticket u64
//!  32  attributes, data
//!
//! attribute: tag u8 │ length u16 │ value; tags ascend, each at most once, absent means not given
//! ```
//!
//! Both share `attributes │ data` byte for byte and 8-aligned, so the worker copies them once. All
//! integers are little-endian. A record has no `seq` and no commit time: `seq` is the group's
//! `first_seq` plus its index, the time is the group's.

use crate::verdict::Verdict;

pub const PREFIX_BYTES: usize = 8;
pub const RECORD_HEADER_BYTES: usize = 32;
pub const RECORD_VERSION: u8 = 1;
/// An event. A kind with the top bit set must be understood by whoever reads on.
pub const KIND_EVENT: u8 = 1;
pub const KIND_MUST_UNDERSTAND: u8 = 0x80;

/// Data is opaque bytes (column `data_bytes`), not JSON.
pub const FLAG_OPAQUE: u8 = 1;

pub const EXTENSIONS_COUNT_MAX: usize = 32;

/// The attributes of an event, in the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Tag {
    Type = 1,
    Id = 2,
    Subject = 3,
    Time = 4,
    /// Only when it is not the session's own source.
    Source = 5,
    DataSchema = 6,
    ContentType = 7,
    /// A flat JSON object, as text.
    Extensions = 8,
}

impl Tag {
    pub const ALL: [Self; 8] = [
        Self::Type,
        Self::Id,
        Self::Subject,
        Self::Time,
        Self::Source,
        Self::DataSchema,
        Self::ContentType,
        Self::Extensions,
    ];

    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|tag| *tag as u8 == code)
    }

    /// The attribute's name in CloudEvents' words, for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Id => "id",
            Self::Subject => "subject",
            Self::Time => "time",
            Self::Source => "source",
            Self::DataSchema => "dataschema",
            Self::ContentType => "content_type",
            Self::Extensions => "extensions",
        }
    }

    /// The longest value, in bytes.
    #[must_use]
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Type | Self::Id | Self::Source | Self::ContentType => 255,
            Self::Subject | Self::DataSchema => 1024,
            Self::Time => 64,
            Self::Extensions => 16 * 1024,
        }
    }
}

/// The attributes of one event, borrowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    values: [Option<&'a [u8]>; 8],
}

impl<'a> Attributes<'a> {
    #[must_use]
    pub fn get(&self, tag: Tag) -> Option<&'a [u8]> {
        self.values[tag as usize - 1]
    }

    pub fn set(&mut self, tag: Tag, value: Option<&'a [u8]>) {
        self.values[tag as usize - 1] = value;
    }

    /// Parses what [`Attributes::write`] wrote. `None`: the framing is wrong (tags, order,
    /// lengths). Whether the values themselves are proper is not looked at.
    #[must_use]
    pub fn parse(mut bytes: &'a [u8]) -> Option<Self> {
        let mut attributes = Self::default();
        let mut last = 0;
        while let [code, low, high, rest @ ..] = bytes {
            let tag = Tag::from_code(*code)?;
            let length = usize::from(u16::from_le_bytes([*low, *high]));
            if *code <= last || length > rest.len() {
                return None;
            }
            let (value, rest) = rest.split_at(length);
            attributes.set(tag, Some(value));
            last = *code;
            bytes = rest;
        }
        bytes.is_empty().then_some(attributes)
    }

    #[must_use]
    pub fn bytes(&self) -> usize {
        self.values.iter().flatten().map(|value| 3 + value.len()).sum()
    }

    /// Writes the attributes to the start of `out`, which is exactly [`Attributes::bytes`] long.
    pub fn write_to(&self, mut out: &mut [u8]) {
        for tag in Tag::ALL {
            if let Some(value) = self.get(tag) {
                let length = u16::try_from(value.len()).expect("attribute checked by the caller");
                let (head, rest) = out.split_at_mut(3);
                head[0] = tag as u8;
                head[1..].copy_from_slice(&length.to_le_bytes());
                let (body, rest) = rest.split_at_mut(value.len());
                body.copy_from_slice(value);
                out = rest;
            }
        }
        assert!(out.is_empty());
    }

    /// Appends the attributes to `out`. Every value is at most `u16::MAX` long, as the caller
    /// checked.
    pub fn write(&self, out: &mut Vec<u8>) {
        for tag in Tag::ALL {
            if let Some(value) = self.get(tag) {
                let length = u16::try_from(value.len()).expect("attribute checked by the caller");
                out.push(tag as u8);
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(value);
            }
        }
    }
}

/// Writes the payload of a client frame behind whatever `out` holds.
pub fn write_payload(out: &mut Vec<u8>, attributes: &Attributes<'_>, flags: u8, data: &[u8]) {
    let bytes = u32::try_from(attributes.bytes()).expect("attributes are bounded");
    out.extend_from_slice(&bytes.to_le_bytes());
    out.extend_from_slice(&[flags, 0, 0, 0]);
    attributes.write(out);
    out.extend_from_slice(data);
}

/// Writes the payload of a client frame over `out`, which is exactly as long as the payload is.
pub fn write_payload_to(out: &mut [u8], attributes: &Attributes<'_>, flags: u8, data: &[u8]) {
    let attributes_bytes = attributes.bytes();
    let bytes = u32::try_from(attributes_bytes).expect("attributes are bounded");
    let (prefix, rest) = out.split_at_mut(PREFIX_BYTES);
    prefix[..4].copy_from_slice(&bytes.to_le_bytes());
    prefix[4..].copy_from_slice(&[flags, 0, 0, 0]);
    let (head, body) = rest.split_at_mut(attributes_bytes);
    attributes.write_to(head);
    body.copy_from_slice(data);
}

/// The fixed head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Of the whole record, without padding.
    pub bytes: u32,
    pub kind: u8,
    pub verdict: Verdict,
    pub flags: u8,
    pub tenant_no: u32,
    pub attributes_bytes: u32,
    pub producer_no: u64,
    pub ticket: u64,
}

impl RecordHeader {
    pub fn write(&self, out: &mut [u8]) {
        out[0..4].copy_from_slice(&self.bytes.to_le_bytes());
        out[4..8].copy_from_slice(&[RECORD_VERSION, self.kind, self.verdict as u8, self.flags]);
        out[8..12].copy_from_slice(&self.tenant_no.to_le_bytes());
        out[12..16].copy_from_slice(&self.attributes_bytes.to_le_bytes());
        out[16..24].copy_from_slice(&self.producer_no.to_le_bytes());
        out[24..32].copy_from_slice(&self.ticket.to_le_bytes());
    }

    /// `None`: not a record of this version, or lengths that do not fit into `bytes`.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.get(..RECORD_HEADER_BYTES)?;
        let u32_at = |at: usize| u32::from_le_bytes(fixed[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(fixed[at..at + 8].try_into().expect("8 bytes"));
        let header = Self {
            bytes: u32_at(0),
            kind: fixed[5],
            verdict: Verdict::from_code(fixed[6]).filter(|verdict| verdict.has_seq())?,
            flags: fixed[7],
            tenant_no: u32_at(8),
            attributes_bytes: u32_at(12),
            producer_no: u64_at(16),
            ticket: u64_at(24),
        };
        let whole = header.bytes as usize;
        let fits = fixed[4] == RECORD_VERSION
            && whole <= bytes.len()
            && RECORD_HEADER_BYTES + header.attributes_bytes as usize <= whole;
        fits.then_some(header)
    }
}

/// One record, borrowed from the log.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub header: RecordHeader,
    pub attributes: Attributes<'a>,
    pub data: &'a [u8],
    /// The bytes that the leaf covers.
    pub bytes: &'a [u8],
}

impl<'a> Record<'a> {
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = RecordHeader::parse(bytes)?;
        let bytes = &bytes[..header.bytes as usize];
        let (attributes, data) =
            bytes[RECORD_HEADER_BYTES..].split_at(header.attributes_bytes as usize);
        Some(Self { header, attributes: Attributes::parse(attributes)?, data, bytes })
    }

    /// Bytes in the log: padded to 8.
    #[must_use]
    pub fn padded_bytes(&self) -> usize {
        self.bytes.len().next_multiple_of(8)
    }
}
