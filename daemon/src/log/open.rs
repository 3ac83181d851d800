//! A start: lock, recover, and open the segment in which this life writes.
//!
//! The new segment is made whole under the name `next` (header, and a copy of the last group that
//! recovery found), synced, and only then renamed to its number. So a start that dies at any point
//! leaves the log as it was, and a start after it finds the same end. Where acknowledged numbers
//! are gone, the gap records are a group behind that copy, of the same write and sync: a loss is
//! recorded before anybody can see that the log goes on, once, and no start finds it again.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use certeus_ipc::follow;

use super::ending;
use super::group::Group;
use super::keeper::{self, Keeper};
use super::progress::{Phase, Progress, naming};
use super::quarantine::Failure;
use super::recovery::{self, Aside, Gap, Recovered, numbers, recover, segment_name};
use super::sidecar;
use super::trim::{self, Newest, Record};
use super::walk::Position;
use super::{Current, Limits, LogWriter, now_ns, pages};
use crate::board::log as count;
use crate::board::{Board, durability};
use crate::disk::{Disk, DiskFile};
use crate::failpoint::failpoint;
use crate::format::{ALIGN, GroupHeader, LogEntry, SegmentHeader};

/// Gap records of one start: what fits the smallest segment beside the largest group.
const GAPS_MAX: usize = 256;

pub struct Options {
    /// What a fork has called the log; otherwise it has the name in its segments.
    pub name: Option<[u8; 16]>,
    pub recovery: recovery::Settings,
    pub limits: Limits,
    pub segments: keeper::Limits,
}

/// What recovery found, for the report; the tables themselves are in use.
pub struct Report {
    pub label: &'static str,
    /// The rows of the decision table for older segments and files set aside, that are of note.
    pub older: Vec<(u64, &'static str)>,
    pub segments: u64,
    pub groups_read: u64,
    pub last_group: u64,
    pub next_seq: u64,
    pub epoch: u64,
    /// In the segments.
    pub log_uuid: [u8; 16],
    /// What the log is called.
    pub log_name: [u8; 16],
    /// What this start found to be gone, and has recorded.
    pub gaps: Vec<Gap>,
    pub aside: Vec<Aside>,
    /// Copies for the quarantine that could not be made.
    pub uncopied: Vec<Failure>,
}

/// Recovers the log in `dir`, which the caller has locked, and opens it for writing.
///
/// Errors: what the disk refuses. Nothing was published; trying again is safe.
pub fn open<D: Disk>(
    disk: Arc<D>,
    dir: &Path,
    board: &Board,
    options: &Options,
) -> io::Result<(LogWriter<D>, Report)> {
    let progress = Progress::new(pages(board).0);
    let mut found = recover(&*disk, dir, &options.recovery, &progress)?;
    progress.phase(Phase::Opening);
    let log_uuid = match found.log_uuid {
        Some(uuid) => uuid,
        None => random_uuid()?,
    };
    let epoch = found.epoch + 1;
    sync_predecessor(&*disk, dir, &found)?;
    let current = new_segment(&*disk, dir, &mut found, log_uuid, epoch, options)
        .map_err(naming(&dir.join("next")))?;
    if found.uncopied.is_empty() {
        cut_predecessor(&*disk, dir, &found)?;
    }
    record_beginning(&*disk, dir, &found, &current, log_uuid)?;
    let report = Report {
        label: found.label,
        older: found.older.iter().filter(|(_, label)| *label != "sealed").copied().collect(),
        segments: found.kept.len() as u64,
        groups_read: found.groups_read,
        last_group: found.position.group,
        next_seq: found.position.next_seq,
        epoch,
        log_uuid,
        log_name: options.name.unwrap_or(log_uuid),
        gaps: found.gaps.iter().map(Gap::from).collect(),
        aside: found.aside.clone(),
        uncopied: found.uncopied.clone(),
    };
    let keeper = start_keeper(disk, dir, &found, &current, options);
    let (page, durable, follower) = pages(board);
    let mut limits = options.limits;
    let quarter = usize::try_from(options.segments.segment_bytes / 4).expect("fits memory");
    // Whatever else a group holds, a reader believes nothing above the format's maximum.
    let half = crate::format::GROUP_BODY_BYTES_MAX as usize / 2;
    limits.group_bytes_max = limits.group_bytes_max.min(quarter).min(half);
    let recorded_at_ns = found.recorded_at_ns;
    let mut writer = LogWriter {
        keeper,
        limits,
        log_uuid,
        log_name: options.name.unwrap_or(log_uuid),
        epoch,
        sessions: 0,
        position: found.position,
        current,
        producers: found.producers,
        window: found.window,
        ages: found.ages,
        dedup_floor: found.dedup_floor,
        peers: BTreeMap::new(),
        group: Group::default(),
        pending: Vec::new(),
        pending_bytes: 0,
        last_count: 0,
        held: false,
        trimmed_below: 0,
        page,
        durable,
        follower,
        follower_bell: None,
    };
    failpoint("log-before-recovered");
    // Everything recovered is durable: the copy of the last group was synced above.
    writer.durable.set(durability::RECORDED_AT_NS, recorded_at_ns);
    writer.durable.set(durability::DURABLE_GROUP, writer.position.group);
    writer.durable.set(durability::SEGMENT_NO, writer.current.segment_no);
    writer.durable.set(durability::ACCEPTED_SEQ, writer.durable_seq());
    follow::publish(writer.durable.word(durability::DURABLE_SEQ), writer.durable_seq());
    failpoint("log-after-recovered");
    writer.page.add(count::TORN_TOTAL, u64::from(found.torn));
    writer.page.add(count::DAMAGED_TOTAL, report.gaps.len() as u64);
    writer.publish_gauges();
    progress.done();
    Ok((writer, report))
}

fn new_segment<D: Disk>(
    disk: &D,
    dir: &Path,
    found: &mut Recovered,
    log_uuid: [u8; 16],
    epoch: u64,
    options: &Options,
) -> io::Result<Current<D::File>> {
    if !found.spares.is_empty() {
        ending::unmake_spares(disk, dir, found)?;
    }
    let next = dir.join("next");
    let bytes = options.segments.segment_bytes;
    let file = match take_spare(disk, dir, &found.spares, bytes)? {
        Some(file) => file,
        None => Keeper::<D>::fill(disk, &next, bytes)?,
    };
    let header = SegmentHeader {
        log_uuid,
        segment_no: found.segment_no,
        salt: random_salt()?,
        created_at_ns: now_ns(),
        epoch,
        before_segment_no: found.end.0,
        before_end_offset: found.end.1,
        before_group: found.position.group,
        before_next_seq: found.position.next_seq,
        before_chain: found.position.chain,
        before_root: found.position.root,
    };
    let mut begin = header.encode();
    if let Some(last) = found.last_group.take() {
        let copy = GroupHeader { salt: header.salt, ..last.header };
        begin.extend_from_slice(&copy.encode());
        begin.extend_from_slice(&last.body);
        begin.resize(begin.len().next_multiple_of(ALIGN as usize), 0);
    }
    if let Some(position) = record_gaps(&mut begin, found, &header) {
        found.position = position;
    }
    let offset = begin.len() as u64;
    file.write_at(0, &begin)?;
    file.sync()?;
    forget_sidecars(disk, dir, found.segment_no)?;
    disk.rename(&next, &dir.join(segment_name(found.segment_no)))?;
    disk.sync_dir(dir)?;
    Ok(Current {
        file,
        segment_no: found.segment_no,
        salt: header.salt,
        offset,
        // Segments were larger when the last group was written: it is full from the beginning.
        bytes: bytes.max(offset),
        first_seq: found.position.next_seq,
        header: None,
        keys: Vec::new(),
    })
}

/// Appends the group of the gap records; the position behind it, if there is anything to record.
///
/// No more than [`GAPS_MAX`] of them: readers derive what is left out.
fn record_gaps(begin: &mut Vec<u8>, found: &Recovered, header: &SegmentHeader) -> Option<Position> {
    if found.gaps.is_empty() {
        return None;
    }
    let mut group = Group::default();
    for gap in found.gaps.iter().take(GAPS_MAX) {
        group.push_entry(&LogEntry::Gap(*gap));
    }
    let record = group.header(&found.position, header.salt, header.epoch, now_ns());
    begin.extend_from_slice(group.close(&record, None));
    Some(Position::after(&record))
}

/// A number that comes again may have a sidecar of its first life: it would hide what is in it now.
fn forget_sidecars<D: Disk>(disk: &D, dir: &Path, from_no: u64) -> io::Result<()> {
    let names = disk.list(dir)?;
    for segment_no in numbers(&names, ".keys").into_iter().filter(|no| *no >= from_no) {
        disk.unlink(&dir.join(sidecar::name(segment_no)))?;
    }
    disk.sync_dir(dir)
}

/// The file that was zero-filled ahead, under the name `next`; other spares go.
fn take_spare<D: Disk>(
    disk: &D,
    dir: &Path,
    spares: &[u64],
    bytes: u64,
) -> io::Result<Option<D::File>> {
    let mut taken = None;
    for segment_no in spares {
        let path = dir.join(segment_name(*segment_no));
        let file = disk.open(&path, false)?;
        if taken.is_none() && file.bytes()? == bytes && file.try_lock()? {
            disk.rename(&path, &dir.join("next"))?;
            taken = Some(file);
        } else {
            disk.unlink(&path)?;
        }
    }
    // The lock was only a question whether anybody reads it: a fresh open does not hold it.
    match taken {
        None => Ok(None),
        Some(file) => {
            drop(file);
            // Only a file that is nobody's spare any more, for good, may get a header.
            disk.sync_dir(dir)?;
            Ok(Some(disk.open(&dir.join("next"), false)?))
        }
    }
}

/// What was read at the end of the log may be in the page cache only. The copy of the last group is
/// what counts; with this, the place that it was copied from is whole too.
fn sync_predecessor<D: Disk>(disk: &D, dir: &Path, found: &Recovered) -> io::Result<()> {
    let (segment_no, _) = found.end;
    if found.kept.iter().any(|kept| kept.segment_no == segment_no) {
        disk.open(&dir.join(segment_name(segment_no)), false)?.sync()?;
    }
    Ok(())
}

/// The segment in which the log ended holds zeros behind that: they are given back.
fn cut_predecessor<D: Disk>(disk: &D, dir: &Path, found: &Recovered) -> io::Result<()> {
    let (segment_no, end_offset) = found.end;
    if found.kept.iter().any(|kept| kept.segment_no == segment_no) {
        let file = disk.open(&dir.join(segment_name(segment_no)), false)?;
        if file.bytes()? > end_offset {
            file.truncate(end_offset)?;
        }
    }
    Ok(())
}

/// Writes down where the log begins, and the segment that it goes on in, now that all that is
/// missing before either is recorded. Always: what was read of the record may be in the page cache
/// only.
fn record_beginning<D: Disk>(
    disk: &D,
    dir: &Path,
    found: &Recovered,
    current: &Current<D::File>,
    log_uuid: [u8; 16],
) -> io::Result<()> {
    let oldest = found.kept.first().map(|kept| (kept.segment_no, kept.first_seq));
    let (segment_no, first_seq) = oldest.unwrap_or((current.segment_no, current.first_seq));
    // Segments that were about to go may still be there: they are no part of the promise.
    let known =
        found.trimmed.filter(|point| point.log_uuid == log_uuid && point.segment_no > segment_no);
    let point = match known {
        Some(point) => point,
        None => trim::point_at(disk, dir, segment_no, first_seq, log_uuid)?,
    };
    let made = Newest { segment_no: current.segment_no, bytes: current.bytes };
    Record::open(disk, dir)?.write_both(point, made)
}

fn start_keeper<D: Disk>(
    disk: Arc<D>,
    dir: &Path,
    found: &Recovered,
    current: &Current<D::File>,
    options: &Options,
) -> Keeper<D> {
    let keeper = Keeper::start(disk, dir.to_path_buf(), options.segments, found.segment_no + 1);
    for kept in &found.kept {
        let bytes = if kept.segment_no == found.end.0 { found.end.1 } else { kept.bytes };
        keeper.add(kept.segment_no, bytes, kept.first_seq, true);
    }
    for (segment_no, next_seq) in &found.sidecars {
        keeper.add_sidecar(*segment_no, *next_seq);
    }
    keeper.add(current.segment_no, current.bytes, current.first_seq, false);
    keeper
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let got = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    assert_eq!(got, N, "so few bytes come at once");
    Ok(bytes)
}

pub fn random_salt() -> io::Result<u64> {
    Ok(u64::from_le_bytes(random()?))
}

/// A random UUID, version 4.
fn random_uuid() -> io::Result<[u8; 16]> {
    let mut bytes: [u8; 16] = random()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(bytes)
}
