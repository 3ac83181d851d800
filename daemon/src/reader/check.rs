//! `certeus log ls` and `certeus log check`: what the segments hold, and whether it is whole.

use certeus_ipc::record::{Record, RecordHeader};

use super::files::{Keys, sidecar_of};
use super::inspect::dedup;
use super::segment::{self, FIRST_GROUP_OFFSET, Scanner, Segment};
use super::{LogReader, Result};
use crate::format::{GroupHeader, LogEntry, ProducerEntry, SegmentHeader, u32_at};
use crate::gap::GapEntry;
use crate::log::trim;
use crate::log::window::Key;
use crate::merkle::{Hash, Tree, leaf, salt};

/// What one segment holds. Numbers are 0 where it holds no group.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub segment_no: u64,
    pub created_at_ns: u64,
    pub epoch: u64,
    pub file_bytes: u64,
    /// Of header and groups.
    pub used_bytes: u64,
    pub groups: u64,
    pub records: u64,
    pub first_group: u64,
    pub last_group: u64,
    pub first_seq: u64,
    pub last_seq: u64,
    pub recorded_at_ns: u64,
}

/// One thing that is wrong. The numbers are those that are missing or doubtful, 0, 0 if none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub segment_no: u64,
    pub offset: u64,
    pub bytes: u64,
    pub first_seq: u64,
    pub last_seq: u64,
    /// Stable word.
    pub reason: &'static str,
}

/// Everything that a check found, from the oldest segment to the newest.
#[derive(Debug, Default)]
pub struct Report {
    pub segments: Vec<Summary>,
    pub findings: Vec<Finding>,
    /// Bytes behind the last group that are neither groups nor zeros: a write that was never
    /// acknowledged, or one that is under way.
    pub tail_bytes: u64,
    pub roots_checked: bool,
}

/// Checks segment by segment, so that the caller can tell of the progress.
pub struct Check {
    dir: std::path::PathBuf,
    log_key: Option<[u8; 32]>,
    headers: Vec<SegmentHeader>,
    numbers: Vec<u64>,
    at: usize,
    last: Option<GroupHeader>,
    /// The group before the oldest segment, which may stand in it as a copy: number and hash.
    trimmed: Option<(u64, Hash)>,
    next_seq: u64,
    /// The gap records of the segment.
    recorded: Vec<GapEntry>,
    /// Who the producers of the segment are, and the ids of its records: its sidecar's.
    producers: Vec<ProducerEntry>,
    keys: Vec<Key>,
    report: Report,
}

impl LogReader {
    /// What the segments hold, by their groups' headers and bodies.
    pub fn segments(&self) -> Result<Vec<Summary>> {
        let mut check = self.check(None)?;
        while check.step()? {}
        Ok(check.finish().segments)
    }

    /// Begins a check; with the log's key, roots are computed again from the records.
    pub fn check(&self, log_key: Option<[u8; 32]>) -> Result<Check> {
        let report = Report { roots_checked: log_key.is_some(), ..Report::default() };
        Ok(Check {
            dir: self.dir.clone(),
            log_key,
            headers: segment::active_headers(&self.dir)?,
            numbers: segment::numbers(&self.dir)?,
            at: 0,
            last: None,
            trimmed: None,
            next_seq: 0,
            recorded: Vec::new(),
            producers: Vec::new(),
            keys: Vec::new(),
            report,
        })
    }
}

impl Check {
    /// Segments done, and segments in all.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        (self.at, self.headers.len())
    }

    #[must_use]
    pub fn finish(self) -> Report {
        self.report
    }

    /// Checks the next segment. False: that was the last one.
    pub fn step(&mut self) -> Result<bool> {
        let Some(header) = self.headers.get(self.at).copied() else {
            // Without any proper header, nobody else says that there is a log.
            let alone =
                if self.headers.is_empty() { std::mem::take(&mut self.numbers) } else { vec![] };
            alone.into_iter().try_for_each(|number| self.headless(number))?;
            return Ok(false);
        };
        if self.at == 0 {
            self.sidecars_of_trimmed(header.segment_no)?;
        }
        let successor = self.headers.get(self.at + 1).copied();
        self.at += 1;
        let Some(mut segment) = Segment::open(&self.dir, header.segment_no, false)? else {
            // Trimmed since the check began, and with it all that is older: the log now begins
            // with the next one.
            (self.last, self.trimmed, self.next_seq) = (None, None, 0);
            return Ok(true);
        };
        segment.successor = successor;
        self.recorded = segment.recorded_gaps()?;
        self.producers.clear();
        self.keys.clear();
        let before = self.report.findings.len();
        self.link(&header);
        let mut summary = Summary {
            segment_no: header.segment_no,
            created_at_ns: header.created_at_ns,
            epoch: header.epoch,
            file_bytes: segment.file_bytes()?,
            used_bytes: FIRST_GROUP_OFFSET,
            ..Summary::default()
        };
        self.walk(&mut segment, &mut summary)?;
        // The newest one may have been written on since it was read, and sealed.
        let whole = self.report.findings.len() == before && successor.is_some();
        let bound = successor.map_or(u64::MAX, |next| next.before_next_seq);
        self.sidecar(&header, bound, whole)?;
        if successor.is_none() {
            self.claimed(&header);
            let behind = self.numbers.partition_point(|number| *number <= header.segment_no);
            self.numbers
                .split_off(behind)
                .into_iter()
                .try_for_each(|number| self.headless(number))?;
        }
        self.report.segments.push(summary);
        Ok(true)
    }

    fn find(&mut self, segment_no: u64, at: (u64, u64), seqs: (u64, u64), reason: &'static str) {
        let (offset, bytes) = at;
        let (first_seq, last_seq) = seqs;
        let finding = Finding { segment_no, offset, bytes, first_seq, last_seq, reason };
        self.report.findings.push(finding);
    }

    /// Of segments that are gone only the sidecars are left: the ids that are still known.
    fn sidecars_of_trimmed(&mut self, oldest: u64) -> Result<()> {
        for number in segment::numbers_of(&self.dir, ".keys")? {
            if let (true, (Keys::Damaged, bytes)) =
                (number < oldest, sidecar_of(&self.dir, number)?)
            {
                self.find(number, (0, bytes), (0, 0), "sidecar-damaged");
            }
        }
        Ok(())
    }

    /// A sidecar that is not there is no damage: it is written a moment after the seal, and a start
    /// reads the segment instead. One that is there must tell what the segment holds.
    fn sidecar(&mut self, header: &SegmentHeader, bound: u64, whole: bool) -> Result<()> {
        let number = header.segment_no;
        let (found, bytes) = sidecar_of(&self.dir, number)?;
        let reason = match found {
            Keys::None => return Ok(()),
            Keys::Damaged => "sidecar-damaged",
            Keys::Whole(sidecar) => {
                let numbers =
                    sidecar.first_seq == header.before_next_seq && sidecar.next_seq <= bound;
                let mut known: Vec<[u64; 4]> =
                    sidecar.keys.iter().map(|key| key.to_words()).collect();
                known.sort_unstable();
                let holds = |key: &Key| known.binary_search(&key.to_words()).is_ok();
                let keys = self.log_key.is_none()
                    || self.keys.iter().all(holds) && (!whole || known.len() == self.keys.len());
                if numbers && keys {
                    return Ok(());
                }
                "sidecar-differs"
            }
        };
        self.find(number, (0, bytes), (0, 0), reason);
        Ok(())
    }

    /// Compares a segment's header with where the segments before it ended.
    fn link(&mut self, header: &SegmentHeader) {
        if self.next_seq == 0 {
            self.next_seq = header.before_next_seq;
            self.trimmed = Some((header.before_group, header.before_chain));
            // Who is still there before the oldest proper header, and is part of the log by it.
            // Below where the log begins, a trim was going on: what is left there is nobody's.
            let record = std::fs::read(self.dir.join(trim::NAME)).unwrap_or_default();
            let begins_at = trim::parse(&record).map_or(0, |point| point.segment_no);
            let numbers = std::mem::take(&mut self.numbers);
            for number in numbers.iter().copied().filter(|no| *no <= header.before_segment_no) {
                let is_there = segment::path_of(&self.dir, number).exists();
                if (begins_at..header.segment_no).contains(&number) && is_there {
                    self.find(number, (0, 0), (0, 0), "segment-header-damaged");
                }
            }
            self.numbers = numbers;
            return;
        }
        let before = self.report.segments.last().map_or(0, |before| before.segment_no);
        for number in before + 1..header.segment_no {
            if header.before_segment_no >= number {
                let known = self.numbers.binary_search(&number).is_ok();
                let reason = if known { "segment-header-damaged" } else { "missing-segment" };
                self.find(number, (0, 0), (0, 0), reason);
            }
        }
        let known = self.last.filter(|last| last.group == header.before_group);
        if known.is_some_and(|last| last.hash() != header.before_chain) {
            self.find(header.segment_no, (0, FIRST_GROUP_OFFSET), (0, 0), "chain-broken");
        }
    }

    /// A file behind the newest proper header: a spare, whose header is zeros; or one whose header
    /// is damaged, as groups show that go on where the log ends; or a first write that was torn.
    fn headless(&mut self, number: u64) -> Result<()> {
        let Some(mut segment) = Segment::open(&self.dir, number, true)? else { return Ok(()) };
        let page = segment.first_page()?;
        let written = page.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        if segment.header.is_some() || written == 0 {
            return Ok(());
        }
        let last = self.last;
        let mut scanner = Scanner::new(&mut segment, FIRST_GROUP_OFFSET, u64::MAX);
        if last.is_none() || scanner.next_group(last.as_ref(), |_| true)?.is_some() {
            self.find(number, (0, FIRST_GROUP_OFFSET), (0, 0), "segment-header-damaged");
        } else {
            self.report.tail_bytes += written;
        }
        Ok(())
    }

    /// The last segment's header may claim numbers that no group behind it tells of.
    fn claimed(&mut self, header: &SegmentHeader) {
        if header.before_next_seq > self.next_seq {
            let seqs = (self.next_seq, header.before_next_seq - 1);
            self.find(header.segment_no, (0, FIRST_GROUP_OFFSET), seqs, "lost");
            self.next_seq = header.before_next_seq;
        }
    }

    fn walk(&mut self, segment: &mut Segment, summary: &mut Summary) -> Result<()> {
        let end = segment.end_offset();
        let last_segment = segment.successor.is_none();
        let first_seq = segment.header.map_or(0, |header| header.before_next_seq);
        let mut scanner = Scanner::new(segment, FIRST_GROUP_OFFSET, end);
        let mut looked_again = 0;
        while let Some((offset, header)) = scanner.next_group(None, |_| true)? {
            let damaged = offset - summary.used_bytes;
            if damaged > 0 && last_segment && looked_again < summary.used_bytes {
                // It may be written just now: what was zeros when it was read ahead was a whole
                // group before the one that was found was begun.
                looked_again = summary.used_bytes;
                scanner = Scanner::new(segment, looked_again, end);
                continue;
            }
            self.group(summary, &header, offset, damaged);
            let body = scanner.body(&header);
            self.body(summary.segment_no, &header, offset, body);
            self.ids(&header, scanner.body(&header), first_seq);
            scanner.advance(&header);
            summary.used_bytes = offset + header.group_bytes();
        }
        if last_segment {
            self.report.tail_bytes = nonzero_bytes(segment, summary.used_bytes)?;
        } else if summary.used_bytes < end {
            // Numbers are told by whatever group comes next; the bytes are told here.
            let at = (summary.used_bytes, end - summary.used_bytes);
            self.find(summary.segment_no, at, (0, 0), "damaged");
        }
        Ok(())
    }

    fn group(&mut self, summary: &mut Summary, header: &GroupHeader, offset: u64, damaged: u64) {
        let copied = self.last.filter(|last| last.group == header.group);
        let number = summary.segment_no;
        let at = (offset - damaged, damaged);
        if let Some(last) = copied {
            if last.hash() != header.hash() {
                self.find(number, at, (header.first_seq, header.next_seq() - 1), "chain-broken");
            }
            // Counted where it was written first.
            return;
        }
        let carried = self.last.is_none() && self.trimmed == Some((header.group, header.hash()));
        if carried {
            // Its numbers are before those that this segment gave out.
        } else if header.first_seq > self.next_seq {
            let record = self.recorded.iter().find(|gap| gap.first_seq == self.next_seq);
            let derived = if damaged > 0 { "damaged" } else { "lost" };
            let reason = record.map_or(derived, |gap| gap.reason.word());
            self.find(number, at, (self.next_seq, header.first_seq - 1), reason);
        } else if header.first_seq < self.next_seq {
            let seqs = (header.first_seq, self.next_seq - 1);
            self.find(number, (offset, header.group_bytes()), seqs, "numbers-used-twice");
        } else if damaged > 0 {
            self.find(number, at, (0, 0), "damaged");
        }
        let follows = self.last.filter(|last| last.group + 1 == header.group);
        if follows.is_some_and(|last| last.hash() != header.chain) {
            let seqs = (header.first_seq, header.next_seq() - 1);
            self.find(number, (offset, header.group_bytes()), seqs, "chain-broken");
        }
        if summary.groups == 0 {
            summary.first_group = header.group;
            summary.first_seq = header.first_seq;
        }
        summary.groups += 1;
        summary.records += u64::from(header.count);
        summary.last_group = header.group;
        summary.last_seq = header.next_seq() - 1;
        summary.recorded_at_ns = header.recorded_at_ns;
        self.next_seq = self.next_seq.max(header.next_seq());
        self.last = Some(*header);
    }

    /// The body's CRC is right already: looks at entries, records and root.
    fn body(&mut self, number: u64, header: &GroupHeader, offset: u64, body: &[u8]) {
        let (entries, records) = body.split_at(header.entries_bytes as usize);
        let entries_proper = LogEntry::parse_all(entries).is_some();
        let root = self.root(header, records);
        let seqs = (header.first_seq, header.next_seq() - 1);
        let at = (offset, header.group_bytes());
        match root {
            None => self.find(number, at, seqs, "malformed"),
            Some(Some(root)) if root != header.root => {
                self.find(number, at, seqs, "root-mismatch");
            }
            Some(_) if !entries_proper => self.find(number, at, (0, 0), "malformed"),
            Some(_) => {}
        }
    }

    /// Gathers the ids of a group; those of a copied one are in the sidecar before.
    fn ids(&mut self, header: &GroupHeader, body: &[u8], first_seq: u64) {
        let Some(log_key) = self.log_key else { return };
        let (entries, mut records) = body.split_at(header.entries_bytes as usize);
        for entry in LogEntry::parse_all(entries).unwrap_or_default() {
            if let LogEntry::Producer(producer) = entry {
                self.producers.retain(|known| known.producer_no != producer.producer_no);
                self.producers.push(producer);
            }
        }
        let mut seq = header.first_seq;
        while let Some(record) = Record::parse(records).filter(|_| header.first_seq >= first_seq) {
            let number = record.header.producer_no;
            let producer = self.producers.iter().rev().find(|one| one.producer_no == number);
            if let Some((key, digest)) = dedup(&log_key, &record, producer) {
                self.keys.push(Key { key, seq, digest });
            }
            seq += 1;
            records = &records[record.padded_bytes().min(records.len())..];
        }
    }

    /// `None`: the records are not what the header says. `Some(None)`: without key, no root.
    fn root(&self, header: &GroupHeader, mut records: &[u8]) -> Option<Option<[u8; 32]>> {
        let mut tree = Tree::default();
        for _ in 0..header.count {
            let bytes = u32_at(records.get(..8)?, 0) as usize;
            let record = records.get(..bytes)?;
            if let Some(key) = &self.log_key {
                let parsed = RecordHeader::parse(record)?;
                tree.push(leaf(&salt(key, parsed.producer_no, parsed.ticket), record));
            }
            records = records.get(bytes.next_multiple_of(8)..)?;
        }
        records.is_empty().then(|| self.log_key.map(|_| tree.root()))
    }
}

fn nonzero_bytes(segment: &Segment, from: u64) -> Result<u64> {
    let bytes = segment.read_all(from)?;
    let last = bytes.iter().rposition(|byte| *byte != 0);
    Ok(last.map_or(0, |last| last as u64 + 1))
}
