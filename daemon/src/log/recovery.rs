//! A start: find the end of the log, what every producer was told, and which ids are known.
//!
//! Nothing is repaired in place. The caller opens a new segment whose header tells this end, copies
//! the last group into it and syncs it before anything found here is published: a group read here
//! may be in the page cache only.

use std::io;
use std::path::{Path, PathBuf};

use super::decision::{
    Decision, End, Floor, Groups, Header, Observation, Quarantine, Take, decide,
};
use super::producers::Producers;
use super::replay::{remember, replay};
use super::sidecar::Sidecar;
use super::walk::{Found, Hole, Position, Tail, Walk, group_at, read_what_is_left, walk};
use super::window::{Key, Window};
use crate::disk::{Disk, DiskFile};
use crate::format::{ALIGN, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::merkle::Hash;

/// No group that was under way is longer than the ring that it came through.
const TAIL_BYTES_MAX: u64 = 4 * 1024 * 1024;

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

pub struct Recovered {
    pub decision: Option<Decision>,
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
    pub kept: Vec<Kept>,
    /// `(segment_no, next_seq)` of every sidecar.
    pub sidecars: Vec<(u64, u64)>,
    pub gaps: Vec<Gap>,
    pub groups_read: u64,
    pub producers: Producers,
    pub window: Window,
    /// Of the newest group read.
    pub recorded_at_ns: u64,
    /// `(next_seq, recorded_at_ns)` of segments, oldest first: how old an id is.
    pub ages: Vec<(u64, u64)>,
}

#[must_use]
pub fn segment_name(segment_no: u64) -> String {
    format!("{segment_no:020}.log")
}

#[must_use]
pub fn numbers(names: &[String], ending: &str) -> Vec<u64> {
    let mut found: Vec<u64> =
        names.iter().filter_map(|name| name.strip_suffix(ending)?.parse().ok()).collect();
    found.sort_unstable();
    found
}

enum Seen {
    Unused,
    Damaged,
    Valid(SegmentHeader),
}

struct Segments<'a, D: Disk> {
    disk: &'a D,
    dir: &'a Path,
    settings: &'a Settings,
    /// Activated segments, oldest first.
    used: Vec<(u64, Seen)>,
    found: Recovered,
}

/// Reads the log in `dir`, which the caller has locked.
///
/// Errors: only what the disk itself refuses; damage is decided on, not raised.
pub fn recover<D: Disk>(disk: &D, dir: &Path, settings: &Settings) -> io::Result<Recovered> {
    let names = disk.list(dir)?;
    let mut segments = Segments {
        disk,
        dir,
        settings,
        used: Vec::new(),
        found: Recovered {
            decision: None,
            log_uuid: None,
            epoch: 0,
            position: Position::start(),
            last_group: None,
            end: (0, 0),
            segment_no: 1,
            spares: Vec::new(),
            kept: Vec::new(),
            sidecars: Vec::new(),
            gaps: Vec::new(),
            groups_read: 0,
            producers: Producers::new(settings.dedup_producers),
            window: Window::new(settings.dedup_keys),
            recorded_at_ns: 0,
            ages: Vec::new(),
        },
    };
    segments.look(&numbers(&names, ".log"))?;
    segments.load(&numbers(&names, ".keys"))?;
    segments.finish()
}

impl<D: Disk> Segments<'_, D> {
    fn open(&self, segment_no: u64) -> io::Result<D::File> {
        self.disk.open(&self.dir.join(segment_name(segment_no)), false)
    }

    /// Reads every header; trailing unused files are spares.
    fn look(&mut self, numbers: &[u64]) -> io::Result<()> {
        for &segment_no in numbers {
            let mut head = vec![0; SEGMENT_HEADER_BYTES as usize];
            let read = read_what_is_left(&self.open(segment_no)?, 0, &mut head)?;
            let seen = match SegmentHeader::parse(&head[..read]) {
                Some(header) if header.segment_no == segment_no => Seen::Valid(header),
                // A start that died made another segment of this spare: readers do not see it.
                Some(_) => Seen::Unused,
                None if read > 0 && head.iter().all(|byte| *byte == 0) => Seen::Unused,
                None => Seen::Damaged,
            };
            if let Seen::Valid(header) = &seen {
                self.found.epoch = self.found.epoch.max(header.epoch);
                self.found.log_uuid = Some(header.log_uuid);
            }
            self.used.push((segment_no, seen));
        }
        while let Some((segment_no, Seen::Unused)) = self.used.last() {
            self.found.spares.push(*segment_no);
            self.used.pop();
        }
        Ok(())
    }

    /// Sidecars first, then the segments that have none, in log order.
    fn load(&mut self, sidecars: &[u64]) -> io::Result<()> {
        let oldest = self.used.first().map_or(u64::MAX, |(segment_no, _)| *segment_no);
        for &segment_no in sidecars.iter().filter(|segment_no| **segment_no < oldest) {
            if let Some(sidecar) = Sidecar::read(self.disk, self.dir, segment_no)? {
                self.take_sidecar(&sidecar);
            }
        }
        let count = self.used.len();
        // Without its header, the newest segment does not say where its predecessor ends.
        let newest_is_valid = matches!(self.used.last(), Some((_, Seen::Valid(_))));
        for index in 0..count {
            let (segment_no, _) = self.used[index];
            let newest = index + 1 == count;
            let read_whole = newest || (index + 2 == count && !newest_is_valid);
            let sidecar = if read_whole || !sidecars.contains(&segment_no) {
                None
            } else {
                Sidecar::read(self.disk, self.dir, segment_no)?
            };
            match sidecar {
                Some(sidecar) if self.take_sidecar(&sidecar) => {
                    let bytes = self.open(segment_no)?.bytes()?;
                    let first_seq = sidecar.first_seq;
                    self.found.kept.push(Kept { segment_no, bytes, first_seq });
                }
                _ if newest => self.read_newest(index)?,
                _ => self.read_older(index)?,
            }
        }
        Ok(())
    }

    /// False: its table is of another version, and the segment itself has to be read.
    fn take_sidecar(&mut self, sidecar: &Sidecar) -> bool {
        let logged_max = self.settings.dedup_producers;
        let Some(table) = Producers::decode(&sidecar.producers, logged_max) else { return false };
        let found = &mut self.found;
        found.producers = table;
        for key in &sidecar.keys {
            remember(&mut found.window, *key);
        }
        found.position.next_seq = found.position.next_seq.max(sidecar.next_seq);
        found.recorded_at_ns = found.recorded_at_ns.max(sidecar.recorded_at_ns);
        found.ages.push((sidecar.next_seq, sidecar.recorded_at_ns));
        found.sidecars.push((sidecar.segment_no, sidecar.next_seq));
        true
    }

    /// A segment that has a successor and no sidecar: read up to where the successor says it ends,
    /// and give it its sidecar now.
    fn read_older(&mut self, index: usize) -> io::Result<()> {
        let segment_no = self.used[index].0;
        let successor = self.used[index + 1..].iter().find_map(|(_, seen)| match seen {
            Seen::Valid(header) if header.before_segment_no == segment_no => Some(*header),
            _ => None,
        });
        let end = successor.map_or(u64::MAX, |header| header.before_end_offset);
        let file = self.open(segment_no)?;
        let bytes = file.bytes()?;
        let Seen::Valid(header) = self.used[index].1 else {
            self.quarantine(&file, segment_no, 0, bytes)?;
            let first_seq = self.found.position.next_seq;
            self.found.kept.push(Kept { segment_no, bytes, first_seq });
            self.note_gap(successor.map_or(first_seq, |header| header.before_next_seq));
            return Ok(());
        };
        let mut keys = Vec::new();
        let walk = self.walk_into(&file, &header, end, &mut keys)?;
        self.note_holes(&file, segment_no, &walk.holes)?;
        self.found.end = (segment_no, walk.end_offset);
        self.note_gap(successor.map_or(0, |header| header.before_next_seq));
        self.seal(segment_no, header.before_next_seq, walk.position.next_seq, keys)?;
        self.found.kept.push(Kept { segment_no, bytes, first_seq: header.before_next_seq });
        Ok(())
    }

    fn seal(&mut self, segment_no: u64, first: u64, next: u64, keys: Vec<Key>) -> io::Result<()> {
        self.found.sidecars.push((segment_no, next));
        let mut sidecar = Sidecar::new(segment_no, first, next, &self.found.producers);
        sidecar.keys = keys;
        sidecar.recorded_at_ns = self.found.recorded_at_ns;
        sidecar.write(self.disk, self.dir)
    }

    /// The newest segment: the one that the decision table is about.
    fn read_newest(&mut self, index: usize) -> io::Result<()> {
        let segment_no = self.used[index].0;
        let file = self.open(segment_no)?;
        let bytes = file.bytes()?;
        let (state, header) = match self.used[index].1 {
            Seen::Valid(header) => (Header::Valid, Some(header)),
            _ => (Header::Damaged, self.guess_header(&file, bytes, segment_no)?),
        };
        let known = self.found.position;
        if let Some(header) = header.filter(|_| state == Header::Damaged) {
            self.note_gap(header.before_next_seq);
        }
        let mut keys = Vec::new();
        let walk = match &header {
            Some(header) => Some(self.walk_into(&file, header, bytes, &mut keys)?),
            None => None,
        };
        let groups = match &walk {
            Some(walk) if !walk.holes.is_empty() => Groups::Holed,
            Some(walk) if walk.groups > 0 => Groups::Whole,
            _ => Groups::None,
        };
        let torn = walk.as_ref().is_some_and(|walk| walk.tail == Tail::Torn);
        let before = header.as_ref().map_or(known, Position::before);
        let position = walk.as_ref().map_or(before, |walk| walk.position);
        let above = self.settings.follower.seq >= position.next_seq;
        let decision = decide(Observation {
            header: state,
            groups,
            end: if torn { End::Torn } else { End::Unwritten },
            floor: if above { Floor::Above } else { Floor::Below },
        });
        self.found.decision = Some(decision);
        self.found.position = position;
        let end_offset = walk.as_ref().map_or(SEGMENT_HEADER_BYTES, |walk| walk.end_offset);
        match decision.quarantine {
            Quarantine::Nothing => {}
            Quarantine::Tail => {
                let tail = (bytes - end_offset).min(TAIL_BYTES_MAX);
                self.quarantine(&file, segment_no, end_offset, tail)?;
            }
            Quarantine::Holes => {
                let holes = walk.as_ref().map_or(&[][..], |walk| &walk.holes).to_vec();
                self.note_holes(&file, segment_no, &holes)?;
            }
            Quarantine::Segment => {
                self.quarantine(&file, segment_no, 0, bytes)?;
                self.note_gaps(walk.as_ref().map_or(&[][..], |walk| &walk.holes));
            }
        }
        match decision.take {
            Take::Predecessor => self.end_at_predecessor(segment_no, header.as_ref()),
            Take::NewestSegment => {
                let header = header.expect("groups were read by it");
                let groups = walk.map_or(0, |walk| walk.groups);
                self.end_in(segment_no, end_offset, &header, groups, bytes, keys)?;
            }
        }
        Ok(())
    }

    /// The newest segment was never begun: its number comes again.
    fn end_at_predecessor(&mut self, segment_no: u64, header: Option<&SegmentHeader>) {
        self.found.segment_no = segment_no;
        if let Some(header) = header {
            self.found.end = (header.before_segment_no, header.before_end_offset);
        }
    }

    fn end_in(
        &mut self,
        segment_no: u64,
        end_offset: u64,
        header: &SegmentHeader,
        groups: u64,
        bytes: u64,
        keys: Vec<Key>,
    ) -> io::Result<()> {
        let only_the_copy = groups == 1
            && self.found.position.group == header.before_group
            && header.before_segment_no != 0;
        if only_the_copy {
            // A start that logged nothing: the new segment takes its number and its predecessor.
            self.end_at_predecessor(segment_no, Some(header));
            return Ok(());
        }
        self.found.segment_no = segment_no + 1;
        self.found.end = (segment_no, end_offset);
        let first_seq = header.before_next_seq;
        self.found.kept.push(Kept { segment_no, bytes, first_seq });
        self.seal(segment_no, first_seq, self.found.position.next_seq, keys)
    }

    /// The salt of a segment whose header is lost, from the groups behind it.
    fn guess_header(
        &self,
        file: &D::File,
        bytes: u64,
        segment_no: u64,
    ) -> io::Result<Option<SegmentHeader>> {
        let mut offset = SEGMENT_HEADER_BYTES;
        while offset < bytes {
            let mut head = [0; crate::format::GROUP_HEADER_BYTES];
            let read = read_what_is_left(file, offset, &mut head)?;
            let group = crate::format::GroupHeader::parse(&head[..read])
                .filter(|group| group.group >= self.found.position.group.max(1));
            let found = match group {
                Some(group) => group_at(file, offset, bytes, group.salt)?,
                None => None,
            };
            if let Some(found) = found {
                return Ok(Some(SegmentHeader {
                    log_uuid: self.found.log_uuid.unwrap_or_default(),
                    segment_no,
                    salt: found.header.salt,
                    created_at_ns: 0,
                    epoch: found.header.epoch,
                    before_segment_no: 0,
                    before_end_offset: 0,
                    before_group: found.header.group - 1,
                    before_next_seq: found.header.first_seq,
                    before_chain: found.header.chain,
                    before_root: [0; 32],
                }));
            }
            offset += ALIGN;
        }
        Ok(None)
    }

    fn walk_into(
        &mut self,
        file: &D::File,
        header: &SegmentHeader,
        end: u64,
        keys: &mut Vec<Key>,
    ) -> io::Result<Walk> {
        // A copied group was taken in with the segment before.
        let before_group = self.found.position.group.max(header.before_group);
        let found = &mut self.found;
        let log_key = &self.settings.log_key;
        let result = walk(file, header, end, |group| {
            found.groups_read += 1;
            found.epoch = found.epoch.max(group.header.epoch);
            found.recorded_at_ns = group.header.recorded_at_ns;
            if group.header.group > before_group {
                replay(found, header.segment_no, group, log_key, keys);
            }
            found.last_group = Some(Found {
                offset: group.offset,
                header: group.header,
                body: group.body.clone(),
            });
        })?;
        self.found.position = result.position;
        Ok(result)
    }

    fn note_holes(&mut self, file: &D::File, segment_no: u64, holes: &[Hole]) -> io::Result<()> {
        for hole in holes {
            self.quarantine(file, segment_no, hole.offset, hole.bytes)?;
        }
        self.note_gaps(holes);
        Ok(())
    }

    fn note_gaps(&mut self, holes: &[Hole]) {
        for Hole { first_seq, last_seq, .. } in holes {
            if first_seq <= last_seq {
                let (first_seq, last_seq) = (*first_seq, *last_seq);
                self.found.gaps.push(Gap { first_seq, last_seq, reason: "damaged" });
            }
        }
    }

    /// The log goes on at `next_seq`, and what was read ends before it.
    fn note_gap(&mut self, next_seq: u64) {
        let first_seq = self.found.position.next_seq;
        if first_seq < next_seq {
            let reason = "damaged";
            self.found.gaps.push(Gap { first_seq, last_seq: next_seq - 1, reason });
            self.found.position.next_seq = next_seq;
        }
    }

    /// Copies bytes aside, at most one largest group of them; what is in place stays.
    fn quarantine(&self, file: &D::File, no: u64, offset: u64, bytes: u64) -> io::Result<()> {
        let bytes = bytes.min(u64::from(crate::format::GROUP_BODY_BYTES_MAX));
        let mut copy = vec![0; usize::try_from(bytes).expect("bounded")];
        let read = read_what_is_left(file, offset, &mut copy)?;
        copy.truncate(read);
        let name = format!("{no:020}-{offset}-{bytes}.bin");
        let aside = self.disk.open(&self.settings.quarantine_dir.join(name), true)?;
        aside.write_at(0, &[&copy])?;
        aside.sync()?;
        self.disk.sync_dir(&self.settings.quarantine_dir)
    }

    /// Lifts the end above what a follower has confirmed.
    fn finish(mut self) -> io::Result<Recovered> {
        let follower = self.settings.follower;
        let position = &mut self.found.position;
        if follower.seq >= position.next_seq {
            let first_seq = position.next_seq;
            let reason = "lost";
            self.found.gaps.push(Gap { first_seq, last_seq: follower.seq, reason });
            position.next_seq = follower.seq + 1;
        }
        if follower.group > position.group {
            position.group = follower.group;
            position.root = follower.root;
        }
        if !self.found.gaps.is_empty() {
            self.found.producers.forget_all(self.found.position.next_seq);
        }
        if self.used.is_empty() {
            self.found.segment_no = self.found.spares.iter().copied().min().unwrap_or(1);
        }
        if self.found.last_group.as_ref().map(|last| last.header.group)
            != Some(self.found.position.group)
        {
            // A lost group cannot be copied; the header alone carries the chain on.
            self.found.last_group = None;
        }
        Ok(self.found)
    }
}
