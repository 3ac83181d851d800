//! A start: find the end of the log, what every producer was told, and which ids are known.
//!
//! Nothing is repaired in place. The caller opens a new segment whose header tells this end, copies
//! the last group into it and syncs it before anything found here is published: a group read here
//! may be in the page cache only. What is made of damage stands in `decision.rs`; this module sees
//! to it, segment by segment, and `newest.rs` to the last one.
//!
//! A sealed segment is not read: its sidecar says what a start needs of it, if it agrees with both
//! headers. So the time of a start is bounded by one segment, the ids of the window, and a header
//! for each segment, whatever else is kept.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use super::ages::Ages;
use super::decision::{self, Groups, Header, Reach};
use super::producers::Producers;
use super::progress::{Phase, Progress, naming};
use super::quarantine::{self, Range};
use super::replay::{recorded, remember, replay};
use super::sidecar::Sidecar;
use super::trim::{Newest, TrimPoint};
use super::walk::{Found, Hole, Position, Walk, group_at, walk};
use super::window::{Key, Window};
use crate::disk::Disk;
use crate::format::{ProducerEntry, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::gap::{GapEntry, GapReason};
use crate::merkle::Hash;

/// What a follower's synced position file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FollowerPosition {
    pub group: u64,
    pub seq: u64,
    pub root: Hash,
}

pub struct Settings {
    pub log_key: [u8; 32],
    pub dedup_keys: usize,
    pub dedup_producers: usize,
    pub follower: FollowerPosition,
    pub quarantine_dir: PathBuf,
    /// Which log was served from here before, by its segments: no other one is, and none is begun.
    pub served: Option<[u8; 16]>,
}

/// A segment that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub segment_no: u64,
    pub bytes: u64,
    pub first_seq: u64,
}

/// Numbers that acknowledged events had and that are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub first_seq: u64,
    pub last_seq: u64,
    pub reason: &'static str,
}

impl From<&GapEntry> for Gap {
    fn from(gap: &GapEntry) -> Self {
        Self { first_seq: gap.first_seq, last_seq: gap.last_seq, reason: gap.reason.word() }
    }
}

/// A file with a segment's name that was none of this log's, and what it was renamed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    pub segment_no: u64,
    /// The row of the decision table.
    pub label: &'static str,
    pub name: String,
}

pub struct Recovered {
    /// The row of the decision table for the newest segment, or what overrides it.
    pub label: &'static str,
    /// The row for each older segment, and for each file that was set aside.
    pub older: Vec<(u64, &'static str)>,
    /// Behind the last group stood the beginnings of another one.
    pub torn: bool,
    pub log_uuid: Option<[u8; 16]>,
    /// The highest epoch seen.
    pub epoch: u64,
    pub position: Position,
    pub last_group: Option<Found>,
    /// The segment in which the log ends, and the offset there; 0, 0 for none.
    pub end: (u64, u64),
    /// The number for the new segment.
    pub segment_no: u64,
    /// Zero-headed files ahead, to be used.
    pub spares: Vec<u64>,
    /// What was recorded of trims, if that is of this log.
    pub trimmed: Option<TrimPoint>,
    /// What was recorded as the newest segment made, if that is of this log.
    pub made: Option<Newest>,
    /// The newest segment that was ever begun, if there is such a record.
    pub begun_no: u64,
    pub kept: Vec<Kept>,
    /// `(segment_no, next_seq)` of every sidecar.
    pub sidecars: Vec<(u64, u64)>,
    /// Found now, and in no record yet.
    pub gaps: Vec<GapEntry>,
    pub aside: Vec<Aside>,
    /// Copies that could not be made.
    pub uncopied: Vec<quarantine::Failure>,
    pub groups_read: u64,
    pub producers: Producers,
    /// Who logs in the segment being read, by number. Their ids count, whoever is forgotten by now:
    /// who had a session was not, in the life that logged them.
    pub declared: HashMap<u64, ProducerEntry>,
    pub window: Window,
    /// Of the newest group read.
    pub recorded_at_ns: u64,
    /// How old an id is.
    pub ages: Ages,
    /// From here on the window has every id; below, a sidecar is gone that it needed.
    pub dedup_floor: u64,
}

#[must_use]
pub fn segment_name(segment_no: u64) -> String {
    format!("{segment_no:020}.log")
}

#[must_use]
pub fn numbers(names: &[String], ending: &str) -> Vec<u64> {
    let number = |name: &String| {
        let digits = name.strip_suffix(ending)?;
        let proper = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| proper)
    };
    let mut found: Vec<u64> = names.iter().filter_map(number).collect();
    found.sort_unstable();
    found
}

/// A file with a segment's name that is the log's.
pub(super) struct Item {
    pub number: u64,
    pub header: Header,
    pub valid: Option<SegmentHeader>,
    pub bytes: u64,
    /// The disk refused to give its first bytes.
    pub unreadable: bool,
}

/// Why the next number that is missing is missing, and where.
#[derive(Clone, Copy)]
pub(super) struct Cause {
    pub reason: GapReason,
    pub segment_no: u64,
    pub offset: u64,
    pub bytes: u64,
}

pub(super) const LOST: Cause =
    Cause { reason: GapReason::Lost, segment_no: 0, offset: 0, bytes: 0 };

pub(super) struct Segments<'a, D: Disk> {
    pub disk: &'a D,
    pub dir: &'a Path,
    pub settings: &'a Settings,
    pub progress: &'a Progress,
    /// What was ever begun, oldest first.
    pub used: Vec<Item>,
    pub found: Recovered,
    pub cause: Cause,
    /// No number below was ever free: what was set aside may have given it out.
    pub floor: u64,
    /// Where the log began when it was last trimmed, if that is what numbers are counted from.
    pub begin: Option<TrimPoint>,
    /// The sidecars that are worth reading, each checked against both headers.
    pub sidecars: BTreeMap<u64, Sidecar>,
}

/// Reads the log in `dir`, which the caller has locked.
///
/// Errors: what the disk itself refuses, and [`Missing`]; damage is decided on, not raised.
pub fn recover<D: Disk>(
    disk: &D,
    dir: &Path,
    settings: &Settings,
    progress: &Progress,
) -> io::Result<Recovered> {
    progress.phase(Phase::Looking);
    let names = disk.list(dir).map_err(naming(dir))?;
    let found = Recovered {
        label: "new",
        older: Vec::new(),
        torn: false,
        log_uuid: None,
        epoch: 0,
        position: Position::start(),
        last_group: None,
        end: (0, 0),
        segment_no: 1,
        spares: Vec::new(),
        trimmed: None,
        made: None,
        begun_no: 0,
        kept: Vec::new(),
        sidecars: Vec::new(),
        gaps: Vec::new(),
        aside: Vec::new(),
        uncopied: Vec::new(),
        groups_read: 0,
        producers: Producers::new(settings.dedup_producers),
        declared: HashMap::new(),
        window: Window::new(settings.dedup_keys),
        recorded_at_ns: 0,
        ages: Ages::default(),
        dedup_floor: 0,
    };
    let (used, sidecars) = (Vec::new(), BTreeMap::new());
    let (cause, floor, begin) = (LOST, 0, None);
    let mut segments =
        Segments { disk, dir, settings, progress, used, found, cause, floor, begin, sidecars };
    segments.look(&numbers(&names, ".log"))?;
    segments.begin()?;
    segments.are_of_the_served()?;
    progress.phase(Phase::Reading);
    let first = segments.plan(&numbers(&names, ".keys"))?;
    segments.load(first)?;
    segments.finish()
}

impl<D: Disk> Segments<'_, D> {
    pub(super) fn open(&self, segment_no: u64) -> io::Result<D::File> {
        let path = self.dir.join(segment_name(segment_no));
        self.disk.open(&path, false).map_err(naming(&path))
    }

    /// Where the log ends, bytes that the disk refuses cannot be told from such as were never
    /// written, and what they hold may be acknowledged: that is no end of a log, but of a process.
    pub(super) fn end_is_readable(
        &self,
        number: u64,
        refused: Option<io::Error>,
    ) -> io::Result<()> {
        let path = self.dir.join(segment_name(number));
        let told = |cause| format!("cannot read the end of the log, {}: {cause}", path.display());
        refused.map_or(Ok(()), |cause| Err(io::Error::other(told(cause))))
    }

    pub(super) fn load(&mut self, first: usize) -> io::Result<()> {
        let oldest = self.used.first().map_or(u64::MAX, |item| item.number);
        let gone: Vec<u64> = self.sidecars.range(..oldest).map(|(number, _)| *number).collect();
        let mut taken = None;
        for number in gone {
            let sidecar = self.sidecars.remove(&number).expect("just seen");
            self.count_on_from(taken, number, sidecar.first_seq);
            if self.take_sidecar(&sidecar) {
                taken = Some(number);
            }
        }
        if let Some(header) = self.used.first().and_then(|item| item.valid) {
            self.count_on_from(taken, oldest, header.before_next_seq);
        }
        self.miss_the_beginning();
        for index in 0..self.used.len() {
            let Item { number, valid, bytes, .. } = self.used[index];
            if let Some(header) = valid.filter(|_| index == 0 && index < first) {
                self.arrive(index, &header)?;
            }
            if index < first {
                let first_seq = valid.map_or(0, |header| header.before_next_seq);
                self.found.kept.push(Kept { segment_no: number, bytes, first_seq });
                let next_seq = self.successor(index).map_or(0, |header| header.before_next_seq);
                self.found.sidecars.push((number, next_seq));
                self.found.position.next_seq = next_seq;
                continue;
            }
            if index > 0 && number > self.used[index - 1].number + 1 {
                // What the next header does not count as before it was never there.
                let to = valid.map_or(number, |header| number.min(header.before_segment_no + 1));
                self.miss(self.used[index - 1].number + 1, to);
            }
            if let Some(header) = &valid {
                self.arrive(index, header)?;
            }
            let sidecar = self.sidecars.remove(&number);
            if let Some(header) = valid.filter(|_| index == 0 && sidecar.is_none()) {
                self.miss_the_table(taken, &header);
            }
            match sidecar {
                Some(sidecar) if self.take_sidecar(&sidecar) => {
                    let first_seq = sidecar.first_seq;
                    self.found.kept.push(Kept { segment_no: number, bytes, first_seq });
                    self.tell(index, decision::Sidecar::Good, Groups::None, Reach::Reached);
                }
                _ if index + 1 == self.used.len() => self.read_newest(index)?,
                _ => self.read_older(index)?,
            }
            self.progress.segment();
        }
        Ok(())
    }

    /// Numbers between two files: the segments are not there, or were set aside.
    pub(super) fn miss(&mut self, from: u64, to: u64) {
        for number in from..to.min(from + 1000) {
            let aside = self.found.aside.iter().any(|aside| aside.segment_no == number);
            let reason = if aside { GapReason::ForeignSegment } else { GapReason::MissingSegment };
            self.cause = Cause { reason, segment_no: number, offset: 0, bytes: 0 };
            if !aside {
                self.found.older.push((number, "missing"));
            }
        }
    }

    /// A header says at which number its segment goes on: what was read ends there, or before it.
    pub(super) fn arrive(&mut self, index: usize, header: &SegmentHeader) -> io::Result<()> {
        if index == 0 && self.begin.is_none() {
            // What is before the oldest segment was trimmed.
            let position = &mut self.found.position;
            position.next_seq = position.next_seq.max(header.before_next_seq);
        }
        if self.found.position.next_seq < header.before_next_seq {
            self.take_copy(header)?;
        }
        self.go_on_at(header.before_next_seq);
        Ok(())
    }

    /// Where the predecessor is lost, its last group still stands in this segment, as the copy that
    /// the start made of it.
    pub(super) fn take_copy(&mut self, header: &SegmentHeader) -> io::Result<()> {
        let file = self.open(header.segment_no)?;
        let copy = group_at(&file, SEGMENT_HEADER_BYTES, u64::MAX, header.salt)?;
        let known = self.found.position.next_seq;
        let Some(copy) = copy.filter(|copy| {
            copy.header.group == header.before_group && copy.header.first_seq >= known
        }) else {
            return Ok(());
        };
        self.go_on_at(copy.header.first_seq);
        self.found.groups_read += 1;
        self.found.declared.clear();
        let log_key = &self.settings.log_key;
        replay(&mut self.found, header.segment_no, &copy, log_key, &mut Vec::new());
        self.found.position.next_seq = copy.header.next_seq();
        Ok(())
    }

    /// The log goes on at `next_seq`: what was read ends there, or before it.
    pub(super) fn go_on_at(&mut self, next_seq: u64) {
        let first_seq = self.found.position.next_seq;
        let Cause { reason, segment_no, offset, bytes } = std::mem::replace(&mut self.cause, LOST);
        if first_seq < next_seq {
            let last_seq = next_seq - 1;
            let gap = GapEntry { first_seq, last_seq, segment_no, offset, bytes, reason };
            self.found.gaps.push(gap);
            self.found.position.next_seq = next_seq;
        }
    }

    /// False: its table is of another version, and the segment itself has to be read.
    pub(super) fn take_sidecar(&mut self, sidecar: &Sidecar) -> bool {
        let logged_max = self.settings.dedup_producers;
        let Some(table) = Producers::decode(&sidecar.producers, logged_max) else { return false };
        let found = &mut self.found;
        found.producers = table;
        for key in &sidecar.keys {
            remember(&mut found.window, *key);
        }
        found.position.next_seq = found.position.next_seq.max(sidecar.next_seq);
        found.recorded_at_ns = found.recorded_at_ns.max(sidecar.recorded_at_ns);
        found.ages.note(sidecar.next_seq, sidecar.recorded_at_ns);
        found.sidecars.push((sidecar.segment_no, sidecar.next_seq));
        true
    }

    pub(super) fn seal(
        &mut self,
        segment_no: u64,
        first: u64,
        next: u64,
        keys: Vec<Key>,
    ) -> io::Result<()> {
        self.found.sidecars.push((segment_no, next));
        let mut sidecar = Sidecar::new(segment_no, first, next, &self.found.producers);
        sidecar.keys = keys;
        sidecar.recorded_at_ns = self.found.recorded_at_ns;
        let path = self.dir.join(super::sidecar::name(segment_no));
        sidecar.write(self.disk, self.dir).map_err(naming(&path))
    }

    pub(super) fn walk_into(
        &mut self,
        file: &D::File,
        header: &SegmentHeader,
        end: u64,
        keys: &mut Vec<Key>,
    ) -> io::Result<Walk> {
        self.found.declared.clear();
        // A copied group was taken in with the segment before.
        let before_group = self.found.position.group.max(header.before_group);
        let (found, progress) = (&mut self.found, self.progress);
        let log_key = &self.settings.log_key;
        let result = walk(file, header, end, |group| {
            found.groups_read += 1;
            progress.bytes(group.header.group_bytes());
            found.epoch = found.epoch.max(group.header.epoch);
            found.recorded_at_ns = group.header.recorded_at_ns;
            found.ages.note(group.header.next_seq(), group.header.recorded_at_ns);
            if group.header.group > before_group {
                replay(found, header.segment_no, &group, log_key, keys);
            }
            found.last_group = Some(group);
        })?;
        self.found.position = result.position;
        Ok(result)
    }

    /// Damaged bytes between groups: each is copied aside, and takes the numbers that it held.
    pub(super) fn note_holes(&mut self, file: &D::File, segment_no: u64, holes: &[Hole]) {
        for &Hole { offset, bytes, first_seq, last_seq } in holes {
            let missing = first_seq <= last_seq;
            let last = if missing { last_seq } else { 0 };
            self.copy_aside(file, Range { segment_no, offset, bytes, first_seq, last_seq: last });
            if missing {
                let reason = GapReason::Damaged;
                let gap = GapEntry { first_seq, last_seq, segment_no, offset, bytes, reason };
                self.found.gaps.push(gap);
            }
        }
    }

    pub(super) fn copy_aside(&mut self, file: &D::File, range: Range) {
        let dir = &self.settings.quarantine_dir;
        if let Err(failure) = quarantine::copy(self.disk, dir, file, &range) {
            self.found.uncopied.push(failure);
        }
    }

    /// Lifts the end above what a follower has confirmed and what was set aside, and leaves out
    /// what earlier starts have recorded.
    pub(super) fn finish(mut self) -> io::Result<Recovered> {
        self.miss_the_end();
        let follower = self.settings.follower;
        if follower.seq >= self.found.position.next_seq {
            self.found.label = decision::BELOW_FOLLOWER;
            self.go_on_at(follower.seq + 1);
        }
        self.cause = Cause { reason: GapReason::ForeignSegment, ..LOST };
        self.go_on_at(self.floor);
        let position = &mut self.found.position;
        if follower.group > position.group {
            position.group = follower.group;
            position.root = follower.root;
        }
        self.leave_out_recorded()?;
        if !self.found.gaps.is_empty() {
            self.found.producers.forget_all(self.found.position.next_seq);
        }
        if self.used.is_empty() {
            let lowest = self.begin.map_or(1, |point| point.segment_no);
            self.found.segment_no =
                self.found.spares.iter().copied().min().unwrap_or(1).max(lowest);
        }
        if self.found.last_group.as_ref().map(|last| last.header.group)
            != Some(self.found.position.group)
        {
            // A lost group cannot be copied; the header alone carries the chain on.
            self.found.last_group = None;
        }
        Ok(self.found)
    }

    pub(super) fn leave_out_recorded(&mut self) -> io::Result<()> {
        if self.found.gaps.is_empty() {
            return Ok(());
        }
        let mut known = Vec::new();
        let aside = |number: u64| self.found.aside.iter().any(|aside| aside.segment_no == number);
        let here = self.used.iter().filter(|item| !aside(item.number));
        for header in here.filter_map(|item| item.valid) {
            known.extend(recorded(&self.open(header.segment_no)?, &header)?);
        }
        let gaps = std::mem::take(&mut self.found.gaps);
        self.found.gaps = gaps.into_iter().flat_map(|gap| gap.without(&known)).collect();
        self.found.gaps.sort_by_key(|gap| gap.first_seq);
        Ok(())
    }
}

pub(super) fn groups_of(walk: &Walk) -> Groups {
    match walk {
        walk if !walk.holes.is_empty() => Groups::Holed,
        walk if walk.groups > 0 => Groups::Whole,
        _ => Groups::None,
    }
}
