//! Reading the log: what followers, `certeus tail` and `certeus log` see of the segments.
//!
//! ```text
//!  segment N                          segment N+1
//! ┌────────┬───┬───┬───┬╌╌╌╌╌┐       ┌────────┬───┬───┬───┬╌╌╌╌╌┐
//! │ header │ 7 │ 8 │ 9 │ ??? │       │ header │ 9 │10 │11 │  0  │
//! └────────┴───┴───┴───┴╌╌╌╌╌┘       └───┬────┴───┴───┴───┴╌╌╌╌╌┘
//!                       ▲  before_end_offset │        ▲
//!                       └────────────────────┘        └ durable_seq: nothing beyond is looked at
//! ```
//!
//! Three rules make reading exact while the log writer writes, trims and restarts:
//!
//! 1. *Up to `durable_seq`.* The caller reads it first; a group beyond it does not exist yet.
//! 2. *The successor's header rules.* Where a segment with a proper header says that the log ended
//!    before it, nothing behind that end is read, even if it looks valid. A group that was copied
//!    over is taken once, by its number.
//! 3. *A gap is where the log goes on at a higher `seq`.* Bytes that are no group end nothing: the
//!    next valid group, or the next header's `before_next_seq`, tells the range that is missing,
//!    and gap records say which part is missing why. A batch ends before a gap.
//!
//! The segment being read is `flock`ed shared, so that the log writer does not recycle it; a file
//! that was recycled all the same shows by its salt and counts as trimmed, never as corrupt.

pub mod batch;
pub mod builder;
pub mod check;
pub mod files;
pub mod inspect;
pub mod position;
pub mod render;
pub mod seek;
pub mod segment;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::format::GroupHeader;
use crate::gap::GapEntry;
use crate::merkle::Hash;
use crate::pages::Pool;
use batch::{Batch, Builder, Gap, Producers, day_of};
use segment::{FIRST_GROUP_OFFSET, Scanner, Segment, Window};

/// Why the log cannot be read on. The reader stays where it was; trying again is safe.
#[derive(Debug)]
pub enum Error {
    Io {
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// A group whose CRC is right holds what this version cannot read.
    Unknown {
        segment_no: u64,
        offset: u64,
        what: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, path, source } => {
                write!(out, "cannot {doing} {}: {source}", path.display())
            }
            Self::Unknown { segment_no, offset, what } => write!(
                out,
                "cannot read the group at offset {offset} of segment {segment_no}: {what}"
            ),
        }
    }
}

impl std::error::Error for Error {}

pub type Result<T> = std::result::Result<T, Error>;

/// Why numbers are missing: stable words, as they stand in `certeus.gaps`.
pub mod reason {
    /// Bytes of the log that held acknowledged events cannot be read.
    pub const DAMAGED: &str = "damaged";
    /// A start found the log shorter than what was known to be acknowledged.
    pub const LOST: &str = "lost";
    /// A segment file is not there although older ones are.
    pub const MISSING: &str = "missing-segment";
    /// In the place of a segment was one of another log, or of another life of this one.
    pub const FOREIGN: &str = "foreign-segment";
    /// Segments were trimmed before this reader had read them.
    pub const TRIMMED: &str = "trimmed";
    /// A record of a kind that this version may skip.
    pub const UNKNOWN_KIND: &str = "unknown-kind";
}

/// Where a reader is: all groups up to this one have been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// 0: none yet.
    pub group: u64,
    pub root: Hash,
    pub next_seq: u64,
    pub epoch: u64,
}

impl Cursor {
    #[must_use]
    pub fn start() -> Self {
        Self { group: 0, root: [0; 32], next_seq: 1, epoch: 0 }
    }
}

/// Reads groups in order. Holds one segment open, shared-locked; owns no other state on disk.
pub struct LogReader {
    dir: PathBuf,
    cursor: Cursor,
    /// The group that `cursor` names, when it was read (a damaged header is bridged by its hash).
    last: Option<GroupHeader>,
    segment: Option<Segment>,
    offset: u64,
    producers: Producers,
    /// Why numbers that the segment's header leaves out are missing, where no record says it.
    arrival: &'static str,
    /// The gap records of the segment, oldest first.
    recorded: Vec<GapEntry>,
    pool: Pool,
    /// Nothing was found behind `offset` when `durable_seq` was this: no need to look again.
    searched: Option<(u64, u64, u64)>,
    /// The number to begin with, whose place is looked for once it is durable.
    wanted: Option<u64>,
}

impl LogReader {
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            cursor: Cursor::start(),
            last: None,
            segment: None,
            offset: FIRST_GROUP_OFFSET,
            producers: Producers::default(),
            arrival: reason::LOST,
            recorded: Vec::new(),
            pool: Pool::default(),
            searched: None,
            wanted: None,
        }
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Durable bytes that cannot be read, and behind which nothing is found (yet).
    #[must_use]
    pub fn stalled(&self) -> Option<(u64, u64)> {
        self.searched.map(|(segment_no, offset, _)| (segment_no, offset))
    }

    /// Goes on behind `cursor`. The first batch then finds its place, reading at most one segment.
    pub fn seek(&mut self, cursor: Cursor) {
        let dir = std::mem::take(&mut self.dir);
        let pool = self.pool.clone();
        *self = Self { cursor, pool, ..Self::new(&dir) };
    }

    /// The next whole groups of one UTC day that are durable: at most `rows_max` rows and
    /// `bytes_max` bytes, at least one group. A gap is a batch of its own, without rows.
    ///
    /// `durable_seq` is loaded (acquire) by the caller before the call.
    pub fn next_batch(
        &mut self,
        durable_seq: u64,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Option<Batch>> {
        if durable_seq < self.cursor.next_seq {
            return Ok(None);
        }
        self.find_wanted()?;
        loop {
            if self.segment.is_none() && !self.enter_by_cursor()? {
                return Ok(None);
            }
            self.look_for_successor()?;
            let (builder, stop) = self.gather(durable_seq, rows_max, bytes_max)?;
            if builder.groups() > 0 {
                return Ok(Some(builder.finish()));
            }
            if stop == Stop::NotDurable {
                return Ok(None);
            }
            match self.bridge(durable_seq)? {
                Bridge::Gap(batch) => return Ok(Some(*batch)),
                Bridge::Moved => {}
                Bridge::Nothing => return Ok(None),
            }
        }
    }

    /// Takes groups from the cursor on, out of this segment, until something stops it.
    fn gather(
        &mut self,
        durable_seq: u64,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<(Builder, Stop)> {
        let segment = self.segment.as_mut().expect("entered by the caller");
        let mut window = Window::pooled(self.offset, &self.pool, bytes_max);
        let mut builder = Builder::new(segment.number);
        let stop = loop {
            let at = window.position();
            let Some(header) = segment.header_at(&mut window, self.last.as_ref())? else {
                break Stop::NoGroup;
            };
            // The group of a gap record is told by the numbers before it, which are durable.
            let skipped = header.group <= self.cursor.group;
            let behind_a_gap = header.first_seq > self.cursor.next_seq && !skipped;
            if header.count == 0 && behind_a_gap && header.first_seq - 1 <= durable_seq {
                break Stop::NoGroup;
            }
            // A group without records ends where the one before does: only a later one tells of it.
            if header.next_seq().max(header.first_seq + 1) > durable_seq.saturating_add(1) {
                break Stop::NotDurable;
            }
            if !segment.body_is_whole(&mut window, &header)? {
                break Stop::NoGroup;
            }
            if !skipped && header.first_seq != self.cursor.next_seq {
                break Stop::NoGroup;
            }
            if !skipped && builder.is_full(&header, rows_max, bytes_max) {
                break Stop::Full;
            }
            let body = window.body(&header);
            let unknown = |what| Error::Unknown { segment_no: segment.number, offset: at, what };
            self.producers.take(&body[..header.entries_bytes as usize]).map_err(unknown)?;
            if !skipped {
                builder.push(&header, &window, &self.producers).map_err(unknown)?;
                self.cursor = Cursor {
                    group: header.group,
                    root: header.root,
                    next_seq: header.next_seq(),
                    epoch: header.epoch,
                };
            }
            if !skipped || header.group == self.cursor.group {
                self.last = Some(header);
            }
            window.advance(&header, !skipped);
            self.offset = window.position();
            self.searched = None;
        };
        builder.own(window);
        Ok((builder, stop))
    }

    /// Nothing to read at the cursor though more is durable: numbers are missing, the segment ends
    /// here, or it is damaged.
    fn bridge(&mut self, durable_seq: u64) -> Result<Bridge> {
        let segment = self.segment.as_mut().expect("entered by the caller");
        if !segment.is_unchanged()? {
            // Recycled under us in spite of the lock: what was not read yet is trimmed.
            self.segment = None;
            return Ok(Bridge::Moved);
        }
        if segment.successor.is_none() {
            segment.successor = segment::successor_of(&self.dir, segment.number)?;
        }
        let claim = self.claim()?;
        if claim > self.cursor.next_seq {
            let (next_seq, reason) = self.recorded_gap(claim);
            return Ok(self.gap_before(next_seq, reason));
        }
        let segment = self.segment.as_ref().expect("entered by the caller");
        if segment.successor.is_some() && self.offset >= segment.end_offset() {
            return self.enter_successor();
        }
        self.search(durable_seq)
    }

    /// Where the gap at the cursor ends, `claim` at the latest, and why it is there.
    fn recorded_gap(&self, claim: u64) -> (u64, &'static str) {
        let next = self.recorded.iter().find(|gap| gap.last_seq >= self.cursor.next_seq);
        match next {
            Some(gap) if gap.first_seq <= self.cursor.next_seq => {
                (claim.min(gap.last_seq + 1), gap.reason.word())
            }
            Some(gap) => (claim.min(gap.first_seq), self.arrival),
            None => (claim, self.arrival),
        }
    }

    /// The first number that this segment holds or ever held, by its header; a copied group comes
    /// before that.
    fn claim(&mut self) -> Result<u64> {
        let segment = self.segment.as_mut().expect("entered by the caller");
        let Some(header) = segment.header else {
            return Ok(0);
        };
        if self.offset == FIRST_GROUP_OFFSET {
            let mut window = Window::new(self.offset);
            if let Some(first) = segment.header_at(&mut window, self.last.as_ref())? {
                if first.group > self.cursor.group && segment.body_is_whole(&mut window, &first)? {
                    return Ok(first.first_seq.min(header.before_next_seq));
                }
            }
        }
        Ok(header.before_next_seq)
    }

    /// Bytes at the offset are damaged: goes to the next whole group behind them.
    fn search(&mut self, durable_seq: u64) -> Result<Bridge> {
        let segment = self.segment.as_mut().expect("entered by the caller");
        let key = (segment.number, self.offset, durable_seq);
        if self.searched == Some(key) {
            return Ok(Bridge::Nothing);
        }
        let (from, end, cursor) = (self.offset, segment.end_offset(), self.cursor);
        let found = Scanner::new(segment, from, end).next_group(self.last.as_ref(), |header| {
            if header.group > cursor.group {
                header.first_seq >= cursor.next_seq
            } else {
                header.next_seq() <= cursor.next_seq
            }
        })?;
        match found {
            Some((_, header)) if header.next_seq() > durable_seq.saturating_add(1) => {
                Ok(Bridge::Nothing)
            }
            Some((offset, header)) => {
                self.learn_of_before()?;
                self.offset = offset;
                let reason = if offset == from { reason::LOST } else { reason::DAMAGED };
                Ok(self.gap_before(header.first_seq, reason))
            }
            None if segment.successor.is_some() => {
                self.offset = end;
                segment.damaged = true;
                Ok(Bridge::Moved)
            }
            None => {
                self.searched = Some(key);
                Ok(Bridge::Nothing)
            }
        }
    }

    fn gap_before(&mut self, next_seq: u64, reason: &'static str) -> Bridge {
        if next_seq <= self.cursor.next_seq {
            return Bridge::Moved;
        }
        let gap = Gap { first_seq: self.cursor.next_seq, last_seq: next_seq - 1, reason };
        self.cursor.next_seq = next_seq;
        let segment_no = self.segment.as_ref().expect("a gap is found in a segment").number;
        Bridge::Gap(Box::new(Batch::of_gap(gap, &self.cursor, segment_no)))
    }

    /// The segment has been read up to its end: opens the next one.
    fn enter_successor(&mut self) -> Result<Bridge> {
        let before = self.segment.as_ref().expect("entered by the caller");
        let next = before.successor.expect("looked for by the caller");
        let (number, damaged) = (before.number, before.damaged);
        // A segment between the two is still part of the log, though its header is damaged.
        if next.before_segment_no > number {
            if let Some(mut segment) = Segment::open(&self.dir, number + 1, true)? {
                segment.successor = Some(next);
                self.enter(segment, reason::DAMAGED)?;
                return Ok(Bridge::Moved);
            }
        }
        let arrival = if next.before_segment_no > number {
            let trimmed = !segment::path_of(&self.dir, number).exists();
            if trimmed { reason::TRIMMED } else { reason::MISSING }
        } else if damaged {
            reason::DAMAGED
        } else {
            reason::LOST
        };
        match Segment::open(&self.dir, next.segment_no, false)? {
            Some(segment) => self.enter(segment, arrival)?,
            // Trimmed between the look at its header and now: find the place again.
            None => self.segment = None,
        }
        Ok(Bridge::Moved)
    }

    /// Opens the segment in which the group behind the cursor is, or will be.
    fn enter_by_cursor(&mut self) -> Result<bool> {
        let headers = segment::active_headers(&self.dir)?;
        let place = headers.iter().rposition(|header| header.before_group <= self.cursor.group);
        let Some(header) = headers.get(place.unwrap_or(0)) else {
            return Ok(false);
        };
        let Some(segment) = Segment::open(&self.dir, header.segment_no, false)? else {
            return Ok(false);
        };
        self.enter(segment, if place.is_some() { reason::LOST } else { reason::TRIMMED })?;
        Ok(true)
    }

    fn enter(&mut self, mut segment: Segment, arrival: &'static str) -> Result<()> {
        self.recorded = segment.recorded_gaps()?;
        self.segment = Some(segment);
        self.arrival = arrival;
        self.offset = FIRST_GROUP_OFFSET;
        self.producers.next_segment();
        self.searched = None;
        Ok(())
    }

    fn look_for_successor(&mut self) -> Result<()> {
        let segment = self.segment.as_mut().expect("entered by the caller");
        if segment.successor.is_none() {
            segment.successor = segment::header_of(&self.dir, segment.number + 1)?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// What is at the cursor is not the next group.
    NoGroup,
    NotDurable,
    Full,
}

enum Bridge {
    Gap(Box<Batch>),
    /// The cursor stands elsewhere now: look again.
    Moved,
    Nothing,
}

/// UTC day of a time, as `YYYYMMDD`.
#[must_use]
pub fn day(recorded_at_ns: u64) -> u32 {
    day_of(recorded_at_ns)
}
