//! Rows as PostgreSQL's binary COPY wants them, straight from the log's bytes.
//!
//! ```text
//! signature 11 │ flags 4 │ extension 4 │ row │ row │ ... │ trailer 0xffff
//! row    i16 count = 17 │ field ...      field  i32 bytes (-1: NULL) │ value, big-endian
//! ```
//!
//! The order of the columns is that of [`COLUMNS`], whatever the table's is: COPY names them.
//! Source: PostgreSQL documentation, COPY, "Binary Format".

use std::ops::{Deref, Range};

use certeus_ipc::record::{FLAG_OPAQUE, Tag};

use crate::reader::batch::{Batch, RowView};
use crate::validate::time::parse_rfc3339;

/// The columns of `events`, in the order in which rows are encoded.
pub const COLUMNS: [&str; 17] = [
    "log_id",
    "seq",
    "recorded_at",
    "time",
    "tenant",
    "source",
    "id",
    "type",
    "subject",
    "dataschema",
    "content_type",
    "verdict",
    "producer_no",
    "ticket",
    "data",
    "data_bytes",
    "extensions",
];

const SIGNATURE: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = [0xff, 0xff];
const NULL: [u8; 4] = [0xff; 4];
/// 2000-01-01 in microseconds of the Unix clock: where PostgreSQL's timestamps begin.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;
/// Everything of a row but its texts and data.
const ROW_BYTES_FIXED: usize = 2 + COLUMNS.len() * 4 + 4 + 5 * 8 + 16;

/// The type of the column `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    /// The logged bytes.
    Json,
    /// The same behind a version byte, to be parsed by the server.
    Jsonb,
}

/// Makes a complete COPY stream of some rows, chunk by chunk, into a buffer that stays in cache.
///
/// Nanoseconds are cut off, not rounded: `recorded_at` and `time` have microseconds.
pub struct Encoder<B> {
    batch: B,
    rows: Range<usize>,
    log_id: i32,
    data: DataType,
    begun: bool,
    ended: bool,
}

impl<B: Deref<Target = Batch>> Encoder<B> {
    #[must_use]
    pub fn new(batch: B, rows: Range<usize>, log_id: i32, data: DataType) -> Self {
        Self { batch, rows, log_id, data, begun: false, ended: false }
    }

    /// Replaces what `out` holds by the next chunk: `chunk_bytes` and at most one row more. False:
    /// there is none.
    pub fn next_chunk(&mut self, chunk_bytes: usize, out: &mut Vec<u8>) -> bool {
        out.clear();
        if self.ended {
            return false;
        }
        if !self.begun {
            out.extend_from_slice(SIGNATURE);
            self.begun = true;
        }
        while out.len() < chunk_bytes {
            let Some(index) = self.rows.next() else {
                out.extend_from_slice(&TRAILER);
                self.ended = true;
                break;
            };
            encode_row(&self.batch.row(index), self.log_id, self.data, out);
        }
        true
    }
}

fn encode_row(row: &RowView<'_>, log_id: i32, data: DataType, out: &mut Vec<u8>) {
    let record = &row.record;
    let attributes = &record.attributes;
    let (tenant, source) = row.producer.map_or((None, None), |producer| {
        (Some(producer.tenant.as_bytes()), Some(producer.source.as_bytes()))
    });
    let source = attributes.get(Tag::Source).or(source);
    let names = tenant.map_or(0, <[u8]>::len) + source.map_or(0, <[u8]>::len);
    out.reserve(ROW_BYTES_FIXED + record.bytes.len() + names);

    let mut head = [0; 34];
    head[0..2].copy_from_slice(&(COLUMNS.len() as i16).to_be_bytes());
    head[2..6].copy_from_slice(&4_i32.to_be_bytes());
    head[6..10].copy_from_slice(&log_id.to_be_bytes());
    head[10..14].copy_from_slice(&8_i32.to_be_bytes());
    head[14..22].copy_from_slice(&row.seq.to_be_bytes());
    head[22..26].copy_from_slice(&8_i32.to_be_bytes());
    head[26..34].copy_from_slice(&timestamp(row.recorded_at_ns).to_be_bytes());
    out.extend_from_slice(&head);
    match attributes.get(Tag::Time).and_then(parse_rfc3339) {
        Some(time) => long(out, time as u64),
        None => out.extend_from_slice(&NULL),
    }
    for value in [
        tenant,
        source,
        attributes.get(Tag::Id),
        attributes.get(Tag::Type),
        attributes.get(Tag::Subject),
        attributes.get(Tag::DataSchema),
        attributes.get(Tag::ContentType),
        Some(record.header.verdict.word().as_bytes()),
    ] {
        field(out, value);
    }
    long(out, record.header.producer_no);
    long(out, record.header.ticket);
    encode_data(row, data, out);
    field(out, attributes.get(Tag::Extensions));
}

/// The fields `data` and `data_bytes`: one of them, or none for an event without data.
fn encode_data(row: &RowView<'_>, data: DataType, out: &mut Vec<u8>) {
    let record = &row.record;
    if record.header.flags & FLAG_OPAQUE != 0 {
        out.extend_from_slice(&NULL);
        field(out, Some(record.data));
        return;
    }
    if record.data.is_empty() {
        out.extend_from_slice(&NULL);
    } else if data == DataType::Jsonb {
        out.extend_from_slice(&(record.data.len() as u32 + 1).to_be_bytes());
        out.push(1);
        out.extend_from_slice(record.data);
    } else {
        field(out, Some(record.data));
    }
    out.extend_from_slice(&NULL);
}

#[inline]
fn field(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        Some(value) => {
            out.extend_from_slice(&(value.len() as u32).to_be_bytes());
            out.extend_from_slice(value);
        }
        None => out.extend_from_slice(&NULL),
    }
}

#[inline]
fn long(out: &mut Vec<u8>, value: u64) {
    let mut bytes = [0; 12];
    bytes[0..4].copy_from_slice(&8_i32.to_be_bytes());
    bytes[4..12].copy_from_slice(&value.to_be_bytes());
    out.extend_from_slice(&bytes);
}

/// Microseconds since 2000-01-01 UTC.
#[inline]
fn timestamp(unix_ns: u64) -> i64 {
    (unix_ns / 1000) as i64 - POSTGRES_EPOCH_US
}
