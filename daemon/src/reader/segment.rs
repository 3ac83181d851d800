//! One segment file: its name, its header, and finding groups in it.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Error, Result};
use crate::direct::Direct;
use crate::format::{
    ALIGN, GROUP_HEADER_BYTES, GroupHeader, LogEntry, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use crate::gap::GapEntry;
use crate::inode;
use crate::pages::{PAGE, Pool, Pooled, is_aligned};

pub const FIRST_GROUP_OFFSET: u64 = SEGMENT_HEADER_BYTES;

/// Read ahead at least this much; doubled while a batch grows, up to the second figure.
const READ_BYTES_MIN: usize = 64 * 1024;
const READ_BYTES_MAX: usize = 2 * 1024 * 1024;

#[must_use]
pub fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.log"))
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { doing, path, source }
}

/// The numbers of all segment files, ascending; no directory is no segments.
pub fn numbers(dir: &Path) -> Result<Vec<u64>> {
    numbers_of(dir, ".log")
}

/// The same of files with another ending.
pub fn numbers_of(dir: &Path, ending: &str) -> Result<Vec<u64>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io("list", dir)(error)),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(io("list", dir))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(ending));
        if let Some(digits) = number.filter(|digits| digits.len() == 20) {
            numbers.extend(digits.parse::<u64>().ok());
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The header of segment `number`, if that file is there and is (already, still) that segment.
pub fn header_of(dir: &Path, number: u64) -> Result<Option<SegmentHeader>> {
    let path = path_of(dir, number);
    match File::open(&path) {
        Ok(file) => read_header(&file, number, &path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io("open", &path)(error)),
    }
}

fn read_header(file: &File, number: u64, path: &Path) -> Result<Option<SegmentHeader>> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(SegmentHeader::parse(&bytes).filter(|header| header.segment_no == number)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(io("read", path)(error)),
    }
}

/// Headers of all segments that have a proper one, ascending.
pub fn active_headers(dir: &Path) -> Result<Vec<SegmentHeader>> {
    let mut headers = Vec::new();
    for number in numbers(dir)? {
        headers.extend(header_of(dir, number)?);
    }
    Ok(headers)
}

/// The next segment after `number` that has a proper header.
pub fn successor_of(dir: &Path, number: u64) -> Result<Option<SegmentHeader>> {
    for later in numbers(dir)?.into_iter().filter(|later| *later > number) {
        if let Some(header) = header_of(dir, later)? {
            return Ok(Some(header));
        }
    }
    Ok(None)
}

/// An open segment, shared-locked for as long as this lives.
pub struct Segment {
    pub number: u64,
    /// `None`: damaged, and the groups are known by their chain only.
    pub header: Option<SegmentHeader>,
    pub successor: Option<SegmentHeader>,
    /// Bytes before the end could not be read: a gap told by the successor is theirs.
    pub damaged: bool,
    salt: Option<u64>,
    file: File,
    direct: Direct,
    path: PathBuf,
}

impl Segment {
    /// `None`: not there, not active, or just being recycled. `headless`: a damaged header will do.
    pub fn open(dir: &Path, number: u64, headless: bool) -> Result<Option<Self>> {
        let path = path_of(dir, number);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io("open", &path)(error)),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(io("lock", &path)(error.into())),
        }
        // Read behind the lock: from here on nobody makes another segment of this file.
        let header = read_header(&file, number, &path)?;
        let salt = header.map(|header| header.salt);
        let (successor, direct) = (None, Direct::default());
        let segment = Self { number, header, successor, damaged: false, salt, file, direct, path };
        Ok((header.is_some() || headless).then_some(segment))
    }

    /// Whether the file still is the segment that was opened.
    pub fn is_unchanged(&self) -> Result<bool> {
        let Some(header) = self.header else {
            return Ok(true);
        };
        self.direct.set(&self.file, false).map_err(io("read", &self.path))?;
        Ok(read_header(&self.file, self.number, &self.path)?
            .is_none_or(|now| now.salt == header.salt))
    }

    pub fn file_bytes(&self) -> Result<u64> {
        inode::bytes(&self.file).map_err(|error| io("read", &self.path)(error.into()))
    }

    /// All bytes from `offset` to the end of the file.
    pub fn read_all(&self, offset: u64) -> Result<Pooled> {
        let bytes = self.file_bytes()?.saturating_sub(offset);
        let mut window = Window::new(offset);
        window.fill(self, usize::try_from(bytes).expect("a segment fits into memory"))?;
        Ok(window.bytes)
    }

    /// The page of the header, or what there is of it.
    pub fn first_page(&self) -> Result<Pooled> {
        let mut window = Window::new(0);
        window.fill(self, SEGMENT_HEADER_BYTES as usize)?;
        let bytes = window.bytes.len().min(SEGMENT_HEADER_BYTES as usize);
        window.bytes.set_len(bytes);
        Ok(window.bytes)
    }

    /// Reads what is there at `offset`. The log writer writes past the kernel's cache, and so is
    /// read past it: each byte is read once.
    fn read_at(&self, out: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.direct.set(&self.file, is_aligned(offset, out))?;
        let read = self.file.read_at(out, offset);
        match read {
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                if self.direct.give_up(&self.file)? {
                    return self.file.read_at(out, offset);
                }
                Err(error)
            }
            read => read,
        }
    }

    /// Where the log ended in this segment, by its successor; the end of all offsets without one.
    #[must_use]
    pub fn end_offset(&self) -> u64 {
        match self.successor {
            Some(next) if next.before_segment_no == self.number => next.before_end_offset,
            Some(_) => self.file_bytes().unwrap_or(u64::MAX),
            None => u64::MAX,
        }
    }

    /// The header of the group at the window's position; `None` where no group of ours can be.
    pub fn header_at(
        &mut self,
        window: &mut Window,
        last: Option<&GroupHeader>,
    ) -> Result<Option<GroupHeader>> {
        if window.position() + GROUP_HEADER_BYTES as u64 > self.end_offset()
            || !window.fill(self, GROUP_HEADER_BYTES)?
        {
            return Ok(None);
        }
        let Some(header) = GroupHeader::parse(window.rest()) else {
            return Ok(None);
        };
        let in_bounds = header.group_bytes() <= self.end_offset() - window.position();
        Ok((in_bounds && self.is_ours(&header, last)).then_some(header))
    }

    fn is_ours(&mut self, header: &GroupHeader, last: Option<&GroupHeader>) -> bool {
        if let Some(salt) = self.salt {
            return header.salt == salt;
        }
        // The segment's header is damaged: the first link of the chain tells its salt.
        let linked =
            last.is_some_and(|last| header.chain == last.hash() || header.hash() == last.hash());
        if linked {
            self.salt = Some(header.salt);
        }
        linked
    }

    /// The gap records: they stand in the first group, or behind the copied one.
    pub fn recorded_gaps(&mut self) -> Result<Vec<GapEntry>> {
        let mut gaps = Vec::new();
        let mut window = Window::new(FIRST_GROUP_OFFSET);
        for _ in 0..2 {
            let header =
                if self.salt.is_some() { self.header_at(&mut window, None)? } else { None };
            let Some(header) = header else { break };
            if !self.body_is_whole(&mut window, &header)? {
                break;
            }
            let entries = &window.body(&header)[..header.entries_bytes as usize];
            gaps.extend(LogEntry::parse_all(entries).unwrap_or_default().into_iter().filter_map(
                |entry| match entry {
                    LogEntry::Gap(gap) => Some(gap),
                    _ => None,
                },
            ));
            window.advance(&header, false);
        }
        Ok(gaps)
    }

    /// Whether the body of the group at the window's position is there with its CRC.
    pub fn body_is_whole(&self, window: &mut Window, header: &GroupHeader) -> Result<bool> {
        let whole = GROUP_HEADER_BYTES + header.body_bytes() as usize;
        Ok(window.fill(self, whole)? && crc32c::crc32c(window.body(header)) == header.body_crc)
    }
}

#[cfg(test)]
thread_local! {
    /// What a writer does just before a window reads at an offset.
    pub static BEFORE_READ: std::cell::RefCell<Box<dyn FnMut(u64)>> =
        std::cell::RefCell::new(Box::new(|_| ()));
}

/// Bytes of a segment from some offset on, read ahead, and the position in them.
pub struct Window {
    bytes: Pooled,
    base: u64,
    at: usize,
    ahead: usize,
    bytes_max: usize,
}

impl Window {
    #[must_use]
    pub fn new(offset: u64) -> Self {
        Self::pooled(offset, &Pool::default(), usize::MAX)
    }

    /// A window of which about `bytes_max` bytes will be wanted: no more are read ahead.
    #[must_use]
    pub fn pooled(offset: u64, pool: &Pool, bytes_max: usize) -> Self {
        Self { bytes: pool.take(), base: offset, at: 0, ahead: READ_BYTES_MIN, bytes_max }
    }

    #[must_use]
    pub fn position(&self) -> u64 {
        self.base + self.at as u64
    }

    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    #[must_use]
    pub fn body(&self, header: &GroupHeader) -> &[u8] {
        &self.rest()[GROUP_HEADER_BYTES..GROUP_HEADER_BYTES + header.body_bytes() as usize]
    }

    /// Sees to it that `bytes` are there from the position on. False: the file is shorter.
    fn fill(&mut self, segment: &Segment, bytes: usize) -> Result<bool> {
        while self.bytes.len() < self.at + bytes {
            let from = self.bytes.len();
            let missing = (self.at + bytes - from).next_multiple_of(PAGE);
            let ahead = self.ahead.min(self.bytes_max.saturating_sub(from) / PAGE * PAGE);
            self.bytes.set_len(from + missing.max(ahead));
            self.ahead = (self.ahead * 2).min(READ_BYTES_MAX);
            let offset = self.base + from as u64;
            #[cfg(test)]
            BEFORE_READ.with_borrow_mut(|act| act(offset));
            let read = segment.read_at(&mut self.bytes.as_mut_slice()[from..], offset);
            let read = match read {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    self.bytes.set_len(from);
                    continue;
                }
                // A sector that cannot be read is damage like any other, not the end of reading.
                Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                    self.bytes.set_len(from);
                    return Ok(false);
                }
                Err(error) => return Err(io("read", &segment.path)(error)),
            };
            self.bytes.set_len(from + read);
            if read == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Steps behind the group; bytes of groups that are not `kept` are given back.
    pub fn advance(&mut self, header: &GroupHeader, kept: bool) {
        self.step(header.group_bytes() as usize, kept);
    }

    /// Steps behind the group, of which what was not read yet is not read any more.
    pub fn skip(&mut self, header: &GroupHeader) {
        let bytes = header.group_bytes() as usize;
        if self.at + bytes < self.bytes.len() {
            self.at += bytes;
            return;
        }
        if bytes > READ_BYTES_MIN {
            self.ahead = READ_BYTES_MIN;
        }
        self.base += (self.at + bytes) as u64;
        self.at = 0;
        self.bytes.set_len(0);
    }

    fn step(&mut self, bytes: usize, kept: bool) {
        self.at += bytes;
        if !kept && self.at >= READ_BYTES_MAX {
            self.base += self.at as u64;
            let gone = self.at.min(self.bytes.len());
            self.bytes.drain(gone);
            self.at = 0;
        }
    }

    /// Bytes before the position.
    #[must_use]
    pub fn passed_bytes(&self) -> usize {
        self.at
    }

    /// The bytes before the position: groups, each at a multiple of the alignment.
    #[must_use]
    pub fn into_passed(mut self) -> Pooled {
        self.bytes.set_len(self.at);
        self.bytes
    }
}

/// Looks for whole groups from an offset on, over damaged bytes too.
pub struct Scanner<'a> {
    pub segment: &'a mut Segment,
    pub window: Window,
    end: u64,
}

impl<'a> Scanner<'a> {
    pub fn new(segment: &'a mut Segment, offset: u64, end: u64) -> Self {
        Self { segment, window: Window::new(offset), end }
    }

    /// The next whole group that is `wanted`, at or behind the position, and its offset.
    ///
    /// Only a group with this segment's salt counts: what a producer wrote into its data cannot.
    pub fn next_group(
        &mut self,
        last: Option<&GroupHeader>,
        wanted: impl Fn(&GroupHeader) -> bool,
    ) -> Result<Option<(u64, GroupHeader)>> {
        let end = self.end.min(self.segment.file_bytes()?);
        while self.window.position() < end {
            let header = self.segment.header_at(&mut self.window, last)?;
            if let Some(header) = header.filter(|header| wanted(header)) {
                if self.segment.body_is_whole(&mut self.window, &header)? {
                    return Ok(Some((self.window.position(), header)));
                }
            }
            self.window.step(ALIGN as usize, false);
        }
        Ok(None)
    }

    pub fn body(&self, header: &GroupHeader) -> &[u8] {
        self.window.body(header)
    }

    pub fn advance(&mut self, header: &GroupHeader) {
        self.window.advance(header, false);
    }
}
