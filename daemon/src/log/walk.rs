//! Reading one segment from its start, group by group, as recovery does.

use std::cell::RefCell;
use std::io;

use crate::disk::DiskFile;
use crate::format::{
    ALIGN, GROUP_HEADER_BYTES, GROUP_MAGIC, GroupHeader, SEGMENT_HEADER_BYTES, SegmentHeader,
    u32_at, u64_at,
};
use crate::merkle::Hash;

/// Where the log is: what the next group must follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub group: u64,
    pub chain: Hash,
    pub root: Hash,
    pub next_seq: u64,
}

impl Position {
    /// Before the first group.
    #[must_use]
    pub const fn start() -> Self {
        Self { group: 0, chain: [0; 32], root: [0; 32], next_seq: 1 }
    }

    #[must_use]
    pub fn after(header: &GroupHeader) -> Self {
        Self {
            group: header.group,
            chain: header.hash(),
            root: header.root,
            next_seq: header.next_seq(),
        }
    }

    #[must_use]
    pub fn before(header: &SegmentHeader) -> Self {
        Self {
            group: header.before_group,
            chain: header.before_chain,
            root: header.before_root,
            next_seq: header.before_next_seq,
        }
    }
}

/// A group as it stands in its segment.
pub struct Found {
    pub offset: u64,
    pub header: GroupHeader,
    /// Entries, then records.
    pub body: Vec<u8>,
}

impl Found {
    #[must_use]
    pub fn entries(&self) -> &[u8] {
        &self.body[..self.header.entries_bytes as usize]
    }

    #[must_use]
    pub fn records(&self) -> &[u8] {
        &self.body[self.header.entries_bytes as usize..]
    }
}

/// Bytes that held acknowledged groups and cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    pub offset: u64,
    pub bytes: u64,
    pub first_seq: u64,
    pub last_seq: u64,
}

/// What follows the last valid group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing that this segment's life has written.
    Unwritten,
    /// The beginnings of a group that was never whole: a crash in mid-write.
    Torn,
}

pub struct Walk {
    pub position: Position,
    /// Just behind the last valid group.
    pub end_offset: u64,
    pub groups: u64,
    pub holes: Vec<Hole>,
    pub tail: Tail,
    /// The disk refused to give bytes behind the last group. What comes next tells how far that
    /// reached; where nothing comes next, acknowledged groups may stand there.
    pub refused: Option<io::Error>,
}

/// What is read of a file, and whether the disk refused any of it.
struct Noting<'a, F> {
    file: &'a F,
    refused: RefCell<Option<io::Error>>,
}

pub trait Readable {
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<usize>;
}

impl<F: DiskFile> Readable for F {
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.read_at(offset, out)
    }
}

impl<F: DiskFile> Readable for Noting<'_, F> {
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, out).inspect_err(|error| {
            *self.refused.borrow_mut() = error.raw_os_error().map(io::Error::from_raw_os_error);
        })
    }
}

/// Reads like [`DiskFile::read_at`], but a sector that the disk cannot give is damage, not an
/// error: nothing of such a range is read.
pub fn read_what_is_left(file: &impl Readable, offset: u64, out: &mut [u8]) -> io::Result<usize> {
    match file.read(offset, out) {
        Err(error) if is_refused(&error) => Ok(0),
        result => result,
    }
}

/// Whether the disk cannot give what is stored there: EIO.
pub fn is_refused(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// The group at `offset`, if it is whole and of this segment's life.
pub fn group_at(
    file: &impl Readable,
    offset: u64,
    end: u64,
    salt: u64,
) -> io::Result<Option<Found>> {
    let mut head = [0; GROUP_HEADER_BYTES];
    if read_what_is_left(file, offset, &mut head)? < head.len() {
        return Ok(None);
    }
    let Some(header) = GroupHeader::parse(&head).filter(|header| {
        header.salt == salt && offset + GROUP_HEADER_BYTES as u64 + header.body_bytes() <= end
    }) else {
        return Ok(None);
    };
    let mut body = vec![0; usize::try_from(header.body_bytes()).expect("bounded by the format")];
    let read = read_what_is_left(file, offset + GROUP_HEADER_BYTES as u64, &mut body)?;
    let whole = read == body.len();
    let found = whole && crc32c::crc32c(&body) == header.body_crc;
    Ok(found.then_some(Found { offset, header, body }))
}

/// Walks the groups of a segment up to `end`, giving each to `visit`.
///
/// A group that does not follow the one before is damage, never an end, when a valid one with a
/// higher number comes behind it: acknowledged bytes were between.
pub fn walk(
    file: &impl DiskFile,
    segment: &SegmentHeader,
    end: u64,
    mut visit: impl FnMut(Found),
) -> io::Result<Walk> {
    let end = end.min(file.bytes()?);
    let mut position = Position::before(segment);
    let mut offset = SEGMENT_HEADER_BYTES;
    let mut walk = Walk {
        position,
        end_offset: offset,
        groups: 0,
        holes: Vec::new(),
        tail: Tail::Unwritten,
        refused: None,
    };
    let file = &Noting { file, refused: RefCell::new(None) };
    while offset < end {
        let found = group_at(file, offset, end, segment.salt)?;
        let copied = |header: &GroupHeader| {
            walk.groups == 0 && header.group == position.group && header.hash() == position.chain
        };
        let follows = |header: &GroupHeader| {
            header.group == position.group + 1
                && header.chain == position.chain
                && header.first_seq == position.next_seq
        };
        let next = match found {
            Some(found) if follows(&found.header) || copied(&found.header) => Some(found),
            _ => {
                let later = later_group(file, offset + ALIGN, end, segment.salt, position.group)?;
                if let Some(later) = &later {
                    walk.holes.push(Hole {
                        offset,
                        bytes: later.offset - offset,
                        first_seq: position.next_seq,
                        last_seq: later.header.first_seq - 1,
                    });
                }
                later
            }
        };
        let Some(found) = next else {
            walk.tail = tail_at(file, offset, segment.salt)?;
            walk.refused = file.refused.take();
            break;
        };
        file.refused.take();
        let next_seq = position.next_seq.max(found.header.next_seq());
        position = Position { next_seq, ..Position::after(&found.header) };
        offset = found.offset + found.header.group_bytes();
        walk.groups += 1;
        walk.end_offset = offset;
        visit(found);
    }
    walk.position = position;
    Ok(walk)
}

/// The next valid group of this life behind a damaged place.
fn later_group(
    file: &impl Readable,
    mut offset: u64,
    end: u64,
    salt: u64,
    above: u64,
) -> io::Result<Option<Found>> {
    while offset < end {
        match group_at(file, offset, end, salt)? {
            Some(found) if found.header.group > above => return Ok(Some(found)),
            _ => offset += ALIGN,
        }
    }
    Ok(None)
}

fn tail_at(file: &impl Readable, offset: u64, salt: u64) -> io::Result<Tail> {
    let mut head = [0; GROUP_HEADER_BYTES];
    let read = read_what_is_left(file, offset, &mut head)?;
    let ours = match GroupHeader::parse(&head) {
        Some(header) => header.salt == salt,
        // Whichever of the two was damaged, the other one still tells.
        None => read > 0 && (u32_at(&head, 0) == GROUP_MAGIC || u64_at(&head, 8) == salt),
    };
    Ok(if ours { Tail::Torn } else { Tail::Unwritten })
}
