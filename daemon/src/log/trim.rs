//! `trim`: where the log begins, synced before anything older than that goes; and how far it may
//! have come, synced before the segment can be begun (`ending.rs`).
//!
//! Without it, a start cannot tell segments that were trimmed from the oldest ones having vanished:
//! both leave a log that begins later. With it, what goes was announced, and what is missing though
//! nobody announced it is a loss of exactly the numbers between.
//!
//! ```text
//! two slots of 4096 bytes, written in turn:
//!  0  magic 8 │ version u32 │ crc u32 (of all behind it)
//! 16  generation │ segment_no │ next_seq │ group     u64 each
//! 48  log uuid 16 │ chain 32 │ root 32
//! 128 newest segment made u64 │ its bytes u64
//! ```
//!
//! A slot is written over in place and not beside and renamed, because a trim is what makes room on
//! a full disk: it must not need any. A write that tears leaves the other slot, which is older: a
//! log that still holds more than its record promises is whole.

use std::io;
use std::path::Path;

use super::walk::read_what_is_left;
use crate::disk::{Disk, DiskFile};
use crate::format::{SegmentHeader, u32_at, u64_at};
use crate::merkle::Hash;

pub const NAME: &str = "trim";
const MAGIC: [u8; 8] = *b"certeusT";
const VERSION: u32 = 2;
const SLOT_BYTES: u64 = 4096;
const RECORD_BYTES: usize = 144;

/// The beginning of the log: the lowest segment that stays, and where the log stands before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrimPoint {
    pub log_uuid: [u8; 16],
    pub segment_no: u64,
    /// The number of the first event in it.
    pub next_seq: u64,
    pub group: u64,
    pub chain: Hash,
    pub root: Hash,
}

/// The newest segment that was ever made whole: none above it was ever begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    pub segment_no: u64,
    pub bytes: u64,
}

impl From<&SegmentHeader> for TrimPoint {
    fn from(header: &SegmentHeader) -> Self {
        Self {
            log_uuid: header.log_uuid,
            segment_no: header.segment_no,
            next_seq: header.before_next_seq,
            group: header.before_group,
            chain: header.before_chain,
            root: header.before_root,
        }
    }
}

impl TrimPoint {
    fn encode(&self, generation: u64, newest: Newest) -> Vec<u8> {
        let mut out = Vec::with_capacity(RECORD_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for word in [generation, self.segment_no, self.next_seq, self.group] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.log_uuid);
        out.extend_from_slice(&self.chain);
        out.extend_from_slice(&self.root);
        out.extend_from_slice(&newest.segment_no.to_le_bytes());
        out.extend_from_slice(&newest.bytes.to_le_bytes());
        let crc = crc32c::crc32c(&out[16..]);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(out.len(), RECORD_BYTES);
        out
    }

    fn decode(bytes: &[u8]) -> Option<(u64, Self, Newest)> {
        let bytes = bytes.get(..RECORD_BYTES)?;
        let proper = bytes[..8] == MAGIC
            && u32_at(bytes, 8) == VERSION
            && u32_at(bytes, 12) == crc32c::crc32c(&bytes[16..]);
        let point = Self {
            log_uuid: bytes[48..64].try_into().expect("16 bytes"),
            segment_no: u64_at(bytes, 24),
            next_seq: u64_at(bytes, 32),
            group: u64_at(bytes, 40),
            chain: bytes[64..96].try_into().expect("32 bytes"),
            root: bytes[96..128].try_into().expect("32 bytes"),
        };
        let newest = Newest { segment_no: u64_at(bytes, 128), bytes: u64_at(bytes, 136) };
        proper.then(|| (u64_at(bytes, 16), point, newest))
    }
}

/// The newest record, and its generation. `None`: there is none, or none that can be read.
pub fn read<D: Disk>(disk: &D, dir: &Path) -> io::Result<Option<(u64, TrimPoint, Newest)>> {
    match disk.open(&dir.join(NAME), false) {
        Ok(file) => newest(&file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the log begins, by the record's bytes: for readers, who need no right to write.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<TrimPoint> {
    let slots = bytes.chunks(usize::try_from(SLOT_BYTES).expect("fits memory"));
    let points = slots.filter_map(TrimPoint::decode);
    points.max_by_key(|(generation, ..)| *generation).map(|(_, point, _)| point)
}

fn newest<F: DiskFile>(file: &F) -> io::Result<Option<(u64, TrimPoint, Newest)>> {
    let mut slots = [None; 2];
    for (slot, found) in (0..).zip(&mut slots) {
        let mut bytes = [0; RECORD_BYTES];
        let read = read_what_is_left(file, slot * SLOT_BYTES, &mut bytes)?;
        *found = TrimPoint::decode(&bytes[..read]);
    }
    Ok(slots.into_iter().flatten().max_by_key(|(generation, ..)| *generation))
}

/// The record, open for writing.
pub struct Record<F> {
    file: F,
    generation: u64,
    point: TrimPoint,
    newest: Newest,
}

impl<F: DiskFile> Record<F> {
    /// Opens the record, and makes its file, whole, where there is none.
    ///
    /// Errors: the disk's. The record is as before.
    pub fn open<D: Disk<File = F>>(disk: &D, dir: &Path) -> io::Result<Self> {
        let path = dir.join(NAME);
        let known = match disk.open(&path, false) {
            Ok(file) if file.bytes()? == 2 * SLOT_BYTES => Some(file),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let file = match known {
            Some(file) => file,
            None => {
                let beside = dir.join("trim.new");
                let file = disk.open(&beside, true)?;
                file.write_at(0, &[0; 2 * SLOT_BYTES as usize])?;
                file.truncate(2 * SLOT_BYTES)?;
                file.sync()?;
                disk.rename(&beside, &path)?;
                disk.sync_dir(dir)?;
                file
            }
        };
        let (generation, point, newest) = newest(&file)?.unwrap_or_default();
        Ok(Self { file, generation, point, newest })
    }

    /// The log that the record is of; zeros for none.
    #[must_use]
    pub fn log_uuid(&self) -> [u8; 16] {
        self.point.log_uuid
    }

    /// Makes the record durable; what is below it may go as soon as this has returned.
    ///
    /// Errors: the disk's. This or the record before counts: nothing may go.
    pub fn write(&mut self, point: TrimPoint) -> io::Result<()> {
        self.write_both(point, self.newest)
    }

    /// Makes durable that no segment above `newest` was ever begun; the beginning stays.
    ///
    /// Errors: the disk's. This or the record before counts: nothing may be begun above that.
    pub fn write_newest(&mut self, newest: Newest) -> io::Result<()> {
        self.write_both(self.point, newest)
    }

    /// Makes both durable.
    pub fn write_both(&mut self, point: TrimPoint, newest: Newest) -> io::Result<()> {
        self.generation += 1;
        let at = self.generation % 2 * SLOT_BYTES;
        self.file.write_at(at, &point.encode(self.generation, newest))?;
        self.file.sync()?;
        (self.point, self.newest) = (point, newest);
        Ok(())
    }
}

/// The beginning of a log whose lowest segment is `segment_no`; without a readable header, only
/// number and `next_seq` are known, and the log by what was recorded `before`.
pub fn point_at<D: Disk>(
    disk: &D,
    dir: &Path,
    segment_no: u64,
    next_seq: u64,
    before: [u8; 16],
) -> io::Result<TrimPoint> {
    let file = disk.open(&dir.join(super::recovery::segment_name(segment_no)), false)?;
    let mut head = vec![0; crate::format::SEGMENT_HEADER_BYTES as usize];
    let read = read_what_is_left(&file, 0, &mut head)?;
    Ok(match SegmentHeader::parse(&head[..read]) {
        Some(header) => TrimPoint::from(&header),
        None => TrimPoint { log_uuid: before, segment_no, next_seq, ..TrimPoint::default() },
    })
}
